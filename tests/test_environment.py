"""One source of versions: the lock, environment.yml and what is installed agree."""

import re
import tomllib
from importlib import metadata
from itertools import chain
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parent.parent
LOCK = dict(
    line.split("==")
    for line in (ROOT / "requirements.lock").read_text().splitlines()
    if line and not line.startswith("#")
)
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


def test_torch_is_pinned_without_a_build():
    assert "+" not in LOCK["torch"]


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
