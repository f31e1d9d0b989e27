"""What the README claims is what was measured, and its code runs."""

import re
from pathlib import Path

from privgan.artifact.claims import claims_table

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def test_the_claims_table_is_the_committed_results():
    names = sorted(p.stem for p in (ROOT / "figures").glob("*.json") if "." not in p.stem)
    assert claims_table(ROOT / "figures", names, markdown=True) in README


def test_links_and_pictures_exist():
    for target in re.findall(r"\]\((?!http)([^)#]+)\)", README):
        assert (ROOT / target).exists(), target


def test_the_ten_lines_run(tmp_path, monkeypatch):
    block = re.findall(r"```python\n(.*?)```", README, re.DOTALL)[0]
    assert len(block.strip().splitlines()) <= 10
    monkeypatch.chdir(tmp_path)
    import numpy as np

    import privgan as pg
    from privgan.artifact import data

    mech = pg.Laplace(scale=0.2)
    np.save("reports.npy", mech.privatize(data.moons(1500, seed=0), seed=1).numpy())
    exec(block.replace("checkpoint=", "steps=3, checkpoint="), {})
    assert pg.load("model.pt").sample(3).shape == (3, 2)
    assert np.load("generated.npy").shape[1] == 2


def test_the_kept_digits_are_drawn():
    block = re.findall(r"```python\n(.*?)```", README, re.DOTALL)[1]
    import privgan as pg

    exec(block, names := {"pg": pg})
    assert names["records"].shape == (100, 794)
    assert names["sevens"].shape == (20, 784)


def test_the_mixed_table_runs(capsys):
    block = re.findall(r"```python\n(.*?)```", README, re.DOTALL)[2]
    import privgan as pg

    exec(block, names := {"pg": pg})
    assert names["generator"].sample(3, seed=0).shape == (3, names["mech"].dim)
    assert "whole record    epsilon 3" in capsys.readouterr().out
