"""Arrows go one way: a module imports only from layers below its own."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "privgan"
LAYERS = [
    {"checks", "files"},
    {
        "claims",
        "cuda_graph",
        "data",
        "generators",
        "kernels",
        "plotting",
        "semidual",
        "triton_kernels",
    },
    {"dense", "pointwise"},
    {"costs"},
    {"mechanisms", "streaming"},
    {"triton_streaming"},
    {"sinkhorn"},
    {"losses", "metrics"},
    {"training", "execute"},
    {"__init__"},
]
LEVEL = {name: level for level, names in enumerate(LAYERS) for name in names}
MODULES = sorted(path.stem for path in PACKAGE.glob("*.py"))


def imports(name):
    for node in ast.walk(ast.parse((PACKAGE / f"{name}.py").read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "privgan":
            parts = node.module.split(".")
            yield from [parts[1]] if len(parts) > 1 else [alias.name for alias in node.names]
        elif isinstance(node, ast.Import):
            yield from (a.name.split(".")[1] for a in node.names if a.name.startswith("privgan."))


@pytest.mark.parametrize("name", MODULES)
def test_imports_point_downwards(name):
    assert name in LEVEL, f"give {name} a place in LAYERS"
    for other in imports(name):
        assert LEVEL[other] < LEVEL[name], f"{name} imports {other}"


@pytest.mark.parametrize("name", ["sinkhorn", "losses", "training", "generators", "costs"])
def test_only_mechanisms_know_the_noise(name):
    tree = ast.parse((PACKAGE / f"{name}.py").read_text())
    used = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    assert not used & {"Gaussian", "Laplace"}


def test_modules_stay_small():
    for path in PACKAGE.glob("*.py"):
        assert len(path.read_text().splitlines()) <= 300, path.name


def test_every_public_name_is_there():
    import privgan

    assert sorted(privgan.__all__) == sorted(set(privgan.__all__))
    assert all(hasattr(privgan, name) for name in privgan.__all__)
