"""Which precision a tolerance needs, and what rounding may add to an error: by the numbers."""

import math
from types import SimpleNamespace

import pytest
import torch

from privgan.sinkhorn import _problem, solve_samples
from privgan.sinkhorn._precision import check_range, extent, holds, reach, rounding, sums_hold
from privgan.sinkhorn._prepare import Prepared
from privgan.sinkhorn.costs import L1, Cost, SquaredL2

F32, F64 = torch.float32, torch.float64
EPS = torch.finfo(F32).eps


def test_rounding_is_two_units_of_the_largest_cost():
    assert rounding(F32, 100.0) == 200 * EPS
    assert rounding(F64, 100.0) == 200 * torch.finfo(F64).eps


def test_sums_in_single_precision_hold_a_tolerance_of_64_units():
    assert sums_hold(F32, 64 * EPS)
    assert not sums_hold(F32, 63 * EPS)
    assert sums_hold(F64, 63 * EPS)
    assert holds(F32, (0.0, 1.0), 1.0, 64 * EPS)
    assert not holds(F32, (0.0, 1.0), 1.0, 63 * EPS)


@pytest.mark.parametrize("ends", [(0.0, 100.0), (-100.0, 0.0), (-100.0, 50.0)])
def test_single_precision_holds_costs_up_to_a_quarter_of_the_tolerance(ends):
    enough = 4 * EPS * 100.0 / 0.5
    assert holds(F32, ends, 0.5, enough)
    assert not holds(F32, ends, 0.5, 0.99 * enough)
    assert holds(F64, ends, 0.5, 0.99 * enough)


@pytest.mark.parametrize(("largest", "reg"), [(1e-31, 1e-32), (1e31, 1e31), (1.0, 1e31)])
def test_single_precision_is_not_trusted_near_its_ends(largest, reg):
    assert holds(F32, (0.0, 1.0), 1.0, 1e-2)
    assert not holds(F32, (0.0, largest), reg, 1e-2)


def test_ends_of_costs_are_bounded_whether_or_not_they_are_formed():
    g = torch.Generator().manual_seed(0)
    x, y = torch.randn(40, 3, generator=g, dtype=F64), torch.rand(30, 3, generator=g, dtype=F64)
    for cost in (L1(), SquaredL2()):
        low, high = reach(x, y, cost, 7)
        matrix = cost.matrix(x, y)
        assert low == 0.0
        assert matrix.max() <= high <= 5 * matrix.max()
    assert extent(torch.tensor([[3.0, -2.0], [1.0, 0.0]])) == (-2.0, 3.0)


def test_costs_beyond_what_numbers_hold_are_refused():
    assert check_range(-3.0, 2.0, 1.0) == 3.0
    assert check_range(0.0, 1e15, 1.0) == 1e15
    with pytest.raises(ValueError, match="reg is too small for these costs"):
        check_range(0.0, 1.1e15, 1.0)
    nan, inf = math.nan, math.inf
    ends = (0.0, inf), (-inf, 0.0), (0.0, nan), (nan, 1.0), extent(torch.tensor([0.0, nan]))
    for low, high in ends:
        with pytest.raises(ValueError, match="some costs are not finite"):
            check_range(low, high, 1.0)


class Gap(Cost):
    """Costs of 1, of which one is no number."""

    def matrix(self, x, y):
        return torch.where((x == 3.0) & (y.T == 0.0), math.nan, 1.0)


@pytest.mark.parametrize("backend", ["dense", "streaming"])
def test_a_cost_that_is_no_number_is_seen_wherever_it_is(backend, monkeypatch):
    monkeypatch.setattr(_problem, "TILE", 10)  # two rows a tile: the NaN is in the second
    x, y = torch.arange(7.0)[:, None], torch.arange(5.0)[:, None]
    assert math.isnan(reach(x, y, Gap(), 1)[1])
    with pytest.raises(ValueError, match="some costs are not finite"):
        solve_samples(x, y, Gap(), 1.0, backend=backend)


def prepared(**kept):
    return Prepared(SimpleNamespace(a=HALVES, b=HALVES), 0.0, 1e-3, **kept)


HALVES = torch.full((2,), 0.5, dtype=F64)
SOLVED = SimpleNamespace(error=1e-4, phi=torch.tensor([2.0, -4.0]).double(), psi=HALVES)


def test_room_for_rounding_is_taken_off_the_tolerance_and_at_most_half():
    found = prepared(sums=1e-4).allowing(2e-4, 50.0)
    assert (found.sums, found.costs, found.largest) == (1e-4, 2e-4, 50.0)
    assert found.tol == pytest.approx(7e-4)
    assert prepared(sums=1e-4).allowing(2e-3, 50.0).tol == 5e-4


def test_an_error_has_rounding_added_and_of_large_costs_what_mass_meets():
    assert prepared(sums=2e-4).error(SOLVED, 1e-3) == pytest.approx(3e-4)
    assert prepared(sums=2e-4, costs=6e-4, largest=1e3).error(SOLVED, 1e-3) == pytest.approx(9e-4)
    met = 10.0 + 3.0 + 0.5  # and the mean of |phi|, and that of |psi|
    large = prepared(sums=2e-4, costs=1e-2, largest=1e3).error(SOLVED, 1e-3)
    assert large == pytest.approx(3e-4 + 1e-2 * met / 1e3)
    small = prepared(sums=2e-4, costs=1e-2, largest=5.0).error(SOLVED, 1e-3)
    assert small == pytest.approx(3e-4 + 1e-2)
    wrong = prepared(costs=0.2, largest=1e3).error(SOLVED, 1e-3)  # entries wrong by much: all of it
    assert wrong == pytest.approx(0.2 + 1e-4)
