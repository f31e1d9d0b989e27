"""The benchmark's own parts: the referee is right, and our entrant tells the truth."""

import sys
from pathlib import Path

import numpy as np
import pytest

from privgan.artifact import oracles

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks import floor, ranks
from benchmarks.cases import GRID, QUICK, STREAMING
from benchmarks.judge import Judge, reference
from benchmarks.measure import measure


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # points and references are kept below the working folder


def test_the_grid_is_the_announced_one():
    sizes = {(c.n, c.d) for c in GRID}
    assert sizes == {(n, d) for n in (256, 1024, 4096) for d in (2, 784)}
    assert len(GRID) == len(sizes) * 2 * 3
    assert {c.n for c in STREAMING} >= {1000, 10_000, 100_000}


def test_the_referee_agrees_with_the_log_domain_oracle():
    case = QUICK[0]
    x, y = (points.astype(np.float64) for points in case.points())
    cost = ((x[:, None] - y[None]) ** 2).sum(-1)
    a = np.full(case.n, 1 / case.n)
    f, g = oracles.log_domain_sinkhorn(cost, case.reg, a, a, tol=1e-9)
    plan = np.outer(a, a) * np.exp((f[:, None] + g - cost) / case.reg)
    gradient = 2 * (plan.sum(1, keepdims=True) * x - plan @ y)
    judge = Judge(case)
    verdict = judge(f, g, gradient, f @ a + g @ a)
    assert verdict.error < 1e-8
    assert verdict.gradient_error < 1e-6
    assert verdict.value_error < 1e-8
    assert judge(f + case.reg * 0.01, g, gradient, 0.0).error == pytest.approx(0.02, rel=0.1)
    assert reference(case).error < 1e-9


@pytest.mark.parametrize("case", QUICK[:2], ids=lambda c: c.key)
def test_our_entrant_reaches_every_tolerance_and_says_so(monkeypatch, case):
    results = measure("privgan", case)["results"]
    for tol, result in results.items():
        assert result["reached"]
        assert result["error"] <= 1.05 * float(tol)
        assert result["gradient_error"] < 20 * float(tol)  # it runs at about ten times, for all


def test_the_floor_grows_with_every_part_of_the_work():
    base = floor.seconds(1024, 784, 2, 10)
    assert floor.seconds(1024, 784, 1, 10) > base
    assert floor.seconds(1024, 784, 2, 20) > base
    assert floor.seconds(2048, 784, 2, 10) == pytest.approx(4 * base, rel=0.01)


def test_two_processes_have_the_work_of_one_each_and_a_busy_machine_is_told(monkeypatch):
    asked = set()

    def together(count, cores, size, points, steps):
        asked.add((count, size, points))
        return {"wall": 10.0 * count, "cpu": 5.0, "iterations": 4.0, "kB": 1000.0}

    monkeypatch.setattr(ranks, "together", together)
    *_, sent, ratio = ranks.measure([0, 1], 1000, 250, ranks.KINDS["weak"], 5)
    assert asked == {(1, 1000, 250), (2, 2000, 250)}
    assert (sent, ratio) == ("1.00", "2.00 BUSY")
