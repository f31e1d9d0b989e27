"""A log of trials: what a person might hand over, and what comes of it.

A line of a table in trials/ is one trial: an expression; after ``=`` what it gives, after ``!``
the words that its error must hold (the argument, the place, the cure); where both stand, either
will do.

Every error is the package's own, one line of at most 300 characters, and shows no record. Nothing
is warned of, and nothing printed.
"""

import contextlib
import functools
import inspect
import json
import math
import pickle  # noqa: F401 (in the tables)
import re
import traceback
from pathlib import Path

import numpy as np
import pytest
import torch

import privgan as pg
from privgan.artifact import claims, contrast, data, metrics, npmle, plotting, rates, referee, sweep

ROOMS = pg, pg.sinkhorn, pg.mechanisms, pg.generators, pg.reports, pg.training, pg.audit, pg.tables
ARTIFACT = claims, contrast, data, metrics, npmle, plotting, rates, referee, sweep
KINDS = ValueError, TypeError, KeyError, FloatingPointError, OSError, NotImplementedError
RECORDS = re.compile(r"77\.1|1\.23|12345")  # of 77.125 and 123456.789, however they are rounded
OTHERS = re.compile(r"supported types|Could not infer|np\.ndarray|byte order")

TABLES = {
    path.stem: path.read_text() for path in sorted(Path(__file__).parent.glob("trials/*.txt"))
}


def trials():
    row = re.compile(r"(.+?)\s\s+(?:= (.+?))?\s*(?:! (.+))?")
    for room, table in TABLES.items():
        for line in table.strip().splitlines():
            call, right, words = row.fullmatch(line).groups()
            yield pytest.param(call, right, words, id=f"{room}: {call}")


@pytest.mark.parametrize(("call", "right", "words"), [*trials()])
def test_a_trial(call, right, words, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    try:
        got = eval(call, things())
    except Exception as error:
        if words is None:
            raise
        check_words(error, words.split())
    else:
        assert right is not None, "it was accepted"
        check_value(got, eval(right, things()))
    assert capsys.readouterr() == ("", "")


def test_every_public_function_is_tried():
    tables = "".join(TABLES.values())
    for room in ROOMS:
        functions = [name for name in room.__all__ if inspect.isfunction(getattr(room, name))]
        for name in [*functions, *(n for n in pg.__all__ if inspect.isclass(getattr(pg, n)))]:
            assert re.search(rf"\b{name}[(.]", tables), name


def check_words(error, words):
    """One line of the package's own, which holds the words and no record."""
    said = str(error)
    *_, (frame, _) = traceback.walk_tb(error.__traceback__)
    assert frame.f_globals["__name__"].startswith("privgan"), said
    assert isinstance(error, KINDS), repr(error)
    assert [word for word in words if word not in said] == [], said
    assert len(said.splitlines()) == 1
    assert len(said) <= 300, len(said)
    assert not OTHERS.search(said), said
    while error is not None:
        assert not RECORDS.search(str(error)), "it shows a record"
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


def check_value(got, right):
    if right is None or isinstance(right, bool | str | torch.dtype):
        assert got == right
        return
    got, right = (np.asarray(v.detach() if torch.is_tensor(v) else v) for v in (got, right))
    assert got.shape == right.shape
    np.testing.assert_allclose(got, right, rtol=1e-3, atol=1e-12)


def things():
    """What the expressions speak of, fresh for each."""
    TWO = math.log(2) - math.log1p(math.exp(-1))  # the value of C at reg 1
    C = np.array([[0.0, 1.0], [1.0, 0.0]])
    V = np.array([[77.125, 0.25], [0.5, 123456.789], [0.75, 0.125]])  # three records
    X = torch.tensor(V)
    S = torch.linspace(0, 1, 60, dtype=torch.float64).reshape(30, 2)  # in the unit box
    wide, t = S.repeat(1, 5), torch.zeros(1, 2, dtype=torch.float64, requires_grad=True)
    box = pg.Box(0.0, 1.0, dim=2)
    G, L = pg.Gaussian(1.0), pg.Laplace(1.0, bounds=box)
    Z = (Y := G.privatize(data.checkerboard(200, seed=0), seed=0)).double()
    reports, matched = pg.Reports(Y, G, simulation=True), pg.EntropicLoss.matched(G)
    mlp = pg.MLP(2, 2, hidden=(8,))
    few = {"steps": 3, "batch_size": 20, "progress": False}
    task = few | {"generator": mlp, "reports": Y, "loss": matched}
    fit = functools.partial(pg.fit, **few)
    axes = [torch.linspace(-2, 2, 9, dtype=torch.float64)] * 2
    return globals() | NAMES | locals()


NAMES = {name: thing for module in ARTIFACT for name, thing in vars(module).items()}
NAMES |= {name: getattr(room, name) for room in ROOMS for name in room.__all__}


def value(x, y):
    return pg.sinkhorn.solve_samples(x, y, pg.sinkhorn.SquaredL2(), 1).value


def within(context, call):
    with context:
        return call()


@contextlib.contextmanager
def float64():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def frame(library, values):
    return pytest.importorskip(library).DataFrame(values)


def saved(thing, path="saved"):
    thing.save(path)
    return path


def cut(path):
    whole = Path(path).read_bytes()
    Path(path).write_bytes(whole[: len(whole) // 2])
    return path


def said(reports, **otherwise):
    np.savez("said.npz", values=reports.values, metadata=json.dumps(reports.metadata | otherwise))
    return "said.npz"
