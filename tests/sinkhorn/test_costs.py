import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist

from privgan.sinkhorn import L1, Cost, Euclidean, SquaredL2

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


@pytest.mark.parametrize("cost", COSTS.values(), ids=repr)
def test_tensor_float_32_is_off_inside_and_restored(cost):
    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = True
    try:
        cost.matrix(points(4, 30, 0), points(3, 30, 1))
        assert torch.backends.cuda.matmul.allow_tf32
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before


@pytest.mark.parametrize("cost", COSTS.values(), ids=repr)
@pytest.mark.parametrize("d", [2, 30])
def test_points_that_require_gradients_are_fine_without_them(cost, d):
    x = points(4, d, 0).requires_grad_()
    with torch.no_grad():
        assert torch.allclose(cost.matrix(x, x), cost.matrix(x.detach(), x.detach()))
