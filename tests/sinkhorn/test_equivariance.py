"""Shifted, scaled and permuted problems have shifted, scaled and permuted solutions."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from privgan.sinkhorn import L1, Euclidean, SquaredL2, solve, solve_samples

F64 = torch.float64
COSTS = [L1(), SquaredL2(), Euclidean()]
many = settings(max_examples=25, deadline=None)
anything = {
    "cost": st.sampled_from(COSTS),
    "dtype": st.sampled_from([torch.float32, F64]),
    "backend": st.sampled_from(["dense", "streaming"]),
    "d": st.sampled_from([1, 2, 9, 30]),
    "seed": st.integers(0, 1000),
}


def problem(d, dtype, seed):
    g = torch.Generator().manual_seed(seed)
    n, m = (int(k) for k in torch.randint(1, 20, (2,), generator=g))
    x, y = (torch.randn((k, d), dtype=F64, generator=g) for k in (n, m))
    a, b = (torch.rand(k, dtype=F64, generator=g) + 0.05 for k in (n, m))
    a[0] *= float(n == 1 or seed % 2)
    return x.to(dtype), y.to(dtype), (a / a.sum()).to(dtype), (b / b.sum()).to(dtype)


def solved(x, y, a, b, cost, reg, backend, tol=1e-4):
    """Value, gradients, potentials less their mean."""
    x, y = x.clone().requires_grad_(), y.clone().requires_grad_()
    r = solve_samples(x, y, cost, reg, a, b, tol=tol, max_iter=20_000, backend=backend)
    assert r.converged
    grads = torch.autograd.grad(r.value, (x, y))
    return r.value.detach(), *grads, r.f - r.f.mean(), r.g - r.g.mean()


def agree(found, right, units):
    """To rounding and the tolerance, in units of the value, the gradients and the potentials."""
    for own, other, unit in zip(found, right, (*units, units[1], units[0], units[0]), strict=True):
        assert (own.double() - other.double()).abs().max() <= 2e-3 * unit


@given(exponent=st.floats(4, 9), sign=st.sampled_from([-1, 1]), **anything)
@many
def test_far_from_the_origin_what_the_points_hold_is_right(
    exponent, sign, cost, dtype, backend, d, seed
):
    """Points at 1e4 to 1e9, as their precision holds them, against the same moved back."""
    x, y, a, b = problem(d, dtype, seed)
    far = torch.full((d,), sign * 10.0**exponent, dtype=dtype)
    x, y = x + far, y + far
    near = (x.double() - far.double()), (y.double() - far.double())
    exact = cost.matrix(*near)
    reg = max(0.3 * exact.mean().item(), 1e-3)
    found = solved(x, y, a, b, cost, reg, backend)
    right = solved(*near, a.double(), b.double(), cost, reg, "dense", 1e-9)
    slope = 1.0 if cost != SquaredL2() else 2 * exact.max().sqrt().item() + 1e-3
    agree(found, right, (exact.max().item() + reg, slope))


@given(exponent=st.floats(-9, 9), **anything)
@many
def test_costs_and_reg_scale_together(exponent, cost, dtype, backend, d, seed):
    x, y, a, b = problem(d, dtype, seed)
    reg = 0.3 * cost.matrix(x, y).mean().item() + 1e-3
    scale = 2.0 ** round(exponent / 0.30103)  # exact in binary
    times = scale**2 if cost == SquaredL2() else scale
    right = solved(x, y, a, b, cost, reg, backend, 1e-5)
    found = solved(x * scale, y * scale, a, b, cost, reg * times, backend, 1e-5)
    units = times, times / scale, times / scale, times, times
    size = right[0].abs() + reg
    for own, other, unit in zip(found, right, units, strict=True):
        gap = (own.double() / unit - other.double()).abs().max()
        assert gap <= 1e-3 * max(size, 1.0, other.abs().max())


@given(**anything)
@many
def test_the_order_of_points_does_not_matter(cost, dtype, backend, d, seed):
    x, y, a, b = problem(d, dtype, seed)
    g = torch.Generator().manual_seed(seed)
    rows, columns = torch.randperm(len(x), generator=g), torch.randperm(len(y), generator=g)
    reg = 0.3 * cost.matrix(x, y).mean().item() + 1e-3
    value, gx, gy, f, g_ = solved(x, y, a, b, cost, reg, backend, 1e-6)
    right = value, gx[rows], gy[columns], f[rows], g_[columns]
    found = solved(x[rows], y[columns], a[rows], b[columns], cost, reg, backend, 1e-6)
    for own, other in zip(found, right, strict=True):
        assert torch.allclose(own, other, rtol=1e-3, atol=1e-3 * (value.item() + reg))


@given(
    times=st.floats(-9, 9),
    shift=st.floats(-100, 100),
    dtype=st.sampled_from([torch.float32, F64]),
    seed=st.integers(0, 1000),
)
@many
def test_a_cost_matrix_shifts_and_scales(times, shift, dtype, seed):
    x, y, a, b = problem(2, dtype, seed)
    cost, unit = L1().matrix(x, y), 10.0**times
    right = solve(cost, 0.4, a, b, tol=1e-6)
    found = solve((cost + shift) * unit, 0.4 * unit, a, b, tol=1e-6)
    assert right.converged
    assert found.converged
    gap = found.value.item() / unit - shift - right.value.item()
    assert abs(gap) <= 1e-5 * (1 + abs(shift))
    assert (found.plan() - right.plan()).abs().sum() <= 1e-4 * (1 + abs(shift))


@pytest.mark.parametrize("backend", ["dense", "streaming"])
@pytest.mark.parametrize("cost", COSTS, ids=repr)
@pytest.mark.parametrize("reg", [1e2, 1e4, 1e8, 1e12, 1e20, 1e30])
def test_reg_far_above_the_costs_leaves_the_mean_cost(reg, cost, backend):
    """value = mean C - var C / 2 reg + ..., and potentials that are the sides' means."""
    x, y, _, _ = problem(3, torch.float32, 7)
    exact = cost.matrix(x.double(), y.double())
    a = torch.full((len(x),), 1 / len(x), requires_grad=True)
    b = torch.full((len(y),), 1 / len(y), requires_grad=True)
    r = solve_samples(x, y, cost, reg, a, b, backend=backend)
    rows, columns = torch.autograd.grad(r.value, (a, b))
    assert r.value.item() == pytest.approx(exact.mean().item(), rel=10 / reg + 1e-6)
    for own, mean in ((rows, exact.mean(1)), (columns, exact.mean(0))):
        gap = (own - own.mean()).double() - (mean - mean.mean())
        assert gap.abs().max() <= (30 / reg + 1e-6) * exact.max()
    if backend == "dense":
        assert 0 <= r.information() <= (exact.max() / reg) ** 2 + 1e-15
