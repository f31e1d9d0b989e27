"""Guards for the notebooks: nbval passes, comparing nothing, on a stripped one."""

import ast
import json
import re
import tempfile
from pathlib import Path

import nbformat
import pytest
import yaml

import privgan
from privgan.artifact.parameters import check_parameters, template_parameters

ROOT = Path(__file__).parents[2]
NOTEBOOKS = sorted(
    path for path in (ROOT / "notebooks").glob("*.ipynb") if ".part." not in path.name
)
EXECUTED = sorted(
    path for path in (ROOT / "figures").glob("[0-9]*.ipynb") if path.suffixes == [".ipynb"]
)
SCALES = yaml.safe_load((ROOT / "notebooks" / "scales.yaml").read_text())
TESTS = {
    name
    for path in (ROOT / "tests").rglob("test_*.py")
    for name in re.findall(r"^ *def (test_\w+)", path.read_text(), re.MULTILINE)
}
each = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)


def code_cells(path):
    return [c for c in nbformat.read(path, as_version=4).cells if c.cell_type == "code"]


@each
def test_template_was_executed_from_top_to_bottom_without_error(path):
    cells = code_cells(path)
    assert [c.execution_count for c in cells] == list(range(1, len(cells) + 1))
    assert not [o for c in cells for o in c.outputs if o.output_type == "error"]
    assert not [o for c in cells for o in c.outputs if o.get("name") == "stderr"]


@each
def test_template_has_parameters_checked_outputs_and_the_right_kernel(path):
    tags = [c.metadata.get("tags", []) for c in code_cells(path)]
    assert sum("parameters" in t for t in tags) == 1
    checked = [c for c in code_cells(path) if "nbval-check-output" in c.metadata.get("tags", [])]
    assert checked
    assert all(c.outputs for c in checked)
    assert nbformat.read(path, as_version=4).metadata.kernelspec.name == "python3"


@each
def test_cells_are_short_and_define_nothing(path):
    sources = [c.source for c in code_cells(path)]
    for source in sources:
        assert not source.rstrip().endswith(";")
        assert not any(
            isinstance(node, ast.FunctionDef | ast.ClassDef) for node in ast.walk(ast.parse(source))
        )
    lengths = sorted(len(s.splitlines()) for s in sources)
    assert lengths[len(lengths) // 2] <= 7


@each
def test_scales_fit_the_template(path):
    plan = SCALES[path.stem]
    for part in ("paper", "stand_in"):
        check_parameters(plan.get(part, {}), template_parameters(path), path.stem)


@pytest.mark.parametrize("path", [*NOTEBOOKS, *EXECUTED], ids=lambda p: f"{p.parent.name}-{p.stem}")
def test_no_paths_of_a_machine_and_no_megabytes(path):
    text = path.read_text()
    assert not re.findall(r"/(?:home|Users)/\w+/", text)
    assert not [p for p in (ROOT, Path.home(), tempfile.gettempdir()) if f"{p}/" in text]
    assert len(text) < 3_000_000


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_paper_scale_results_are_committed_and_hold(path):
    results = ROOT / "figures" / path.stem
    content = json.loads(results.with_suffix(".json").read_text())
    assert content["scale"] == "paper"
    assert content["stand_in"] is None
    assert {c["verdict"] for c in content["claims"] if not c.get("goal")} <= {"PASS"}
    for suffix in (".ipynb", ".png", ".pdf"):
        assert results.with_suffix(suffix).exists()


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_executed_notebook_is_the_template_with_parameters(path):
    def sources(p):
        cells = nbformat.read(p, as_version=4).cells
        return [c.source for c in cells if "injected-parameters" not in c.metadata.get("tags", [])]

    made_by = json.loads((ROOT / "figures" / path.stem).with_suffix(".json").read_text())
    if made_by["privgan"] == privgan.__version__:  # an older one stays until it is run again
        assert sources(ROOT / "figures" / path.name) == sources(path)
    else:
        assert re.fullmatch("[0-9a-f]{7,}", made_by["commit"])


@each
def test_displayed_equations_name_a_test_that_exists_beside_them(path):
    for cell in nbformat.read(path, as_version=4).cells:
        named = re.findall(r"`(test_\w+)`", cell.source)
        if cell.cell_type == "markdown" and "$$" in cell.source:
            assert named, cell.source
        if cell.cell_type == "markdown":
            assert set(named) <= TESTS, set(named) - TESTS
            for file in re.findall(r"\((\.\./tests/[^)]+)\)", cell.source):
                assert (path.parent / file).exists(), file


@pytest.mark.parametrize("path", [*NOTEBOOKS, *EXECUTED], ids=lambda p: f"{p.parent.name}-{p.stem}")
def test_a_figure_is_shown_once_it_is_whole(path):
    for cell in code_cells(path):
        shown = [o for o in cell.outputs if "image/png" in o.get("data", {})]
        assert len(shown) == cell.source.count("plotting.save("), cell.source
