"""Problems whose cost matrix fits nowhere: time an iteration and memory."""

import time

import torch

from benchmarks.gpu import clock
from privgan.sinkhorn import L1, SquaredL2, solve_samples

WITH_GRADIENT = 100_000  # points: at ten times as many it alone would take a quarter of a minute


def measure(record, device, tiny, deadline):
    for n in (500, 2000) if tiny else (100_000, 1_000_000):
        for name, cost in {"SquaredL2": SquaredL2(), "L1": L1()}.items():
            if time.monotonic() < deadline - (1 if tiny else 12):
                record.guarded(f"{name} n={n}", iterations, device, cost, n)


def iterations(device, cost, n):
    """From two solves of few iterations: what they share falls out."""
    g = torch.Generator(device).manual_seed(0)
    t = 2 * torch.pi * torch.rand((2, n), device=device, generator=g)
    x, y = torch.stack([t.cos(), t.sin()], 2)
    y = y + 0.3 * torch.randn(y.shape, device=device, generator=g)

    def run(count, grad=False):
        points = x.clone().requires_grad_(grad)
        settings = {"tol": 1e-12, "max_iter": count, "backend": "streaming"}
        solved = solve_samples(points, y, cost, 0.1, **settings)
        if grad:
            solved.value.backward()
        return solved

    run(1)  # compiled
    if device != "cpu":
        torch.cuda.reset_peak_memory_stats()
    one = clock.seconds(device, lambda: run(1))
    found = []
    few = clock.seconds(device, lambda: found.append(run(3)))
    both = clock.seconds(device, lambda: run(1, grad=True)) if n <= WITH_GRADIENT else None
    peak = torch.cuda.max_memory_allocated() if device != "cpu" else None
    each = (few - one) / 2
    return {
        "seconds_per_iteration": each,
        "pairs_per_second": 2 * n * n / each,  # every cost is formed twice
        "gradient_seconds": both and both - one,
        "error_after_3": found[0].error,
        "peak_bytes": peak,
    }
