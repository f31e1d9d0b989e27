"""The Triton loops over costs against the torch streaming path in float64."""

import importlib.util
from types import SimpleNamespace
from unittest.mock import patch

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from privgan.sinkhorn import L1, Euclidean, SquaredL2, _triton, solve_samples
from privgan.sinkhorn._iteration import Solution, iterate
from privgan.sinkhorn._streaming import StreamingHalfSteps
from privgan.sinkhorn._triton import TritonHalfSteps, shares

F64 = torch.float64
COSTS = [SquaredL2(), L1()]


def problem(device, n, m, d, std=0.3):
    """Points float32, weights float64, neither uniform nor all positive."""
    g = torch.Generator().manual_seed(n + d)
    x = torch.rand((n, d), generator=g)
    y = torch.rand((m, d), generator=g) + std * torch.randn((m, d), generator=g)
    a, b = (torch.rand(k, dtype=F64, generator=g).round(decimals=1) for k in (n, m))
    a[1:2], b[1:2], a[0], b[0] = 0.0, 0.0, 0.5, 0.5
    return [t.to(device) for t in (x, y, a / a.sum(), b / b.sum())]


def results(steps, psi):
    phi, log_q = steps(psi)
    grad_x, grad_y = steps.gradients(Solution(phi, psi, 0.0, 1, psi), True)
    return {"start": steps.start(), "phi": phi, "log_q": log_q, "x": grad_x, "y": grad_y}


def errors(device, cost, size, reg, grid=None, far=0.0):
    """Largest differences from float64, gradients relative; and the largest potential."""
    x, y, a, b = problem(device, *size)
    y += far
    if grid:
        x, y = ((t / grid).round() * grid for t in (x, y))
    oracle = StreamingHalfSteps(x.double(), y.double(), cost, reg, a, b)
    psi = oracle.start() + 0.5 * torch.rand(len(y), dtype=F64).to(device)
    exact, found = results(oracle, psi), results(TritonHalfSteps(x, y, cost, reg, a, b), psi)
    differences = {name: (found[name] - exact[name]).abs().max().item() for name in exact}
    for name in "xy":
        differences[name] /= exact[name].abs().max().item()
    return differences, psi.abs().max().item()


@pytest.mark.parametrize("cost", COSTS, ids=repr)
@pytest.mark.parametrize(
    "size",
    [(67, 131, 1), (130, 40, 2), (1, 65, 3), (64, 1, 15), (65, 17, 16), (9, 70, 17), (9, 7, 784)],
    ids=str,
)
def test_equals_float64_but_for_the_rounding_of_the_cost(on, cost, size):
    found, largest = on(errors, cost, size, 0.3)
    assert max(found.values()) < 1e-6 + 5e-7 * largest


@pytest.mark.parametrize("cost", COSTS, ids=repr)
def test_potentials_of_thousands_keep_their_digits(on, cost):
    """Where float32 holds every cost exactly: psi rounded to it would be off by 1e-4."""
    found, largest = on(errors, cost, (9, 7, 784), 0.125 if cost.pointwise else 0.0625, 2.0**-6)
    assert largest > 2000
    del found["start"]  # psi itself, for once as the loops return it: in float32
    assert max(found.values()) < 2e-5


def shifted(device, cost, far):
    x, y, a, b = problem(device, 40, 30, 2)
    x, y = ((t + 1000.0) - 1000.0 for t in (x, y))  # so that both problems round alike
    steps = TritonHalfSteps(x + far, y + far, cost, 0.3, a, b)
    return {name: t.tolist() for name, t in results(steps, torch.zeros_like(b)).items()}


@pytest.mark.parametrize("cost", COSTS, ids=repr)
def test_a_common_shift_changes_no_bit(on, cost):
    assert on(shifted, cost, 0.0) == on(shifted, cost, 1000.0)


def coincident(device, cost):
    x = torch.full((70, 3), 0.1, device=device)
    weights = torch.full((70,), 1 / 70, dtype=F64, device=device)
    steps = TritonHalfSteps(x, x.clone(), cost, 1.0, weights, weights)
    return {name: t.abs().max().item() for name, t in results(steps, 0.0 * weights).items()}


