"""Time an iteration takes on a stored matrix, by how the kernel is shared out, beside its floor."""

import itertools
from unittest.mock import patch

import torch

from benchmarks.gpu import clock
from privgan.sinkhorn import _triton_dense
from privgan.sinkhorn._triton_dense import Iteration


def measure(record, device, tiny, deadline):
    if device == "cpu":
        record["left out"] = "only Triton on a device has these launches"
        return
    for n in (1000, 1024, 4096, 16384):
        record.guarded(f"n={n} launches", launches, device, n)
    for n in (1024, 4096, 16384):
        for tile, programs in itertools.product((4096, 8192), (1, 2, 4)):
            key = f"n={n} tile={tile} programs={programs}"
            record.guarded(key, iterations, device, n, tile, programs)
    for warps in (2, 4):
        record.guarded(f"n=1024 warps={warps}", iterations, device, 1024, 8192, 2, warps)


def prepared(device, n):
    cost, kernel = torch.rand((n, n), device=device), torch.empty((n, n), device=device)
    iteration = Iteration(cost, kernel).recorded()
    weights = torch.full((n,), 1.0 / n, dtype=torch.float64, device=device)
    iteration.load(weights, weights, 100.0, 1e-300, 10**9)
    iteration.open()
    return iteration


def iterations(device, n, tile, programs, warps=8):
    """Of replays in which every iteration works, and of those after the end."""
    with (
        patch.object(_triton_dense, "TILE", tile),
        patch.object(_triton_dense, "PER_MULTIPROCESSOR", programs),
        patch.object(_triton_dense, "WARPS", warps),
    ):
        iteration = prepared(device, n)
    count = 20 if n > 4096 else 100
    replays = lambda: [iteration.group() for _ in range(count // 4)]  # noqa: E731

    def working():
        iteration.numbers[0] = 0.0  # it stalls at once, rounding being all that is left
        iteration.numbers[iteration.loops.STALLED.value] = -1e9
        replays()

    each = clock.median(device, working, runs=9) / count
    iteration.numbers[0] = 1.0
    return {
        "seconds": each,
        "idle_seconds": clock.median(device, replays, runs=9) / count,
        "bytes_per_second": 4 * n * n / each,
    }


def launches(device, n):
    """Microseconds of each kernel in an iteration, from a trace."""
    from torch.profiler import ProfilerActivity, profile

    iteration = prepared(device, n)
    iteration.group()
    iteration.numbers[iteration.loops.STALLED.value] = -1e9
    iteration.numbers[0] = 0.0
    with profile(activities=[ProfilerActivity.CUDA]) as trace:
        for _ in range(5):
            iteration.group()
        torch.cuda.synchronize()
    return {event.key[:40]: event.device_time_total / event.count for event in trace.key_averages()}
