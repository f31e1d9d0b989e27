import pytest


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A little project of one notebook, with the runner's folders pointing into it."""
    from projects import WORK, plan, template  # tests that make no notebook do without Jupyter

    from privgan.artifact import run as runner

    for name, folder in (("ROOT", ""), ("NOTEBOOKS", "notebooks"), ("BUILD", "build")):
        monkeypatch.setattr(runner, name, tmp_path / folder)
    (tmp_path / "notebooks").mkdir()
    monkeypatch.setattr(runner, "SCALES", tmp_path / "notebooks" / "scales.yaml")
    plan(tmp_path, {"paper": {"steps": 20}})
    template(tmp_path, WORK)
    return tmp_path