@pytest.mark.parametrize("cost", COSTS, ids=repr)
def test_coincident_points_have_the_slope_zero(on, cost):
    found = on(coincident, cost)
    assert found.pop("x") == found.pop("y") == 0.0
    assert max(found.values()) < 1e-6


def weightless(device, cost):
    """Relative differences between points of no weight and points left out."""
    x, y, a, b = problem(device, 80, 70, 2)
    a[::3], b[1::2] = 0.0, 0.0
    y[1::2] = x[:35]  # nearer to some x than any point that counts
    a, b = a / a.sum(), b / b.sum()
    psi = torch.linspace(0, 1, len(b), dtype=F64, device=device)
    rows, columns = a > 0, b > 0
    part = x[rows], y[columns], cost, 1e-3, a[rows], b[columns]
    whole = results(TritonHalfSteps(x, y, cost, 1e-3, a, b), psi)
    kept = results(TritonHalfSteps(*part), psi[columns])
    found = {}
    for name, t in kept.items():
        of = rows if name in ("phi", "x") else columns
        found[name] = ((whole[name][of] - t).abs().max() / t.abs().max()).item()
        found[f"{name} is finite"] = 1.0 - whole[name].isfinite().all().item()
    found["pull"] = max(whole["x"][~rows].abs().max(), whole["y"][~columns].abs().max()).item()
    return found


@pytest.mark.parametrize("cost", COSTS, ids=repr)
def test_a_zero_weight_is_a_deleted_point(on, cost):
    assert max(on(weightless, cost).values()) < 1e-6


def chunked(device, cost):
    """Rows split over many programs and the whole plan stored, against neither of the two."""
    x, y, a, b = problem(device, 70, 40, 3)
    steps = TritonHalfSteps(x, y, cost, 0.3, a, b)
    # Whatever the number of multiprocessors: as many splits as there are units, and one.
    with patch.object(_triton, "PROGRAMS", 10**6):
        whole = results(steps, torch.zeros_like(b))
    with (
        patch.object(_triton, "PROGRAMS", 1),
        patch.object(_triton, "PLAN", 1),
        patch.object(_triton, "multiprocessors", lambda _: 1),
    ):
        parts = results(steps, torch.zeros_like(b))
    return max(
        ((whole[name] - parts[name]).abs().max() / whole[name].abs().max()).item() for name in whole
    )


@pytest.mark.parametrize("cost", COSTS, ids=repr)
def test_how_the_work_is_shared_out_does_not_matter(on, cost):
    assert on(chunked, cost) < 1e-6


def pairwise(device, cost, size):
    """Largest differences of costs and a plan's gradient from float64, relative to the largest."""
    x, y, *_ = problem(device, *size)
    out = torch.full((len(x), len(y)), torch.nan, device=device)
    squared = isinstance(cost, SquaredL2)
    _triton.pairwise(x, y, out, squared=squared)
    plan = torch.rand(out.shape, generator=torch.Generator().manual_seed(0)).to(device)
    gradient = _triton.plan_gradient(x, y, plan.T.contiguous(), squared=squared)
    exact = cost.matrix(x.double(), y.double())
    pull = cost.gradient(x.double(), y.double(), plan.double())
    pairs = (out, exact), (gradient, pull)
    return [((t - e).abs().max() / e.abs().max()).item() for t, e in pairs]


@pytest.mark.parametrize("cost", COSTS, ids=repr)
@pytest.mark.parametrize("size", [(67, 131, 1), (5, 3, 2), (64, 16, 8), (33, 65, 9), (3, 9, 784)])
def test_costs_and_gradients_of_a_plan(on, cost, size):
    assert max(on(pairwise, cost, size)) < 1e-6


def solved(device, cost, std, tol):
    """The certificate, the marginal error summed in float64, and both of the gradients' errors."""
    x, y, a, b = problem(device, 66, 50, 2, std)
    reg = 2 * std**2 if isinstance(cost, SquaredL2) else std / 2**0.5
    steps = TritonHalfSteps(x, y, cost, reg, a, b)
    found = iterate(steps, steps.start(), a, b, tol, 5000)
    exact = (found.phi[:, None] + found.psi - cost.matrix(x.double(), y.double()) / reg).exp()
    plan = a[:, None] * b * exact
    error = (plan.sum(0) - b).abs().sum() + (plan.sum(1) - a).abs().sum()
    gradient = cost.gradient(x.double(), y.double(), plan)
    difference = (steps.gradients(found, False)[0] - gradient).abs().max() / gradient.abs().max()
    return found.error, error.item(), difference.item()


