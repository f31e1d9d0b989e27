"""Arrows go one way: a module imports only from layers below its own."""

import ast
from pathlib import Path

import pytest

import privgan

PACKAGE = Path(__file__).parent.parent / "privgan"
LAYERS = [
    {"checks", "files", "plain"},
    {
        "claims",
        "classifier",
        "cuda_graph",
        "frequencies",
        "data",
        "generators",
        "kernels",
        "parallel",
        "plotting",
        "semidual",
        "storage",
        "triton_kernels",
    },
    {"bounds", "privacy"},
    {"checkpoint", "decoders", "dense", "pointwise"},
    {"costs"},
    {"mechanisms.base", "streaming"},
    {f"mechanisms.{name}" for name in ("additive", "categorical", "interval", "linear", "product")},
    {"mechanisms", "triton_streaming"},
    {"attack", "extremes", "goodness"},
    {"reports", "sinkhorn"},
    {"deconvolution", "identifiability", "losses", "metrics", "pretrained", "release"},
    {"training", "execute", "repetitions"},
    {"audit", "scale", "sweep"},
    {"__init__"},
]
LEVEL = {name: level for level, names in enumerate(LAYERS) for name in names}


def name_of(path):
    """``costs`` for costs.py, ``mechanisms.base`` in a folder, ``mechanisms`` its __init__."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if len(parts) > 1 and parts[-1] == "__init__" else parts)


FILES = {name_of(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def imports(name):
    for node in ast.walk(ast.parse(FILES[name].read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "privgan":
            module = node.module.partition(".")[2]
            yield from [module] if module else [alias.name for alias in node.names]
        elif isinstance(node, ast.Import):
            modules = (a.name.partition(".") for a in node.names)
            yield from (rest for package, _, rest in modules if package == "privgan" and rest)


@pytest.mark.parametrize("name", FILES)
def test_imports_point_downwards(name):
    assert name in LEVEL, f"give {name} a place in LAYERS"
    for other in imports(name):
        assert LEVEL[other] < LEVEL[name], f"{name} imports {other}"


CHANNELS = set(privgan.mechanisms.__all__) - {"Mechanism"}


@pytest.mark.parametrize("name", ["sinkhorn", "losses", "training", "generators", "costs"])
def test_only_mechanisms_know_the_noise(name):
    tree = ast.parse(FILES[name].read_text())
    used = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    assert not used & CHANNELS


def test_modules_stay_small():
    for path in FILES.values():
        assert len(path.read_text().splitlines()) <= 300, path.name


def test_every_public_name_is_there():
    assert sorted(privgan.__all__) == sorted(set(privgan.__all__))
    assert all(hasattr(privgan, name) for name in privgan.__all__)
