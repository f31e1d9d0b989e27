"""Recordings and what they stand on; the CUDA graphs themselves only on a device."""

import threading

import pytest
import torch

from privgan.sinkhorn import SquaredL2, _dense, _replay, solve

F64 = torch.float64


class Made:
    """In the place of a recording."""

    def __init__(self, cost, kernel):
        self.cost, self.kernel, self.was_recorded = cost, kernel, False

    def recorded(self):
        self.was_recorded = True
        return self


@pytest.fixture(autouse=True)
def fresh():
    _replay.clear()
    yield
    _replay.clear()


def found(n, m):
    cost, kernel = (_dense.kept(name, torch.zeros(1), n, m) for name in ("cost", "kernel"))
    return _replay.found(cost, kernel, Made)


def test_a_recording_is_found_again_by_its_place_and_size():
    first = found(3, 4)
    assert first.was_recorded
    assert found(3, 4) is first
    assert found(4, 3) is not first
    cost = torch.zeros(3, 4)  # elsewhere: it will be copied to where the recording wants it
    kernel = _dense.kept("kernel", cost, 3, 4)
    assert _replay.found(cost, kernel, Made) is first
    assert first.cost.data_ptr() != cost.data_ptr()


def test_the_least_recently_used_recording_goes_first():
    found(20, 20)  # the storage grows no more, so that places stay the same
    made = [found(2, 2 + k) for k in range(_replay.KEEP)]
    assert found(2, 2) is made[0]  # used again, so now the second is the oldest
    found(20, 20)
    assert found(2, 2) is made[0]
    assert found(2, 3) is not made[1]


def test_large_matrices_are_not_recorded(monkeypatch):
    monkeypatch.setattr(_dense, "KEEP_ENTRIES", 10)
    assert not found(3, 4).was_recorded
    assert found(3, 4) is not found(3, 4)


def test_threads_share_neither_recordings_nor_storage():
    own, other = found(3, 4), []
    thread = threading.Thread(target=lambda: other.append(found(3, 4)))
    thread.start()
    thread.join()
    assert other[0] is not own
    assert other[0].kernel.data_ptr() != own.kernel.data_ptr()


def test_clearing_forgets():
    first = found(3, 4)
    _replay.clear()
    assert found(3, 4) is not first


def test_off_a_device_a_run_is_its_own_replay():
    runs = [lambda: None, lambda: None]
    assert _replay.recorded(runs, torch.zeros(1)) == runs


@pytest.mark.gpu
def test_a_recording_follows_its_inputs():
    x, y = torch.zeros((2, 5), device="cuda")

    def run():
        torch.add(x, 1.0, out=y)

    (play,) = _replay.recorded([run], x)
    for value in (1.0, 2.0):
        x.fill_(value)
        play()
        assert torch.equal(y, x + 1)


@pytest.mark.gpu
def test_streams_share_no_storage():
    like = torch.zeros(1, device="cuda")
    own = _dense.kept("kernel", like, 3, 4)
    with torch.cuda.stream(torch.cuda.Stream()):
        assert _dense.kept("kernel", like, 3, 4).data_ptr() != own.data_ptr()
    assert _dense.kept("kernel", like, 3, 4).data_ptr() == own.data_ptr()


def problem(n, m, dtype):
    g = torch.Generator().manual_seed(n + m)
    x, y = torch.rand((n, 2), generator=g), torch.rand((m, 2), generator=g)
    a, b = torch.rand(n, generator=g), torch.rand(m, generator=g)
    return SquaredL2().matrix(x, y).to(dtype), (a / a.sum()).to(dtype), (b / b.sum()).to(dtype)


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.float32, F64])
@pytest.mark.parametrize("size", [(1, 1), (1, 9), (256, 256), (300, 200), (1000, 1000)])
def test_a_device_agrees_with_the_cpu_solve_after_solve(size, dtype):
    for reg in (0.5, 0.01, 0.5):
        cost, *weights = problem(*size, dtype)
        cpu = solve(cost, reg, *weights, tol=1e-5)
        device = solve(cost.cuda(), reg, *(w.cuda() for w in weights), tol=1e-5)
        assert device.converged
        assert abs(device.n_iter - cpu.n_iter) <= 2 + 0.1 * cpu.n_iter
        assert torch.isclose(device.value.cpu(), cpu.value, rtol=1e-5)
        assert torch.allclose(device.plan().cpu(), cpu.plan(), atol=1e-5)
