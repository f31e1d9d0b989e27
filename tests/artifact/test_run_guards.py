"""What the runner sees to around a notebook, whose cells are played by a few lines here."""

import json
import os
import subprocess
import time

import pytest
import yaml
from nbformat import write
from nbformat.v4 import new_code_cell, new_notebook

from privgan.artifact import data
from privgan.artifact import run as runner
from privgan.artifact.publish import seal, sealed


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A project of one notebook, and what its runs were given: parameters and stand-in."""
    for name, folder in (("ROOT", ""), ("NOTEBOOKS", "notebooks"), ("BUILD", "build")):
        monkeypatch.setattr(runner, name, tmp_path / folder)
    monkeypatch.setattr(runner, "SCALES", tmp_path / "notebooks" / "scales.yaml")
    monkeypatch.setenv("PRIVGAN_STAND_IN", "")  # put back afterwards
    (tmp_path / "notebooks").mkdir()
    plan(tmp_path, {"paper": {"steps": 20}})
    template(tmp_path, "pass")
    given = []

    def execute(path, output, parameters):
        given.append(parameters | {"stand-in": os.environ["PRIVGAN_STAND_IN"]})
        stage = runner.NOTEBOOKS / parameters["out_dir"]
        (stage / f"{parameters['name']}.png").write_text("picture")
        numbers = {"claims": [], "scale": "one's own"}
        (stage / f"{parameters['name']}.json").write_text(json.dumps(numbers))
        output.write_text("notebook")

    monkeypatch.setattr(runner, "execute", execute)
    return tmp_path, given


def plan(folder, content):
    (folder / "notebooks" / "scales.yaml").write_text(yaml.safe_dump({"toy": content}))


def template(folder, source):
    names = "name = out_dir = checkpoint_dir = ''\nsteps = 10\ndataset = 'mnist'"
    cells = [new_code_cell(names, metadata={"tags": ["parameters"]}), new_code_cell(source)]
    write(new_notebook(cells=cells), folder / "notebooks" / "toy.ipynb")


def run(folder, scale="paper", into="figures", **overrides):
    runner.run("toy", scale, folder / into, overrides)


def test_ones_own_parameters_come_before_the_papers(project):
    folder, given = project
    run(folder, steps=5)
    run(folder)
    run(folder, "smoke")
    assert [one.get("steps") for one in given] == [5, 20, None]


def test_a_success_clears_away_what_failed_and_what_was_killed(project):
    folder, _ = project
    stage = folder / "figures" / ".toy.stage"
    stage.mkdir(parents=True)
    (stage / "toy_half.png").write_text("killed")
    (folder / "figures" / "toy.failed.ipynb").write_text("failed")
    run(folder)
    names = {path.name for path in (folder / "figures").iterdir()}
    assert names == {"toy.ipynb", "toy.json", "toy.png"}


def test_claims_are_told_of_stand_in_data_and_only_of_them(project, monkeypatch):
    folder, given = project
    plan(folder, {"data": "mnist", "stand_in": {"dataset": "digits"}})

    def unavailable(split):
        raise data.DataUnavailable("no network")

    monkeypatch.setattr(data, "mnist", unavailable)
    run(folder)
    monkeypatch.setattr(data, "mnist", lambda split: None)
    run(folder)
    assert [one["stand-in"] for one in given] == ["scikit-learn digits", ""]
    assert [one.get("dataset") for one in given] == ["digits", None]
    said = json.loads((folder / "figures" / "toy.digits.json").read_text())
    assert said["stand_in"] == "scikit-learn digits"


def test_whatever_a_result_depends_on_names_its_checkpoints(project):
    folder, given = project
    plan(folder, {})
    run(folder)
    run(folder, "smoke")
    run(folder, steps=11)
    run(folder, into="elsewhere")
    template(folder, "another cell")
    run(folder)
    names = [one["checkpoint_dir"] for one in given]
    assert len(set(names)) == len(names) == 5
    run(folder)
    assert given[-1]["checkpoint_dir"] == names[-1]


def test_each_scale_is_stamped_in_its_own_place_only(project):
    folder, _ = project
    build = folder / "build"
    run(folder, "smoke")
    run(folder, "paper", "build/smoke")
    assert list(build.glob("*.stamp")) == []
    run(folder, "smoke", "build/smoke")
    run(folder)
    stamps = sorted(path.name for path in build.glob("*.stamp"))
    assert stamps == ["paper-toy.stamp", "smoke-toy.stamp"]


def test_what_the_runner_says_of_a_run_stands(project):
    folder, _ = project
    run(folder)
    said = json.loads((folder / "figures" / "toy.json").read_text())
    assert said["scale"] == "paper"
    assert said["privgan"] == runner.__version__
    assert list(said["pictures"]) == ["toy.png"]


def test_numbers_that_cannot_be_read_are_not_sealed(tmp_path):
    stage = tmp_path / "stage"
    stage.mkdir()
    (stage / "toy.json").write_text("{")
    with pytest.raises(ValueError, match=r"toy\.json is not JSON"):
        seal(stage, tmp_path, "toy")
    assert not sealed(tmp_path, "toy").exists()


def test_a_commit_says_whether_sources_have_changed_since(project, monkeypatch):
    folder, _ = project
    for variable in [name for name in os.environ if name.startswith("GIT_")]:
        monkeypatch.delenv(variable)

    def git(*words):
        own = ["git", "-c", "user.name=n", "-c", "user.email=e@e"]
        subprocess.run([*own, *words], cwd=folder, check=True, capture_output=True)

    assert runner._commit() == ""
    git("init")
    git("add", "notebooks")
    git("commit", "-m", "first", "--no-gpg-sign")
    git("tag", "v1")
    clean = runner._commit()
    assert clean.isalnum()
    template(folder, "changed")
    assert runner._commit() == clean + "+"


def test_a_cell_that_hangs_is_ended(tmp_path, monkeypatch):
    monkeypatch.setattr(runner, "CELL_TIMEOUT", 1)
    (tmp_path / "notebooks").mkdir()
    template(tmp_path, "import time\ntime.sleep(60)")
    started = time.monotonic()
    with pytest.raises(Exception, match=r"(?i)timeout|timed out"):
        runner.execute(tmp_path / "notebooks" / "toy.ipynb", tmp_path / "out.ipynb", {})
    assert time.monotonic() - started < 45
