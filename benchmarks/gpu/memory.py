"""Peak memory of a stored problem in many dimensions, value and gradients in both sides."""

import torch

from benchmarks.gpu import clock
from privgan.sinkhorn import L1, SquaredL2, solve_samples


def measure(record, device, tiny, deadline):
    n, d = (256, 20) if tiny else (4096, 784)
    for name, cost in {"L1": L1(), "SquaredL2": SquaredL2()}.items():
        record.guarded(f"{name} n={n} d={d}", peak, device, cost, n, d)


def peak(device, cost, n, d):
    """In bytes, beside those of one cost matrix."""
    g = torch.Generator(device).manual_seed(0)
    x, y = torch.randn((2, n, d), device=device, generator=g)
    if device != "cpu":
        torch.cuda.reset_peak_memory_stats()

    def run():
        points = x.clone().requires_grad_(), y.clone().requires_grad_()
        solve_samples(*points, cost, 2.0 * d, tol=1e-3).value.backward()

    run()
    found = {"seconds": clock.median(device, run, runs=3), "matrix_bytes": 4 * n * n}
    return found | {"peak_bytes": torch.cuda.max_memory_allocated() if device != "cpu" else None}
