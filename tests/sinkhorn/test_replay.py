import pytest
import torch

from privgan.sinkhorn import SquaredL2, _dense, _replay, solve
from privgan.sinkhorn._dense import DenseHalfSteps
from privgan.sinkhorn._iteration import iterate

F64 = torch.float64


def problem(n=40, m=30, dtype=torch.float32, far=0.0):
    g = torch.Generator().manual_seed(n + m)
    x, y = torch.rand((n, 2), generator=g), torch.rand((m, 2), generator=g)
    y[-1] += far
    a, b = torch.rand(n, dtype=F64, generator=g), torch.rand(m, dtype=F64, generator=g)
    return SquaredL2().matrix(x.to(dtype), y.to(dtype)), a / a.sum(), b / b.sum()


def steps(monkeypatch, kind, cost, reg, a, b):
    monkeypatch.setattr(_dense, "_kind", lambda _: kind)
    return DenseHalfSteps(cost, reg, a, b, torch.empty_like(cost))


@pytest.mark.parametrize("dtype", [torch.float32, F64])
def test_the_step_that_is_recorded_is_the_ordinary_one(monkeypatch, dtype):
    cost, a, b = problem(dtype=dtype)
    ordinary, replayed = (
        steps(monkeypatch, kind, cost, 0.1, a, b)
        for kind in (_dense._Passes, _dense._ReplayedPasses)
    )
    psi = ordinary.start()
    assert torch.equal(psi, replayed.start())
    for _ in range(3):
        psi = psi + torch.randn(len(b), dtype=F64)
        for expected, found in zip(ordinary(psi), replayed(psi), strict=True):
            assert torch.allclose(expected, found, rtol=1e-12)


@pytest.mark.parametrize("far", [0.0, 12.0])  # the second drifts, and is absorbed again
def test_a_solve_is_the_same(monkeypatch, far):
    cost, a, b = problem(far=far)
    found = []
    for kind in (_dense._Passes, _dense._ReplayedPasses):
        half_steps = steps(monkeypatch, kind, cost, 0.05, a, b)
        found.append(iterate(half_steps, half_steps.start(), a, b, 1e-5, 5000))
    assert found[0].n_iter == found[1].n_iter
    assert found[1].error <= 1e-5
    assert torch.allclose(found[0].phi, found[1].phi)
    assert torch.allclose(found[0].psi, found[1].psi)


def test_a_kernel_that_cannot_hold_the_step_is_declined(monkeypatch):
    cost, a, b = problem()
    passes = steps(monkeypatch, _dense._ReplayedPasses, cost, 0.1, a, b).passes
    zeros = torch.zeros_like(a), torch.zeros_like(b)
    passes.form(*zeros)
    assert passes.half_steps(*zeros, zeros[1], 0.0) is not None
    assert passes.half_steps(*zeros, zeros[1], 2.0) is None
    far = torch.linspace(0, 100, len(b), dtype=F64)
    assert passes.half_steps(*zeros, far, 0.0) is None


def test_recordings_are_found_again_and_the_oldest_dropped():
    kernels = [torch.empty(2, size) for size in range(2, 5 + _replay.KEEP)]
    made = [_replay.half_step(kernel) for kernel in kernels]
    assert _replay.half_step(kernels[-1].view(2, -1)) is made[-1]
    assert _replay.half_step(kernels[0]) is not made[0]
    assert len(_replay._kept.__dict__) == _replay.KEEP


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.float32, F64])
def test_a_recording_follows_its_inputs(dtype):
    cost, a, b = problem(dtype=dtype)
    step = _replay.half_step(torch.exp(-cost).cuda())
    assert step.play != step.run
    for _ in range(3):
        step.load(torch.rand_like(a), torch.rand_like(b), a, b)
        *trust, phi, log_q = step(torch.rand_like(b))
        replayed = step.results.clone()
        step.run()
        assert torch.allclose(step.results, replayed, rtol=1e-6)
        assert torch.equal(torch.cat([torch.tensor(trust, dtype=F64), phi, log_q]), replayed.cpu())


@pytest.mark.gpu
@pytest.mark.parametrize("size", [(1, 1), (1, 9), (256, 256), (300, 200)])
def test_a_device_agrees_with_the_cpu_solve_after_solve(size):
    for reg in (0.5, 0.05, 0.5):
        cost, *weights = problem(*size)
        weights = [w.float() for w in weights]
        cpu = solve(cost, reg, *weights, tol=1e-5)
        device = solve(cost.cuda(), reg, *(w.cuda() for w in weights), tol=1e-5)
        assert device.converged
        assert torch.isclose(device.value.cpu(), cpu.value, rtol=1e-5)
        assert torch.allclose(device.plan().cpu(), cpu.plan(), atol=1e-5)
