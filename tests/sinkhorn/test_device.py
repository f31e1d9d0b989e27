"""The iteration as operations on tensors: what `iterate` does, without the host's help."""

import math
from itertools import pairwise

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from privgan.sinkhorn import L1, SquaredL2, _dense, _device
from privgan.sinkhorn._dense import DenseHalfSteps
from privgan.sinkhorn._device import DONE, GOING, OVERFLOW, REFUSED, State, advanced, begin
from privgan.sinkhorn._iteration import iterate
from privgan.sinkhorn._streaming import StreamingHalfSteps

F64 = torch.float64


def problem(seed, dtype=F64, reg=None):
    """Of any size and shape, its weights uneven, some of them zero, some reports far away."""
    g = torch.Generator().manual_seed(seed)
    n, m, d = (int(torch.randint(1, k, (), generator=g)) for k in (60, 60, 4))
    x, y = torch.rand((n, d), dtype=F64, generator=g), torch.rand((m, d), dtype=F64, generator=g)
    y += 0.1 * torch.randn(y.shape, dtype=F64, generator=g)
    if seed % 5 == 0:
        y[-1] += 5.0  # its column drifts, and is absorbed again
    a, b = (torch.rand(k, dtype=F64, generator=g) + 1e-3 for k in (n, m))
    if seed % 3 == 0:
        a[1:2], b[2:3] = 0.0, 0.0
    reg = 10 ** (-1.7 * torch.rand((), generator=g).item()) if reg is None else reg
    return (SquaredL2() if seed % 2 else L1()).matrix(x, y).to(dtype), a / a.sum(), b / b.sum(), reg


@pytest.fixture
def half_steps(monkeypatch):
    """As on a device that has no Triton."""
    monkeypatch.setattr(_dense, "_kind", lambda _: _dense._Passes)
    return lambda cost, reg, a, b: DenseHalfSteps(cost, reg, a, b, torch.empty_like(cost))


@pytest.mark.parametrize("tens", range(20))
def test_two_hundred_problems_take_the_hosts_iterations(half_steps, tens):
    for seed in range(10 * tens, 10 * tens + 10):
        cost, a, b, reg = problem(seed)
        found = []
        for search in (iterate, _device.iterate):
            steps = half_steps(cost, reg, a, b)
            solution = search(steps, steps.start(), a, b, 1e-6, 3000)
            found.append((solution, steps.plan(solution).clone()))
        (host, its_plan), (device, plan) = found
        assert device.error <= 1e-6
        assert abs(device.n_iter - host.n_iter) <= 1 + 0.05 * host.n_iter, seed
        assert (plan.sum(0) - b).abs().sum() == pytest.approx(device.error, abs=1e-9)
        assert (plan - its_plan).abs().sum() < 1e-4


@pytest.mark.parametrize("tol", [1e-2, 1e-4])
def test_float32_certificates_hold(half_steps, tol):
    for seed in range(1, 30, 2):
        cost, a, b, reg = problem(seed, torch.float32)
        steps = half_steps(cost, reg, a, b)
        solution = _device.iterate(steps, steps.start(), a, b, tol, 3000)
        density = solution.phi[:, None] + solution.psi - cost.double() / reg
        plan = a[:, None] * b * density.exp()
        assert solution.error <= tol
        assert (plan.sum(0) - b).abs().sum() + (plan.sum(1) - a).abs().sum() <= 1.05 * tol + 1e-5


def states(steps, psi, a, b, count, tol=1e-12):
    """The states of ``count`` iterations, refused ones done again."""
    state = begin(psi, len(a))
    for _ in range(count):
        found = steps.attempt(state.psi)
        if not found[2]:
            found = *steps(state.psi), torch.tensor(True)
        state = advanced(state, *found, a, b, tol, 10**6)
        yield state


def test_a_step_that_lowers_the_dual_is_taken_back(half_steps, monkeypatch):
    weights, calls = _device._weights, []

    def sabotaged(gram, count):
        calls.append(1)
        good = weights(gram, count)
        return -8.0 * good if len(calls) % 4 == 0 else good

    monkeypatch.setattr(_device, "_weights", sabotaged)
    cost, a, b, _ = problem(2)
    steps = half_steps(cost, 0.05, a, b)
    found = list(states(steps, steps.start(), a, b, 60))
    falls = [(early, late) for early, late in pairwise(found) if early.bold and not late.bold]
    assert len(falls) > 5
    for early, late in falls:
        assert torch.equal(late.psi, early.plain)
        assert late.entries == 0
        assert late.highest == early.highest
    assert all(late.highest >= early.highest for early, late in pairwise(found))
    assert all(late.error <= early.error for early, late in pairwise(found))
    assert found[-1].error < 1e-2


def test_nothing_changes_after_the_end(half_steps):
    cost, a, b, reg = problem(4)
    steps = half_steps(cost, reg, a, b)
    *_, last = states(steps, steps.start(), a, b, 40, tol=1e-3)
    assert last.status == DONE
    after = advanced(last, *steps.attempt(last.psi), a, b, 1e-9, 10**6)
    assert all(torch.equal(old, new) for old, new in zip(last, after, strict=True))


