"""The dense iteration in Triton loops against the host's, iteration for iteration."""

import math
from unittest.mock import patch

import pytest
import torch

from privgan.sinkhorn import _replay, _triton_dense, solve
from privgan.sinkhorn._dense import DenseHalfSteps, kept
from privgan.sinkhorn._iteration import iterate
from privgan.sinkhorn._triton_dense import TritonDenseHalfSteps

F64 = torch.float64


def problem(n, m, *, d=2, far=0.0, zero=False, dtype=F64):
    g = torch.Generator().manual_seed(n + m)
    x, y = torch.rand((n, d), dtype=F64, generator=g), torch.rand((m, d), dtype=F64, generator=g)
    y[-1] += far
    a, b = (torch.rand(k, dtype=F64, generator=g) + 1e-3 for k in (n, m))
    if zero:
        a[1::3], b[::4] = 0.0, 0.0
    return torch.cdist(x, y).square().to(dtype), a / a.sum(), b / b.sum()


def solved(device, size, reg, settings=None, tol=1e-6, max_iter=300, *, psi=None, programs=2):
    """Both solutions, and what the plan's own sums are off by on either side."""
    cost, a, b = problem(*size, **(settings or {}))
    steps = DenseHalfSteps(cost, reg, a, b, torch.empty_like(cost))
    start = steps.start() if psi is None else psi
    host = iterate(steps, start, a, b, tol, max_iter)
    there = [t.to(device) for t in (cost, a, b)]
    with patch.object(_triton_dense, "PER_MULTIPROCESSOR", programs):
        _replay.clear()
        kernel = kept("kernel", there[0], *cost.shape)
        steps = TritonDenseHalfSteps(there[0], reg, *there[1:], kernel)
        found = steps.solve(None if psi is None else psi.to(device), tol, max_iter)
    plan = steps.plan(found).double().cpu()
    return {
        "iterations": (host.n_iter, found.n_iter),
        "error": found.error,
        "columns": (plan.sum(0) - b).abs().sum().item(),
        "rows": (plan.sum(1) - a).abs().sum().item(),
        "psi": _apart(host.psi, found.psi.cpu()),
        "phi": _apart(host.phi, found.phi.cpu()),
        "by itself": steps.scale_kernel is not None,
    }


def _apart(s, t):
    """Potentials are unique up to a constant."""
    return (s - t - (s - t).mean()).abs().max().item()


SIZES = [(1, 1), (1, 9), (9, 1), (2, 16), (40, 17), (33, 70), (70, 33), (150, 20)]


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_it_takes_the_hosts_iterations(on, size):
    found = on(solved, size, 0.05)
    assert found["iterations"][0] == found["iterations"][1]
    assert found["columns"] == pytest.approx(found["error"], abs=1e-9)
    assert found["rows"] < 1e-12
    assert max(found["psi"], found["phi"]) < 1e-6
    assert found["by itself"]


WIDTHS = [(3, 100), (3, 400), (3, 600), (3, 1500), (2, 3000), (1, 4500), (1, 16384)]


@pytest.mark.parametrize(("n", "m"), WIDTHS)
def test_every_class_of_widths(on, n, m):
    """A row of the kernel is held whole: how many at a time, and by how many warps, depends."""
    found = on(solved, (n, m), 0.1, {"dtype": torch.float32}, 1e-3, 3)
    host, device = found["iterations"]
    assert abs(host - device) <= 1
    assert found["columns"] == pytest.approx(found["error"], abs=2e-5)
    assert found["rows"] < 1e-5
    assert found["psi"] < 1e-3


def test_many_programs_share_the_rows(on):
    found = [on(solved, (130, 20), 0.05, None, 1e-6, 300) for _ in range(2)]
    assert found[0] == found[1]  # no atomic additions: the same bits
    assert found[0]["iterations"][0] == found[0]["iterations"][1]


@pytest.mark.parametrize("settings", [{"far": 5.0}, {"zero": True}, {"far": 3.0, "zero": True}])
@pytest.mark.parametrize("reg", [0.5, 0.02])
def test_drift_and_zero_weights(on, settings, reg):
    """A far report makes the kernel be formed again, on the device's own decision."""
    found = on(solved, (40, 30), reg, settings)
    host, device = found["iterations"]
    assert abs(host - device) <= 1 + 0.05 * host
    assert found["columns"] == pytest.approx(found["error"], abs=1e-8)
    assert found["rows"] < 1e-10
    assert found["error"] <= 1e-6


def test_a_column_that_underflows_is_the_hosts_business(on):
    found = on(solved, (40, 30), 0.02, {"far": 12.0})
    assert found["columns"] == pytest.approx(found["error"], abs=1e-6)
    assert found["error"] <= 1e-6


