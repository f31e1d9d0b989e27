"""What people install: it builds in silence, holds all it needs, and needs no more than it says."""

import io
import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from email.parser import Parser
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parent.parent
SOURCES = ("pyproject.toml", "setup.py", "MANIFEST.in", "README.md", "LICENSE", "CITATION.cff")


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The folder of a wheel and an sdist, and what was said while they were made."""
    project = tmp_path_factory.mktemp("project")
    hidden = shutil.ignore_patterns("__pycache__", "build", ".*")
    for name in ("privgan", "tests"):
        shutil.copytree(ROOT / name, project / name, ignore=hidden)
    for name in SOURCES:
        shutil.copy(ROOT / name, project)
    command = [sys.executable, "-m", "build", "--no-isolation"]
    quiet = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    ran = subprocess.run(command, cwd=project, env=quiet, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return project / "dist", ran.stdout + ran.stderr


@pytest.fixture(scope="module")
def wheel(built):
    (path,) = built[0].glob("*.whl")
    return path


@pytest.fixture(scope="module")
def about(wheel):
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (n for n in archive.namelist() if n.endswith(".dist-info/METADATA"))
        return Parser().parse(io.StringIO(archive.read(name).decode()))


def test_it_builds_without_a_warning(built):
    assert not re.search(r"warn|deprecat|!!", built[1], re.IGNORECASE), built[1]


def test_the_wheel_holds_every_file_of_the_package(wheel):
    with zipfile.ZipFile(wheel) as archive:
        held = {name for name in archive.namelist() if name.startswith("privgan/")}
    files = (p for p in (ROOT / "privgan").rglob("*") if p.is_file())
    there = {p.relative_to(ROOT).as_posix() for p in files if "__pycache__" not in p.parts}
    assert held == {name for name in there if not Path(name).name.startswith(".")}
    assert "privgan/py.typed" in held
    assert any(name.endswith(".safetensors") for name in held)


def test_the_sdist_holds_the_library_and_no_half_of_the_tests(built):
    (path,) = built[0].glob("*.tar.gz")
    with tarfile.open(path) as archive:
        names = {name.split("/", 1)[1] for name in archive.getnames() if "/" in name}
    assert set(SOURCES) <= names
    assert not [name for name in names if name.startswith("tests")]


def test_an_index_page_shows_no_broken_picture_or_link(about):
    text = about.get_payload()
    assert text.startswith("# privgan")
    assert "## Licence" in text
    assert re.findall(r"\]\((?!http)[^)]*\)", text) == []
    assert "![" not in text


def test_it_says_whose_it_is_and_where_the_paper_is(about):
    import privgan

    assert about["Version"] == privgan.__version__
    assert about["License-Expression"] == "MIT"
    assert about["Author"] == "The privgan authors"
    assert "https://arxiv.org/abs/2306.09547" in about["Project-URL"]
    assert {"artifact", "cluster", "dev", "gpu", "mutants", "release", "tables"} == set(
        about.get_all("Provides-Extra")
    )
    assert {"Typing :: Typed"} <= set(about.get_all("Classifier"))


def needed(requirements):
    """The distributions that ``requirements`` bring, and what those bring, without extras."""
    found, open_ = {}, [Requirement(line) for line in requirements]
    while open_:
        one = open_.pop()
        if one.name in found or (one.marker and not one.marker.evaluate({"extra": ""})):
            continue
        found[one.name] = metadata.distribution(one.name)
        open_ += [Requirement(line) for line in found[one.name].requires or ()]
    return found.values()


LINES = """
import sys
import numpy as np
import privgan as pg
assert sys.prefix in pg.__file__, pg.__file__
points = np.random.default_rng(0).normal(size=(1500, 2)).astype(np.float32)
np.save("reports.npy", pg.Laplace(scale=0.2).privatize(points, seed=1))
"""


def test_a_wheel_in_an_empty_environment_runs_the_readmes_ten_lines(wheel, about, tmp_path):
    """Into it go the wheel and, linked, the packages that it names as needed: nothing else."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "empty"], check=True)
    python = tmp_path / "empty" / "bin" / "python"
    (place,) = (tmp_path / "empty" / "lib").glob("python*/site-packages")
    for distribution in needed(about.get_all("Requires-Dist")):
        tops = {file.parts[0] for file in distribution.files or ()} - {"..", "__pycache__"}
        for top in tops:
            if not (place / top).exists():
                (place / top).symlink_to(distribution.locate_file(top))
    install = [sys.executable, "-m", "pip", "--python", python, "install", "--no-index", wheel]
    subprocess.run(install, check=True, capture_output=True)

    readme = (ROOT / "README.md").read_text()
    blocks = re.findall(r"```python\n(.*?)```", readme, re.DOTALL)
    (block,) = (text for text in blocks if "checkpoint=" in text)
    script = LINES + block.replace("checkpoint=", "steps=3, checkpoint=")
    clean = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
    ran = subprocess.run(
        [python, "-c", script], cwd=tmp_path, env=clean, capture_output=True, text=True
    )
    assert ran.returncode == 0, ran.stderr
    assert (tmp_path / "generated.npy").exists()