def test_a_refused_step_waits_for_the_host(half_steps):
    cost, a, b, reg = problem(4)
    steps = half_steps(cost, reg, a, b)
    state = begin(steps.start() + torch.linspace(0, 100, len(b), dtype=F64), len(a))
    found = steps.attempt(state.psi)
    assert not found[2]
    waiting = advanced(state, *found, a, b, 1e-3, 10)
    assert waiting.status == REFUSED
    assert waiting.n_iter == 0
    assert torch.equal(waiting.psi, state.psi)
    again = advanced(waiting, *found[:2], torch.tensor(True), a, b, 1e-3, 10)
    assert torch.equal(again.psi, state.psi)  # until the host has said that it goes on


def test_the_last_iteration_is_the_one_announced(half_steps):
    cost, a, b, _ = problem(4)
    for most in (1, 2, 5):
        steps = half_steps(cost, 0.02, a, b)
        solution = _device.iterate(steps, steps.start(), a, b, 1e-12, most)
        steps = half_steps(cost, 0.02, a, b)
        host = iterate(steps, steps.start(), a, b, 1e-12, most)
        assert solution.n_iter == most
        assert solution.error == pytest.approx(host.error, rel=1e-6)


def test_costs_that_overflow_are_named(half_steps):
    state = begin(torch.zeros(2, dtype=F64), 2)
    half = torch.full((2,), 0.5, dtype=F64)
    infinite = torch.full((2,), torch.inf, dtype=F64)
    assert (
        advanced(state, infinite, half, torch.tensor(True), half, half, 1e-3, 9).status == OVERFLOW
    )
    steps = half_steps(torch.rand(2, 2, dtype=F64), 1e-310, half, half)
    with pytest.raises(ValueError, match="cost / reg overflows"):
        _device.iterate(steps, steps.start(), half, half, 1e-3, 9)


class Looks(TorchDispatchMode):
    """Counts what would make the host wait for a device."""

    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, function, types, arguments=(), keywords=None):
        self.count += function is torch.ops.aten._local_scalar_dense.default
        return function(*arguments, **(keywords or {}))


@pytest.mark.parametrize("seed", [2, 8, 10, 16])
def test_the_host_looks_once_a_batch(half_steps, monkeypatch, seed):
    report, reports = State.report, []
    seen = lambda state: reports.append(int(state.status)) or report(state)  # noqa: E731
    monkeypatch.setattr(State, "report", seen)
    cost, a, b, _ = problem(seed)
    steps = half_steps(cost, 0.01, a, b)
    psi = steps.start()
    with Looks() as looks:
        solution = _device.iterate(steps, psi, a, b, 1e-6, 3000)
    assert solution.n_iter > 8
    refusals = reports.count(REFUSED)  # each has the host do the step again, with its own looks
    assert len(reports) <= 1 + refusals + math.ceil(solution.n_iter / _device.FIRST)
    assert looks.count <= len(reports) + 4 * refusals


def test_of_a_large_problem_no_iteration_is_wasted(half_steps, monkeypatch):
    cost, a, b, _ = problem(2)
    monkeypatch.setattr(_device, "QUEUED", cost.numel())
    steps, attempt, attempts = half_steps(cost, 0.05, a, b), DenseHalfSteps.attempt, []
    counted = lambda self, psi: attempts.append(1) or attempt(self, psi)  # noqa: E731
    monkeypatch.setattr(DenseHalfSteps, "attempt", counted)
    solution = _device.iterate(steps, steps.start(), a, b, 1e-6, 3000)
    assert len(attempts) == solution.n_iter > 3


@pytest.mark.parametrize("kind", ["dense", "streaming"])
def test_an_iteration_needs_no_host_at_all(monkeypatch, kind):
    """On the meta device nothing can be read, and whatever is made elsewhere cannot be mixed in."""
    monkeypatch.setattr(_dense, "_kind", lambda _: _dense._Passes)
    on = {"dtype": F64, "device": "meta"}
    a, b, phi, psi = (torch.empty(k, **on) for k in (5, 4, 5, 4))
    if kind == "dense":
        cost = torch.empty((5, 4), device="meta")
        steps = DenseHalfSteps(cost, 0.1, a, b, torch.empty_like(cost))
        steps.phi0, steps.psi0, steps.faint = phi, psi, 0.0
    else:
        points = torch.empty((5, 3), device="meta"), torch.empty((4, 3), device="meta")
        steps = StreamingHalfSteps(*points, SquaredL2(), 0.1, a, b)
    state = begin(psi, 5)
    for _ in range(3):
        state = advanced(state, *steps.attempt(state.psi), a, b, 1e-3, 9)
    assert state.status.device.type == "meta"
    assert GOING == 0


def test_a_start_of_ones_own_needs_no_kernel_before_it(half_steps):
    cost, a, b, reg = problem(1)
    first = half_steps(cost, reg, a, b)
    solution = _device.iterate(first, first.start(), a, b, 1e-8, 3000)
    again = _device.iterate(half_steps(cost, reg, a, b), solution.psi, a, b, 1e-6, 3000)
    assert again.n_iter == 1
    assert again.error <= 1e-6
