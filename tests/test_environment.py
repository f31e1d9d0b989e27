"""One source of versions: the lock, environment.yml and what is installed agree."""

import ast
import json
import re
import sys
import tomllib
from importlib import metadata
from itertools import chain
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement

ROOT = Path(__file__).parent.parent
PINS = [
    Requirement(line)
    for line in (ROOT / "requirements.lock").read_text().splitlines()
    if line and not line.startswith("#")
]
HERE = [pin for pin in PINS if pin.marker is None or pin.marker.evaluate()]
LOCK = {pin.name: str(pin.specifier).removeprefix("==") for pin in HERE}
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def plain(name):
    return re.sub(r"[-_.]+", "-", name).lower()


LOCKED = {plain(name) for name in LOCK}
DECLARED = PROJECT["optional-dependencies"] | {"library": PROJECT["dependencies"]}
BY_EXTRA = {e: {plain(Requirement(d).name) for d in ds} for e, ds in DECLARED.items()}


@pytest.mark.parametrize("name", LOCK)
def test_installed_version_is_the_locked_one(name):
    assert metadata.version(name).split("+")[0] == LOCK[name]


def test_the_lock_holds_every_declared_dependency():
    extras = {"artifact", "cluster", "dev", "gpu", "mutants", "release", "tables"}
    assert set(BY_EXTRA) == extras | {"library"}
    locked = [needed for extra, needed in BY_EXTRA.items() if extra != "mutants"]
    assert set().union(*locked) <= LOCKED
    assert BY_EXTRA["mutants"].isdisjoint(LOCKED)  # beside the lock, for who asks for it
    assert {"jupyterlab", "papermill", "torch", "pot", "matplotlib", "nbval"} <= LOCKED


def test_the_lock_holds_all_that_its_packages_ask_for():
    for name in LOCK:
        asked = map(Requirement, metadata.requires(name) or ())
        asked = [r for r in asked if r.marker is None or r.marker.evaluate({"extra": ""})]
        missing = {plain(r.name) for r in asked} - LOCKED
        # torch's build for CUDA brings its own, each of one exact version
        missing = {m for m in missing if not (name == "torch" and m.startswith(("nvidia", "cuda")))}
        assert not missing, f"{name} asks for {missing}"


def sources(*patterns):
    """The Python in files of the repository; a notebook's code cells count as one."""
    for path in chain.from_iterable(ROOT.glob(pattern) for pattern in patterns):
        if path.suffix == ".py":
            yield path.read_text()
        else:
            cells = json.loads(path.read_text())["cells"]
            yield "\n".join("".join(c["source"]) for c in cells if c["cell_type"] == "code")


def imported(*patterns):
    """The distributions that sources import, wherever in them."""
    modules = set()
    for tree in map(ast.parse, sources(*patterns)):
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                modules |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                modules.add(node.module)
    tops = {module.split(".")[0] for module in modules} - sys.stdlib_module_names - {"privgan"}
    ours = {path.stem for path in ROOT.glob("tests/*/*.py")} | {"benchmarks", "tests"}
    homes = metadata.packages_distributions()
    return {plain(homes[top][0]) for top in tops - ours}


def test_the_library_imports_what_it_installs_and_no_more():
    folders = [f.name for f in (ROOT / "privgan").iterdir() if f.is_dir() and f.name != "artifact"]
    found = imported("privgan/*.py", *(f"privgan/{name}/*.py" for name in folders))
    optional = BY_EXTRA["release"] | BY_EXTRA["gpu"] | BY_EXTRA["tables"]
    assert found - optional == BY_EXTRA["library"]


def test_the_extras_bring_what_is_imported_with_them():
    there = BY_EXTRA["library"] | BY_EXTRA["artifact"] | BY_EXTRA["cluster"]
    assert imported("privgan/artifact/*.py", "notebooks/*.ipynb") <= there
    assert imported("tests/**/*.py", "notebooks/*.py") <= set().union(*BY_EXTRA.values())


@pytest.mark.parametrize("folder", ["benchmarks", "site"])
def test_environments_add_to_the_lock_and_repeat_none_of_it(folder):
    lines = (ROOT / folder / "requirements.txt").read_text().splitlines()
    assert "-r ../requirements.lock" in lines
    added = [Requirement(line) for line in lines if not line.startswith(("#", "-r"))]
    assert all([s.operator for s in pin.specifier] == ["=="] for pin in added)
    assert not {plain(pin.name) for pin in added} & LOCKED


def test_every_pin_is_exact():
    for pin in PINS:
        assert [s.operator for s in pin.specifier] == ["=="], pin


def test_torch_is_pinned_without_a_build():
    assert "+" not in LOCK["torch"]


def test_triton_is_the_one_that_a_cuda_build_of_torch_asks_for():
    asked = [Requirement(line) for line in metadata.requires("torch")]
    pins = {pin.name: pin for pin in PINS}
    for triton in (r for r in asked if r.name == "triton"):  # none in a build for CPUs
        assert triton.specifier == pins["triton"].specifier


@pytest.mark.parametrize(
    ("file", "up"), [("environment.yml", ""), ("binder/environment.yml", "../")]
)
def test_environment_yml_reads_the_lock(file, up):
    env = yaml.safe_load((ROOT / file).read_text())
    assert env["name"] == "privgan"
    assert "python=3.11" in env["dependencies"]
    (pip,) = [d["pip"] for d in env["dependencies"] if isinstance(d, dict)]
    assert pip == [f"-r {up}requirements.lock", f"-e {up or '.'}".rstrip("/")]
    assert (ROOT / file).parent.joinpath(f"{up}requirements.lock").exists()


@pytest.mark.parametrize("file", ["Dockerfile", ".ci/run", ".github/workflows/ci.yml"])
def test_what_a_bare_machine_makes_can_be_made(file):
    text = (ROOT / file).read_text()
    made = set(re.findall(r"^(?:RUN | *- run: )?make (?:-j2 )?(\w+)", text, re.MULTILINE))
    made |= set(re.findall(r'"make", "(\w+)"', text))
    there = re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert made
    assert made <= set(there)


def test_version_is_said_once_the_same():
    import privgan

    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert "version" in PROJECT["dynamic"]  # read from privgan/_version.py
    assert privgan.__version__ == citation["version"] == metadata.version("privgan")