def test_weak_noise_takes_hundreds_of_iterations_and_some_are_taken_back(on):
    found = on(solved, (30, 30), 0.003)
    host, device = found["iterations"]
    assert host > 40
    assert abs(host - device) <= 1 + 0.05 * host
    assert found["columns"] == pytest.approx(found["error"], abs=1e-8)


@pytest.mark.parametrize("most", [1, 2, 3, 4, 5, 9])
def test_the_last_iteration_is_the_one_announced(on, most):
    found = on(solved, (30, 30), 0.005, None, 1e-9, most)
    assert found["iterations"] == (most, most)
    assert found["columns"] == pytest.approx(found["error"], rel=1e-6)


def test_float32_is_honest(on):
    found = on(solved, (40, 30), 0.05, {"dtype": torch.float32}, 1e-4)
    assert found["error"] <= 1e-4
    assert found["columns"] == pytest.approx(found["error"], abs=1e-5)


def restarted(device):
    cost, a, b = (t.to(device) for t in problem(40, 30))
    kernel = torch.empty_like(cost)
    first = TritonDenseHalfSteps(cost, 0.05, a, b, kernel).solve(None, 1e-6, 300)
    again = TritonDenseHalfSteps(cost, 0.05, a, b, kernel).solve(first.psi, 1e-6, 300)
    return first.n_iter, again.n_iter, again.error


def test_a_warm_restart_takes_one_iteration(on):
    first, again, error = on(restarted)
    assert first > 3
    assert again == 1
    assert error <= 1e-6


def unwatched(device, max_iter):
    """With and without a look; and how often the host looked."""
    cost, a, b = (t.to(device) for t in problem(40, 30))
    kernel, looks = torch.empty_like(cost), []
    tolist = torch.Tensor.tolist
    with patch.object(torch.Tensor, "tolist", lambda t: looks.append(1) or tolist(t)):
        steps = TritonDenseHalfSteps(cost, 0.02, a, b, kernel)
        seen = steps.solve(None, 1e-6, max_iter)
        watched = len(looks)
        unseen = TritonDenseHalfSteps(cost, 0.02, a, b, kernel).solve(None, 1e-6, max_iter, False)
    return {
        "watched": watched,
        "unwatched": len(looks) - watched,
        "n_iter": (seen.n_iter, int(unseen.n_iter)),
        "error": (seen.error, float(unseen.error)),
        "psi": (seen.psi - unseen.psi).abs().max().item(),
        "on device": isinstance(unseen.error, torch.Tensor),
    }


@pytest.mark.parametrize("max_iter", [7, 60])
def test_the_host_looks_once_a_batch_or_not_at_all(on, max_iter):
    found = on(unwatched, max_iter)
    n_iter, unseen = found["n_iter"]
    assert found["watched"] <= 1 + math.ceil(n_iter / _triton_dense.GROUP)
    assert found["unwatched"] == 0
    assert unseen == n_iter
    assert found["error"][0] == found["error"][1]
    assert found["psi"] == 0.0
    assert found["on device"]


def reweighted(device):
    """Iterations to the end with weights that change, in place or for others."""
    cost, a, b = (t.to(device) for t in problem(40, 30))
    kernel = kept("kernel", cost, *cost.shape)
    counts = []
    for change in (None, None, lambda: a.copy_(a.flip(0)), lambda: b.copy_(b.flip(0))):
        if change:
            change()
        steps = TritonDenseHalfSteps(cost, 0.05, a, b, kernel)
        found = steps.solve(None, 1e-9, 300)
        plan = steps.plan(found)
        counts.append((plan.sum(1) - a).abs().sum().item() + (plan.sum(0) - b).abs().sum().item())
    return counts


def test_weights_are_those_of_the_call(on):
    assert max(on(reweighted)) < 1e-8


def overflowing(device):
    half = torch.full((2,), 0.5, dtype=F64, device=device)
    cost = torch.rand((2, 2), dtype=F64, device=device)
    steps = TritonDenseHalfSteps(cost, 1e-310, half, half, torch.empty_like(cost))
    try:
        steps.solve(None, 1e-3, 9)
    except ValueError as error:
        return str(error)


def test_costs_that_overflow_are_named(on):
    assert "cost / reg overflows" in on(overflowing)


@pytest.mark.gpu
def test_a_device_takes_the_loops_by_itself():
    pytest.importorskip("triton")
    cost, a, b = (t.cuda().float() for t in problem(300, 200))
    assert TritonDenseHalfSteps.fits(cost)
    assert not TritonDenseHalfSteps.fits(torch.empty((1, 2**15), device="cuda"))
    values = [solve(cost, 0.05, a, b, tol=1e-5).value for _ in range(2)]
    assert torch.equal(*values)
