"""Rounding is allowed for, and once."""

import pytest
import torch

from privgan.sinkhorn import L1, SquaredL2, _prepare
from privgan.sinkhorn._precision import rounding
from privgan.sinkhorn._problem import Problem, Side
from privgan.sinkhorn.weights import uniform

TOL = 1e-4


def problem(cost, d, dtype, reg):
    g = torch.Generator().manual_seed(d)
    x, y = (torch.rand((k, d), dtype=dtype, generator=g) for k in (30, 20))
    return Problem(*(Side.of(t, uniform(len(t), t), True) for t in (x, y)), cost, reg)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("d", [2, 20])
@pytest.mark.parametrize("cost", [L1(), SquaredL2()], ids=repr)
@pytest.mark.parametrize("prepare", [_prepare.dense, _prepare.streaming])
def test_the_tolerance_is_less_by_what_rounding_adds(prepare, cost, d, dtype):
    found = prepare(problem(cost, d, dtype, 0.1 * d), TOL, True)
    assert found.sums == found.steps.noise > 0.0
    assert found.costs == rounding(dtype, found.largest) > 0.0
    assert found.tol == TOL - found.sums - found.costs


def test_costs_that_are_given_have_none_of_their_own():
    given = problem(L1(), 2, torch.float32, 0.2)
    found = _prepare.stored(L1().matrix(given.x, given.y), given, TOL)
    assert (found.tol, found.costs) == (TOL - found.sums, 0.0)


@pytest.mark.parametrize("prepare", [_prepare.dense, _prepare.streaming])
def test_at_most_half_of_the_tolerance_goes_to_rounding(prepare):
    found = prepare(problem(L1(), 2, torch.float64, 0.2), 1e-15, True)
    assert found.tol == 1e-15 / 2
