"""Solves on a device that is none: where they wait, what they hold, and that they are right."""

import pytest
import torch
from standin import StandIn, There

from privgan.sinkhorn import (
    L1,
    Cost,
    Euclidean,
    SquaredL2,
    _dense,
    _pairs,
    _problem,
    costs,
    solve,
    solve_batch,
    solve_samples,
    solver,
)
from privgan.streams import sent


class Lopsided(Cost):
    """Not symmetric, and its matrix holds n x m x d: c(x, y) = sum_k |x_k - 1.2 y_k|^1.5."""

    def matrix(self, x, y):
        return (x[:, None] - 1.2 * y).abs().pow(1.5).sum(2)


COSTS = [SquaredL2(), L1(), Euclidean(), Lopsided()]
BACKENDS = ["dense", "streaming"]


@pytest.fixture
def device():
    _dense._kept.__dict__.clear()
    with StandIn() as device:
        yield device
    _dense._kept.__dict__.clear()


def points(n, m, d, dtype=torch.float32):
    g = torch.Generator().manual_seed(d)
    return [torch.rand((k, d), dtype=torch.float64, generator=g).to(dtype) for k in (n, m)]


def test_what_a_device_refuses_and_where_it_makes_the_host_wait(device):
    here = torch.arange(3.0)
    there = here.to("cuda")
    assert isinstance(there, There)
    assert there.is_cuda
    assert sum(device.waits.values()) == 1  # a copy
    device.reset()
    with pytest.raises(RuntimeError, match="same device"):
        there + here
    with pytest.raises(TypeError, match="numpy"):
        there.numpy()
    assert torch.zeros(3, device="cuda").is_cuda
    sent(here, there.device)  # unawaited
    there[:2] + torch.tensor(2.0)  # a number is no tensor elsewhere
    there.where(there > 1, 0.0).sum()
    assert not device.waits
    for k, wait in enumerate(
        [
            lambda: there.sum().item(),
            lambda: bool((there > 1).any()),
            lambda: there[there > 1],
            lambda: there.cpu(),
            lambda: there.tolist(),
            lambda: there[torch.tensor([1])],
            lambda: torch.tensor([1.0], device="cuda"),
        ]
    ):
        wait()
        assert sum(device.waits.values()) == k + 1


@pytest.mark.parametrize("cost", COSTS, ids=repr)
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("d", [2, 20])
def test_a_solve_is_right_and_waits_as_often_as_said(device, cost, backend, d):
    """Twice for finite inputs, twice at most for the range of costs, once for the value's; and for
    a dense kernel once at its start and once for its plan; the rest are looks at the iteration."""
    x, y = points(40, 30, d)
    answers = []
    for place in ("cpu", "cuda"):
        own, other = (t.clone().to(place).requires_grad_() for t in (x, y))
        device.reset()
        r = solve_samples(own, other, cost, 0.1 * d, tol=1e-4, backend=backend)
        r.value.backward()
        waits = sum(device.waits.values())
        looks = sum(k for place, k in device.waits.items() if "_device.py" in place)
        answers.append([r.value.detach(), r.f, r.g, own.grad, other.grad])
    assert 1 <= looks <= 4
    assert waits - looks <= (6 if backend == "dense" else 6 + (backend == "streaming"))
    for here, there in zip(*answers, strict=True):
        assert there.is_cuda
        assert (there.cpu() - here.detach()).abs().max() <= 2e-3 * here.abs().max()


@pytest.mark.parametrize("cost", COSTS, ids=repr)
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("d", [2, 20])
def test_a_batch_waits_for_its_looks_or_for_nothing(device, monkeypatch, cost, backend, d):
    if backend == "streaming":
        monkeypatch.setattr(solver, "_fits", lambda x, m: lambda size: False)
    x, y = (t.to("cuda") for t in points(40, 30, d))
    values = []
    for look in (True, False):
        own = x.clone().requires_grad_()
        device.reset()
        r = solve_batch(own, y, cost, 0.1 * d, tol=1e-4, max_iter=60, look=look)
        r.value.backward()
        if not look:
            assert not device.waits
        values.append((r.value.item(), own.grad.tolist(), r.n_iter, r.error, r.converged))
    assert values[0] == values[1]


def test_a_large_batch_is_looked_at_for_no_pass_is_free(device, monkeypatch):
    from privgan.sinkhorn import _device

    x, y = (t.to("cuda") for t in points(40, 30, 2))
    monkeypatch.setattr(_device, "QUEUED", 40 * 30 * 59)
    solve_batch(x, y, L1(), 0.1, max_iter=60, look=False)
    assert any("_device.py" in place for place in device.waits)


def test_what_nobody_helped_pulls_nowhere(device):
    """The row of a point far away underflows, and the host is not there to form it anew."""
    x, y = (t.to("cuda") for t in points(40, 30, 2))
    x[-1] += 60.0
    x.requires_grad_()
    r = solve_batch(x, y, SquaredL2(), 0.01, max_iter=60, look=False)
    r.value.backward()
    assert r.error == float("inf")
    assert not r.converged
    assert not x.grad.any()


def test_a_given_matrix(device):
    x, y = points(40, 30, 2)
    matrix = L1().matrix(x, y)
    there = solve(matrix.to("cuda"), 0.1, tol=1e-5)
    assert there.value.item() == pytest.approx(solve(matrix, 0.1, tol=1e-5).value.item(), rel=1e-5)
    assert there.plan().is_cuda


@pytest.mark.parametrize("cost", COSTS, ids=repr)
@pytest.mark.parametrize(("tol", "size"), [(1e-3, 4), (1e-8, 8)])
@pytest.mark.parametrize("d", [2, 40])
def test_what_is_alive_is_what_auto_counts(device, monkeypatch, cost, tol, size, d):
    """No n x m x d, whatever the cost, and no more matrices than `solver._fits` counts."""
    n = m = 300
    monkeypatch.setattr(_problem, "TILE", 2**12)
    monkeypatch.setattr(_dense, "TILE", 2**12)
    for module in (_pairs, _problem, costs):
        monkeypatch.setattr(module, "HELD", 2**14)
    x, y = (t.to("cuda").requires_grad_() for t in points(n, m, d))
    device.reset()
    before = device.held()
    solve_samples(x, y, cost, 0.1 * d, tol=tol, max_iter=9, backend="dense").value.backward()
    rest = 16 * size * (n + m) * (d + 4) + 5 * 8 * 2**14  # points, potentials, tiles
    counted = 5 * n * m * size
    assert device.peak - before <= counted + rest
    monkeypatch.setattr(solver, "DENSE_BYTES", counted)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (0, 0))
    assert solver._fits(x, m)(size)
    assert not solver._fits(x, m + 1)(size)


@pytest.mark.parametrize("cost", COSTS, ids=repr)
@pytest.mark.parametrize("d", [2, 40])
def test_a_streamed_solve_holds_no_matrix(device, monkeypatch, cost, d):
    n = m = 300
    monkeypatch.setattr(_problem, "TILE", 2**12)
    for module in (_pairs, _problem, costs):
        monkeypatch.setattr(module, "HELD", 2**14)
    x, y = (t.to("cuda").requires_grad_() for t in points(n, m, d))
    device.reset()
    before = device.held()
    solve_samples(x, y, cost, 0.1 * d, max_iter=9, backend="streaming").value.backward()
    assert device.peak - before <= 64 * (n + m) * (d + 4) + 6 * 4 * 2**14
