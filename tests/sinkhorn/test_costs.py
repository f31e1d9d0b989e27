import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist
from torch.utils._python_dispatch import TorchDispatchMode

import privgan as pg
from privgan.mechanisms.categorical import CategoryCost
from privgan.mechanisms.interval import BandCost
from privgan.mechanisms.product import BlockCost
from privgan.sinkhorn import L1, Cost, Euclidean, SquaredL2
from privgan.sinkhorn.costs import Transposed
from privgan.surroundings import full_precision

COSTS = {"sqeuclidean": SquaredL2(), "cityblock": L1(), "euclidean": Euclidean()}


class Lopsided(Cost):
    """Not symmetric: c(x, y) = sum_k exp(x_k - 2 y_k)."""

    def matrix(self, x, y):
        return (x[:, None, :] - 2 * y[None, :, :]).exp().sum(-1)


def points(n, d, seed, dtype=torch.float64, shift=0.0):
    g = torch.Generator().manual_seed(seed)
    return torch.randn((n, d), dtype=dtype, generator=g) + shift


@pytest.mark.parametrize("metric", COSTS)
@pytest.mark.parametrize("d", [1, 2, 3, 8, 9, 15, 16, 17, 784])
def test_matrix_agrees_with_scipy(metric, d):
    x, y = points(7, d, 0), points(5, d, 1)
    assert np.allclose(COSTS[metric].matrix(x, y), cdist(x, y, metric))


@pytest.mark.parametrize("metric", COSTS)
@pytest.mark.parametrize("d", [2, 784])
@pytest.mark.parametrize("shift", [10.0, 100.0, 1000.0])
def test_float32_survives_a_common_shift(metric, d, shift):
    x, y = points(9, d, 0, torch.float32), points(8, d, 1, torch.float32)
    x, y = x + shift, y + shift  # rounds the points once; the reference sees the same ones
    expected = cdist(x.double(), y.double(), metric)
    # Shifting back by a rounded centre may cost one unit in the last place of the shift; the
    # Euclidean root magnifies what cancellation leaves of it.
    atol = 1e-6 * d * (1 + shift / 16)
    assert np.allclose(COSTS[metric].matrix(x, y), expected, rtol=3e-6, atol=atol)


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


def precisions():
    return (torch.backends.cuda.matmul.fp32_precision, torch.backends.mkldnn.matmul.fp32_precision)


class Products(TorchDispatchMode):
    """Notes the precision at which every matrix product is made."""

    def __init__(self):
        super().__init__()
        self.found = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func.overloadpacket in (torch.ops.aten.mm, torch.ops.aten.addmm):
            self.found.append(precisions())
        return func(*args, **(kwargs or {}))


def set_new():
    torch.backends.cuda.matmul.fp32_precision = "tf32"
    torch.backends.mkldnn.matmul.fp32_precision = "bf16"


def set_old():
    torch.backends.cuda.matmul.allow_tf32 = True


def set_all():
    torch.backends.fp32_precision = "tf32"


def set_one_of_them():
    torch.backends.mkldnn.matmul.fp32_precision = "bf16"


SWITCHES = [set_new, set_old, set_all, set_one_of_them]
SWITCHES.append(lambda: torch.set_float32_matmul_precision("medium"))


def reset():
    torch.backends.fp32_precision = "none"
    torch.set_float32_matmul_precision("highest")
    for switch in (torch.backends.cuda.matmul, torch.backends.mkldnn.matmul):
        switch.fp32_precision = "none"


@pytest.fixture(params=SWITCHES)
def lowered(request):
    """Matrix products allowed in low precision, by each of torch's switches."""
    reset()
    request.param()
    yield
    reset()


MAP = pg.LinearMap(torch.ones(2, 30), pg.Laplace(1.0, bounds=pg.Box(0.0, 1.0, dim=2)))
PLAN = torch.ones(4, 3, dtype=torch.float64)
MATMULS = {
    "matrix": lambda x, y: SquaredL2().matrix(x, y),
    "gradient": lambda x, y: SquaredL2().gradient(x, y, PLAN),
    "reduced": lambda x, y: SquaredL2().reduced_in(x, y, PLAN.clone()),
    "euclidean": lambda x, y: Euclidean().matrix(x, y),
    "category": lambda x, y: CategoryCost(0.5, 0.1).matrix(x.abs(), y.abs()),
    "category gradient": lambda x, y: CategoryCost(0.5, 0.1).gradient(x.abs(), y.abs(), PLAN),
    "map": lambda x, y: MAP.forward(x),
}


@pytest.mark.parametrize("use", MATMULS.values(), ids=MATMULS)
def test_matrix_products_are_in_full_precision_and_the_switches_as_before(use, lowered):
    x, y, before = points(4, 30, 0), points(3, 30, 1), precisions()
    assert set(before) != {"ieee"}
    with Products() as products:
        use(x, y)
    assert products.found
    assert set(products.found) == {("ieee", "ieee")}
    assert precisions() == before


def test_a_wider_switch_still_rules_afterwards():
    reset()
    try:
        for precision in ("tf32", "ieee"):
            torch.backends.fp32_precision = precision
            with full_precision():
                pass
            assert torch.backends.cuda.matmul.fp32_precision == precision
    finally:
        reset()


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
