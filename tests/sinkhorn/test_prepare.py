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
@pytest.mark.parametrize("stored", [True, False])
def test_the_tolerance_is_less_by_what_rounding_adds(stored, cost, d, dtype):
    found = _prepare.prepared(problem(cost, d, dtype, 0.1 * d), TOL, True, lambda _: stored)
    assert found.stored == stored
    assert found.sums == found.steps.noise > 0.0
    assert found.costs == rounding(dtype, found.largest) > 0.0
    assert found.tol == TOL - found.sums - found.costs


def test_costs_that_are_given_have_none_of_their_own():
    given = problem(L1(), 2, torch.float32, 0.2)
    found = _prepare.stored(L1().matrix(given.x, given.y), given, TOL)
    assert (found.tol, found.costs) == (TOL - found.sums, 0.0)


@pytest.mark.parametrize("stored", [True, False])
def test_at_most_half_of_the_tolerance_goes_to_rounding(stored):
    found = _prepare.prepared(problem(L1(), 2, torch.float64, 0.2), 1e-15, True, lambda _: stored)
    assert found.tol == 1e-15 / 2


@pytest.mark.parametrize("size", [4, 8])
def test_a_matrix_that_fits_in_float32_alone_is_not_stored_in_float64(size):
    given = problem(L1(), 2, torch.float32, 1e-4)  # costs beyond what float32 holds
    found = _prepare.prepared(given, 1e-6, True, lambda wanted: wanted <= size)
    assert found.stored == (size == 8)
