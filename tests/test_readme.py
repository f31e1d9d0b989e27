"""What README and docs say is what was measured, and their code runs."""

import re
from pathlib import Path

import pytest

from privgan.artifact.claims import claims_table
from privgan.artifact.headlines import PAGES as WRITTEN
from privgan.artifact.publish import executed

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
PAGES = [
    ROOT / "README.md",
    ROOT / "ARTIFACT-APPENDIX.md",
    ROOT / "CONTRIBUTING.md",
    *sorted((ROOT / "docs").glob("*.md")),
]


def block(word, page="README.md"):
    """The Python example that holds ``word``."""
    text = (ROOT / page).read_text()
    blocks = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    (found,) = (text for text in blocks if word in text)
    return found


def test_claims_and_headlines_are_the_committed_results():
    figures = ROOT / "figures"
    table = claims_table(figures, [*executed(figures)], markdown=True)
    assert table in (figures / "CLAIMS.md").read_text()
    for page, table in WRITTEN.items():
        assert table(figures) in (ROOT / page).read_text()


def test_readme_is_short():
    assert len(README.splitlines()) <= 150


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.stem)
def test_links_and_pictures_exist(page):
    targets = re.findall(r"\]\((?!http)([^)#]+)(?:#[^)]*)?\)", page.read_text())
    for target in targets:
        assert (page.parent / target).exists(), target


@pytest.mark.parametrize("page", ["README.md", "notebooks/README.md"])
def test_a_reader_is_led_to_every_notebook(page):
    text = (ROOT / page).read_text()
    for path in (ROOT / "notebooks").glob("[0-9]*.ipynb"):
        assert ".part." in path.name or f"{path.name})" in text, path.name


def test_the_identity_in_code_runs(capsys):
    exec(block("loss.cost"), {})
    assert "0.18" in capsys.readouterr().out


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

    exec(block("pg.Product(", "docs/channels.md"), names := {"pg": pg})
    assert names["generator"].sample(3, seed=0).shape == (3, names["mech"].dim)
    assert "whole record    epsilon 3" in capsys.readouterr().out


def test_the_table_runs():
    import pandas as pd

    people = pd.DataFrame({"age": [20, 41, 77] * 40, "work": ["office", "farm", None] * 40})
    lines = block("from privgan.tables", "docs/tables.md")
    exec(
        lines.replace("train(table, reports)", "train(table, reports, steps=3)"),
        names := {"people": people},
    )
    assert len(names["reports"]) == 120
    assert names["frame"].shape == (10_000, 2)


def test_every_page_of_docs_is_led_to():
    for index, link in (("docs/index.md", "{}.md)"), ("site/index.md", "pages/{}\n")):
        text = (ROOT / index).read_text()
        for page in (ROOT / "docs").glob("*.md"):
            assert page.stem == "index" or link.format(page.stem) in text, (index, page.stem)
