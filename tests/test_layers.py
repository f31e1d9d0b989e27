"""Arrows go one way: a folder imports only from folders below its own."""

import ast
from pathlib import Path

import pytest

import privgan

PACKAGE = Path(__file__).parent.parent / "privgan"
# From the ground up. Nothing imports the artifact, not even `import privgan`.
FOLDERS = [
    {"_version", "checks", "files", "surroundings"},
    {"plain", "streams", "values"},
    {"sinkhorn"},
    {"mechanisms"},
    {"generators"},
    {"reports"},
    {"training"},
    {"audit"},
    {"tables"},
    {"artifact", "__init__", "__main__"},
]
LEVEL = {name: level for level, names in enumerate(FOLDERS) for name in names}
FILES = sorted(PACKAGE.rglob("*.py"))
each = pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))


def place(path):
    """The folder that a file is in, or its own name where it is in none."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(path):
    """Modules of the package that a file imports, as tuples of names without ``privgan``."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "privgan":
            inside = tuple(node.module.split(".")[1:])
            yield from [inside] if inside else [(alias.name,) for alias in node.names]
        elif isinstance(node, ast.Import):
            parts = (tuple(alias.name.split(".")) for alias in node.names)
            yield from (inside for package, *inside in parts if package == "privgan" and inside)


@each
def test_imports_point_downwards(path):
    own = place(path)
    assert own in LEVEL, f"give {own} a place in FOLDERS"
    for other in imports(path):
        if other[0] != own:
            assert LEVEL[other[0]] < LEVEL[own], f"{path.name} imports {'.'.join(other)}"
            assert other[0] != "artifact", f"{path.name} imports the artifact"


@each
def test_private_files_are_their_folders_own_business(path):
    for folder, *inside in imports(path):
        hidden = [name for name in inside if name.startswith("_")]
        assert not hidden or folder == place(path), f"{path.name} imports {folder}.{hidden[0]}"


def test_no_file_of_a_folder_imports_in_a_circle():
    """At import time; what a function imports when it is called waits until all are there."""
    arrows = {}
    for path in FILES:
        tree = ast.parse(path.read_text())
        top = {node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)}
        name = path.relative_to(PACKAGE).with_suffix("").parts
        found = (n.module.split(".") for n in top if isinstance(n, ast.ImportFrom) and n.module)
        arrows[name] = {tuple(m[1:]) for m in found if m[0] == "privgan"} & set(
            p.relative_to(PACKAGE).with_suffix("").parts for p in FILES
        )

    def visit(name, above):
        assert name not in above, " -> ".join(".".join(n) for n in (*above, name))
        for other in arrows.get(name, ()):
            visit(other, (*above, name))

    for name in arrows:
        visit(name, ())


CHANNELS = {"Gaussian", "Laplace", "EuclideanLaplace", "RandomizedResponse", "UnaryEncoding"}
CHANNELS |= {"Piecewise", "SquareWave", "Product", "LinearMap"}


@pytest.mark.parametrize("folder", ["sinkhorn", "generators", "training"])
def test_only_mechanisms_know_the_noise(folder):
    for path in (PACKAGE / folder).glob("*.py"):
        used = {n.id for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.Name)}
        assert not used & CHANNELS, path.name


def test_files_stay_small():
    for path in (*FILES, *Path(__file__).parent.rglob("*.py")):
        assert len(path.read_text().splitlines()) <= 350, path.name


@pytest.mark.parametrize("folder", ["", *sorted(p.name for p in PACKAGE.iterdir() if p.is_dir())])
def test_every_public_name_is_there_and_hides_no_module(folder):
    if folder in ("__pycache__", "artifact"):
        return
    face = getattr(privgan, folder) if folder else privgan
    assert len(face.__all__) == len(set(face.__all__))
    assert all(hasattr(face, name) for name in face.__all__)
    modules = {path.stem for path in (PACKAGE / folder).iterdir()}
    hidden = [n for n in face.__all__ if n in modules and callable(getattr(face, n))]
    assert not hidden, f"{hidden[0]} hides the module of its name"
