"""One source of versions: the lock, environment.yml and what is installed agree."""

import re
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
LOCKED = {re.sub(r"[-_.]+", "-", name).lower() for name in LOCK}


@pytest.mark.parametrize("name", LOCK)
def test_installed_version_is_the_locked_one(name):
    assert metadata.version(name).split("+")[0] == LOCK[name]


def test_the_lock_holds_every_declared_dependency():
    extras = PROJECT["optional-dependencies"]
    declared = [*PROJECT["dependencies"], *chain.from_iterable(extras.values())]
    names = {re.split(r"[^A-Za-z0-9_.-]", d)[0].lower() for d in declared}
    assert names <= LOCKED
    assert {"jupyterlab", "papermill", "torch", "pot", "matplotlib", "nbval"} <= LOCKED


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


def test_environment_yml_reads_the_lock():
    env = yaml.safe_load((ROOT / "environment.yml").read_text())
    assert env["name"] == "privgan"
    assert "python=3.11" in env["dependencies"]
    (pip,) = [d["pip"] for d in env["dependencies"] if isinstance(d, dict)]
    assert pip == ["-r requirements.lock", "-e ."]


def test_version_is_said_once_the_same():
    import privgan

    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert privgan.__version__ == PROJECT["version"] == citation["version"]