@pytest.mark.parametrize("cost", COSTS, ids=repr)
@pytest.mark.parametrize("std", [0.05, 0.3])
def test_the_certificate_holds_in_float64(on, cost, std):
    certified, error, gradient = on(solved, cost, std, 1e-4)
    assert certified <= 1e-4
    assert abs(error - certified) < 1e-5
    assert gradient < 1e-5


def front_door(device, cost):
    """Largest relative differences between a streamed value and gradients and float64's; and how
    many half-steps the loops took."""
    x, y, a, b = problem(device, 90, 70, 2)
    found, taken, call = [], [], TritonHalfSteps.__call__
    counted = lambda steps, psi: taken.append(1) or call(steps, psi)  # noqa: E731
    with (
        patch("privgan.sinkhorn._prepare.CompiledHalfSteps", TritonHalfSteps),
        patch.object(TritonHalfSteps, "fits", lambda x, _: x.dtype == torch.float32),
        patch.object(TritonHalfSteps, "__call__", counted),
    ):
        for points, backend in (((x, y), "streaming"), ((x.double(), y.double()), "dense")):
            x, y = (t.clone().requires_grad_() for t in points)
            weights = a.to(x.dtype), b.to(x.dtype)
            r = solve_samples(x, y, cost, 1.0, *weights, tol=1e-5, backend=backend)
            r.value.backward()
            found.append([r.value.detach().double(), x.grad.double(), y.grad.double()])
    pairs = zip(*found, strict=True)
    return [((s - t).abs().max() / t.abs().max()).item() for s, t in pairs], len(taken)


@pytest.mark.parametrize("cost", COSTS, ids=repr)
def test_value_and_gradients_through_the_front_door(on, cost):
    differences, taken = on(front_door, cost)
    assert max(differences) < 1e-4
    assert taken > 1


@given(st.integers(1, 5000), st.integers(1, 10_000), st.sampled_from([1, 16]), st.integers(1, 132))
def test_shares_cover_all_and_fill_the_device_where_they_can(programs, units, unit, processors):
    count = units * unit
    splits, share = shares(programs, count, unit, processors)
    assert share % unit == 0
    assert (splits - 1) * share < count <= splits * share
    wanted = _triton.PROGRAMS * processors
    assert programs * splits >= wanted / 2 or share == unit
    assert programs * (splits - 1) < wanted


def test_chosen_for_float32_points_on_a_device_where_tritonstarts(monkeypatch):
    monkeypatch.setattr(_triton, "starts", lambda: True)
    points = SimpleNamespace(is_cuda=True, dtype=torch.float32)
    assert TritonHalfSteps.fits(points, L1())
    assert TritonHalfSteps.fits(points, SquaredL2())
    assert not TritonHalfSteps.fits(points, Euclidean())
    assert not TritonHalfSteps.fits(SimpleNamespace(is_cuda=True, dtype=F64), L1())
    assert not TritonHalfSteps.fits(torch.zeros(2, 2), L1())
    monkeypatch.setattr(_triton, "starts", lambda: False)
    assert not TritonHalfSteps.fits(points, L1())


def test_without_triton_torch_streams(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    assert not _triton.starts.__wrapped__()


@pytest.mark.skipif(torch.cuda.is_available(), reason="here Triton would start")
def test_a_triton_that_cannot_start_says_so():
    pytest.importorskip("triton")
    with pytest.warns(UserWarning, match="Triton cannot start, so torch streams instead"):
        assert not _triton.starts.__wrapped__()


@pytest.mark.gpu
@pytest.mark.parametrize("cost", COSTS, ids=repr)
def test_a_device_takes_the_loops_by_itself_and_repeats_itself(cost):
    pytest.importorskip("triton")
    x, y, *_ = problem("cuda", 3000, 2000, 2)
    assert TritonHalfSteps.fits(x, cost)
    values = [solve_samples(x, y, cost, 0.3, backend="streaming").value for _ in range(2)]
    assert torch.equal(*values)
    dense = solve_samples(x, y, cost, 0.3, backend="dense").value
    assert torch.isclose(values[0], dense, rtol=1e-4)
