"""What a cost is: its matrix, its gradient, and what is told of both."""

import re

import numpy as np
import pytest
import torch
from norms import COSTS, points
from scipy.spatial.distance import cdist

import privgan as pg
from privgan.mechanisms.categorical import CategoryCost
from privgan.mechanisms.interval import BandCost
from privgan.mechanisms.product import BlockCost
from privgan.sinkhorn import L1, Cost, SquaredL2
from privgan.sinkhorn.costs import Transposed


class Lopsided(Cost):
    """Not symmetric: c(x, y) = sum_k exp(x_k - 2 y_k)."""

    def matrix(self, x, y):
        return (x[:, None, :] - 2 * y[None, :, :]).exp().sum(-1)


@pytest.mark.parametrize("metric", COSTS)
@pytest.mark.parametrize("d", [1, 2, 3, 8, 9, 15, 16, 17, 784])
def test_matrix_agrees_with_scipy(metric, d):
    x, y = points(7, d, 0), points(5, d, 1)
    assert np.allclose(COSTS[metric].matrix(x, y), cdist(x, y, metric))


@pytest.mark.parametrize("metric", COSTS)
@pytest.mark.parametrize("d", [2, 784])
@pytest.mark.parametrize("shift", [10.0, 100.0, 1e4, 1e6, 1e9])
def test_float32_survives_a_common_shift(metric, d, shift):
    x, y = points(9, d, 0, torch.float32), points(8, d, 1, torch.float32)
    x, y = x + shift, y + shift  # rounds the points once; the reference sees the same ones
    expected = cdist(x.double(), y.double(), metric)
    assert np.allclose(COSTS[metric].matrix(x, y), expected, rtol=2e-6, atol=0)


@pytest.mark.parametrize("cost", [*COSTS.values(), Lopsided(), Lopsided().T], ids=repr)
@pytest.mark.parametrize("d", [2, 6])
def test_gradient_is_the_gradient_of_the_plans_total_cost(cost, d):
    x, y, plan = points(6, d, 0), points(4, d, 1), torch.rand(6, 4, dtype=torch.float64)
    step = 1e-6
    for i, k in [(0, 0), (5, d - 1), (3, 1)]:
        up, down = x.clone(), x.clone()
        up[i, k] += step
        down[i, k] -= step
        difference = (plan * (cost.matrix(up, y) - cost.matrix(down, y))).sum() / (2 * step)
        assert torch.isclose(cost.gradient(x, y, plan)[i, k], difference, rtol=1e-5, atol=1e-6)


def test_transposed_swaps_the_arguments():
    x, y = points(3, 2, 0), points(4, 2, 1)
    cost = Lopsided()
    assert torch.equal(cost.T.matrix(y, x), cost.matrix(x, y).T)
    assert cost.T.T is cost


@pytest.mark.parametrize("cost", COSTS.values(), ids=repr)
def test_coincident_points_have_zero_gradient(cost):
    x = points(3, 5, 0)
    assert torch.equal(cost.gradient(x, x, torch.eye(3, dtype=x.dtype)), torch.zeros_like(x))


@pytest.mark.parametrize("cost", COSTS.values(), ids=repr)
@pytest.mark.parametrize("d", [2, 20])
def test_matrix_is_differentiable_in_both_arguments(cost, d):
    x, y = points(4, d, 0).requires_grad_(), points(3, d, 1).requires_grad_()
    assert torch.autograd.gradcheck(cost.matrix, (x, y))


@pytest.mark.parametrize("cost", COSTS.values(), ids=repr)
@pytest.mark.parametrize("d", [3, 30])
def test_storage_given_is_used(cost, d):
    x, y, out = points(4, d, 0), points(3, d, 1), torch.empty(4, 3, dtype=torch.float64)
    assert cost.matrix_in(x, y, out).data_ptr() == out.data_ptr()
    assert torch.equal(out, cost.matrix(x, y))


def test_shiftable_columns_are_those_in_which_no_cost_changes():
    rows = torch.eye(3, dtype=torch.float64)
    x, y = torch.cat([points(3, 3, 0), rows], 1), torch.cat([points(3, 3, 1), rows], 1)
    blocks = BlockCost(
        [
            (slice(0, 1), L1(), 2.0),
            (slice(1, 3), BlockCost([(slice(None, 1), SquaredL2(), 0.5)]), 1.0),
            (slice(3, 6), CategoryCost(0.5, 0.1), 1.0),
        ]
    )
    for cost in (*COSTS.values(), Lopsided(), blocks, blocks.T, Transposed(blocks)):
        found = cost.shiftable(6)
        assert found.dtype == torch.bool
        shift = torch.where(found, 7.0, 0.0)
        assert torch.allclose(cost.matrix(x + shift, y + shift), cost.matrix(x, y))
    assert L1().shiftable(2).tolist() == [True, True]
    assert blocks.shiftable(6).tolist() == [True, True, False, False, False, False]
    assert not Lopsided().shiftable(2).any()
    assert not BandCost(pg.Box(0.0, 1.0, dim=2), 1.0, 1.0, 0.2).T.shiftable(2).any()


