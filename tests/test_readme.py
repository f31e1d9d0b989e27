"""What the README claims is what was measured, and its code runs."""

import re
from pathlib import Path

from privgan.artifact.claims import claims_table

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def block(word):
    """The Python example that holds ``word``."""
    blocks = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    (found,) = (text for text in blocks if word in text)
    return found


def test_the_claims_table_is_the_committed_results():
    names = sorted(p.stem for p in (ROOT / "figures").glob("*.json") if "." not in p.stem)
    assert claims_table(ROOT / "figures", names, markdown=True) in README


def test_links_and_pictures_exist():
    for target in re.findall(r"\]\((?!http)([^)#]+)\)", README):
        assert (ROOT / target).exists(), target


def test_the_ten_lines_run(tmp_path, monkeypatch):
    lines = block("reports.npy")
    assert len(lines.strip().splitlines()) <= 10
    monkeypatch.chdir(tmp_path)
    import numpy as np

    import privgan as pg
    from privgan.artifact import data

    mech = pg.Laplace(scale=0.2)
    np.save("reports.npy", mech.privatize(data.moons(1500, seed=0), seed=1).numpy())
    exec(lines.replace("checkpoint=", "steps=3, checkpoint="), {})
    assert pg.load("model.pt").sample(3).shape == (3, 2)
    assert np.load("generated.npy").shape[1] == 2


def test_the_kept_digits_are_drawn():
    import privgan as pg

    exec(block("mnist_gaussian_1"), names := {"pg": pg})
    assert names["records"].shape == (100, 794)
    assert names["sevens"].shape == (20, 784)


def test_the_mixed_table_runs(capsys):
    import privgan as pg

    exec(block("pg.Product("), names := {"pg": pg})
    assert names["generator"].sample(3, seed=0).shape == (3, names["mech"].dim)
    assert "whole record    epsilon 3" in capsys.readouterr().out


def test_the_table_runs():
    import pandas as pd

    from privgan.tables import Category, Integer, Table

    table = Table(Integer("age", 17, 90), Category("work", ["office", "farm"], missing=True))
    people = pd.DataFrame({"age": [20, 41, 77] * 40, "work": ["office", "farm", None] * 40})
    everybody = table.release(people, epsilon=4.0)
    lines = block("from privgan.tables").replace("reports_of_everybody", "everybody, steps=3")
    exec(lines, names := {"everybody": everybody})
    assert names["frame"].shape == (10_000, 2)
