import subprocess
import sys

import pytest
import torch

from privgan.sinkhorn import L1, Cost, Euclidean, SquaredL2, _problem, solve_samples


class Bumpy(Cost):
    """Neither a norm nor symmetric: minus the log of a made-up channel."""

    def matrix(self, x, y):
        return (1.2 * x[:, None] - y[None]).abs().pow(1.5).sum(-1)


COSTS = [SquaredL2(), L1(), Euclidean(), Bumpy(), Bumpy().T]


def problem(n, m, d, dtype):
    g = torch.Generator().manual_seed(n + d)
    x, y = torch.rand((n, d), generator=g), torch.rand((m, d), generator=g)
    y += 0.3 * torch.randn((m, d), generator=g)
    return x.to(dtype).requires_grad_(), y.to(dtype).requires_grad_()


@pytest.mark.parametrize("cost", COSTS, ids=repr)
@pytest.mark.parametrize("d", [1, 2, 3, 15, 16, 17, 784])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_streaming_equals_dense(monkeypatch, cost, d, dtype):
    monkeypatch.setattr(_problem, "TILE", 500)  # tiles that divide nothing
    n, m, reg = 67, 53, 0.3 * d**0.5
    found = {}
    for backend in ("dense", "streaming"):
        x, y = problem(n, m, d, dtype)
        r = solve_samples(x, y, cost, reg, tol=1e-5, backend=backend)
        assert r.converged
        r.value.backward()
        found[backend] = [r.value.detach(), r.f - r.f.mean(), r.g - r.g.mean(), x.grad, y.grad]
    for dense, streamed in zip(*found.values(), strict=True):
        assert (dense - streamed).abs().max() <= 5e-4 * dense.abs().max()


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (9, 1), (8, 8)])
def test_small_and_lopsided_sizes(size):
    x, y = problem(*size, 2, torch.float32)
    dense, streamed = (
        solve_samples(x, y, L1(), 0.5, tol=1e-5, backend=b) for b in ("dense", "streaming")
    )
    assert torch.isclose(dense.value, streamed.value, rtol=1e-5)


def test_columns_that_underflow_are_summed_in_the_log_domain():
    x = torch.linspace(0, 1, 50)[:, None]
    y = torch.cat([x[:-1], torch.tensor([[40.0]])])
    r = solve_samples(x, y, SquaredL2(), 0.05, tol=1e-4, backend="streaming")
    exact = solve_samples(x.double(), y.double(), SquaredL2(), 0.05, tol=1e-8)
    assert r.converged
    assert torch.isclose(r.value.double(), exact.value, rtol=1e-5)


def test_zero_weights_stream_too():
    x, y = (t.detach() for t in problem(40, 30, 2, torch.float32))
    a = torch.zeros(40)
    a[::4] = 0.1
    streamed = solve_samples(x, y, L1(), 0.5, a, tol=1e-5, backend="streaming")
    kept = solve_samples(x[::4], y, L1(), 0.5, tol=1e-5)
    assert torch.isclose(streamed.value, kept.value, rtol=1e-5)


def test_auto_streams_beyond_its_memory_budget(monkeypatch):
    x, y = problem(30, 30, 2, torch.float32)
    assert solve_samples(x, y, L1(), 0.5).plan().shape == (30, 30)
    monkeypatch.setattr("privgan.sinkhorn.solver.DENSE_BYTES", 1000)
    with pytest.raises(ValueError, match="no stored plan"):
        solve_samples(x, y, L1(), 0.5).plan()


PEAK = """
import resource, sys, torch
from privgan.sinkhorn import L1, Cost, solve_samples
class Bumpy(Cost):
    def matrix(self, x, y):
        return sum((x[:, k, None] - y[None, :, k]).abs() for k in range(x.shape[1]))
cost = {"L1": L1(), "Bumpy": Bumpy()}[sys.argv[1]]
x = torch.rand(400, 2, requires_grad=True)
solve_samples(x, x.detach() + 0.1, cost, 1.0, backend="streaming").value.backward()
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
x = torch.rand(20_000, 2, requires_grad=True)
y = x.detach() + 0.1
solve_samples(x, y, cost, 1.0, backend="streaming", max_iter=2).value.backward()
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.parametrize("cost", ["L1", "Bumpy"])
def test_memory_stays_far_below_the_matrix(cost):
    run = [sys.executable, "-c", PEAK, cost]
    grown = int(subprocess.run(run, check=True, capture_output=True, text=True).stdout)
    kibibytes = grown if sys.platform != "darwin" else grown // 1024
    assert kibibytes < 20_000**2 * 4 / 1024 / 5  # the matrix alone would be 1.6 GB


def test_an_unknown_backend_is_named():
    with pytest.raises(ValueError, match="backend must be 'auto', 'dense' or 'streaming'"):
        solve_samples(torch.zeros(2, 2), torch.zeros(2, 2), L1(), 1.0, backend="keops")