@pytest.mark.parametrize("cost", COSTS.values(), ids=repr)
@pytest.mark.parametrize("d", [2, 30])
def test_points_that_require_gradients_are_fine_without_them(cost, d):
    x = points(4, d, 0).requires_grad_()
    with torch.no_grad():
        assert torch.allclose(cost.matrix(x, x), cost.matrix(x.detach(), x.detach()))


VIEWS = {
    "columns": lambda t: t.T.contiguous().T,
    "every other": lambda t: t.repeat_interleave(2, 0)[::2],
    "a window": lambda t: torch.cat([t, t], 1)[:, : t.shape[1]],
    "expanded": lambda t: t[:1].expand(len(t), -1),
    "one value": lambda t: t[:1, :1].expand(*t.shape),
    "graphs": lambda t: t.clone().requires_grad_() * 1.0,
}


@pytest.mark.parametrize("view", VIEWS.values(), ids=VIEWS)
@pytest.mark.parametrize("cost", COSTS.values(), ids=repr)
@pytest.mark.parametrize("d", [3, 20])
def test_how_points_lie_in_memory_does_not_matter(view, cost, d):
    x, y, plan = view(points(6, d, 0)), view(points(5, d, 1)), view(points(6, 5, 2))
    s, t, p = (k.detach().clone(memory_format=torch.contiguous_format) for k in (x, y, plan))
    assert torch.allclose(cost.matrix(x, y), cost.matrix(s, t), rtol=1e-13)
    gradient = cost.gradient(x, y, plan)
    assert torch.allclose(gradient, cost.gradient(s, t, p), rtol=1e-12)
    assert not gradient.requires_grad
    turned = torch.empty((5, 6), dtype=x.dtype).T
    assert torch.allclose(cost.matrix_in(s, t, turned), cost.matrix(s, t), rtol=1e-13)


@pytest.mark.parametrize("cost", COSTS.values(), ids=repr)
@pytest.mark.parametrize("d", [0, 3, 20])
@pytest.mark.parametrize(("n", "m"), [(0, 3), (3, 0), (0, 0), (1, 1)])
def test_nothing_costs_nothing(cost, d, n, m):
    x, y = points(n, d, 0), points(m, d, 0)
    assert torch.equal(cost.matrix(x, y), torch.zeros((n, m), dtype=x.dtype))
    assert torch.equal(cost.gradient(x, y, torch.ones((n, m), dtype=x.dtype)), 0.0 * x)


REFUSED = {
    "expected (n, d) and (m, d)": lambda c, x: c.matrix(x, x[:, :2]),
    "(n, d) and": lambda c, x: c.matrix(x[0], x),
    "convert one of them": lambda c, x: c.matrix(x, x.float()),
    "y must be a tensor, got a ndarray": lambda c, x: c.matrix(x, x.numpy()),
    "x has dtype torch.int64": lambda c, x: c.matrix(x.long(), x.long()),
    "plan has shape (2, 4)": lambda c, x: c.gradient(x, x, torch.ones((2, 4), dtype=x.dtype)),
    "plan is torch.float32": lambda c, x: c.gradient(x, x, torch.ones((4, 4))),
}


BOX = pg.Box(0.0, 1.0, dim=3)
CHANNELS = [
    CategoryCost(0.5, 0.1),
    BandCost(BOX, 1.0, 1.0, 0.2),
    BlockCost([(slice(0, 2), L1(), 2.0), (slice(2, 3), SquaredL2(), 1.0)]),
    pg.mechanisms.Blocks(pg.Laplace(1.0, bounds=BOX), dim=3).cost,
]


@pytest.mark.parametrize("message", REFUSED)
@pytest.mark.parametrize("cost", COSTS.values(), ids=repr)
@pytest.mark.parametrize("d", [3, 20])
def test_what_compiled_loops_would_read_past_is_refused(message, cost, d):
    with pytest.raises((TypeError, ValueError), match=re.escape(message)):
        REFUSED[message](cost, points(4, d, 0))


@pytest.mark.parametrize("message", [m for m in REFUSED if not m.startswith("plan")])
@pytest.mark.parametrize("cost", [*CHANNELS, *(cost.T for cost in CHANNELS)], ids=repr)
def test_what_broadcasting_would_hide_is_refused(message, cost):
    with pytest.raises((TypeError, ValueError), match=re.escape(message)):
        REFUSED[message](cost, points(4, 3, 0))


@pytest.mark.parametrize("cost", CHANNELS[1:], ids=repr)
def test_points_of_another_width_than_the_cost_are_refused(cost):
    x = points(4, 2, 0)
    with pytest.raises(ValueError, match=r"(has|have) 2 columns"):
        cost.matrix(x, x)


@pytest.mark.parametrize("cost", COSTS.values(), ids=repr)
@pytest.mark.parametrize("d", [64, 200])
def test_no_path_holds_a_number_for_every_pair_and_column(cost, d):
    x, y = points(300, d, 0), points(200, d, 1)
    plan = torch.rand((300, 200), dtype=x.dtype)
    cost.gradient(x, y, plan)  # compiled
    with torch.profiler.profile(profile_memory=True) as profile:
        (cost.matrix(x.requires_grad_(), y) * plan).sum().backward()
    largest = max(abs(event.self_cpu_memory_usage) for event in profile.events())
    assert largest < 10 * 8 * 300 * 200  # matrices; of an operation, all that it makes
