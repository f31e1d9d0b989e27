"""A dense half-step in buffers that stay in place, which CUDA records once and plays back.

At batch size a half-step is some twenty launches, each longer than its work. A CUDA graph
repeats all of them in one launch, but on the addresses it was recorded with: what goes in is
copied there, and what comes out, the two numbers that say whether the kernel can be trusted
among it, returns to the host as one vector in one transfer.
"""

import functools
import threading
from collections.abc import Callable

import torch
from torch import Tensor

# Kernel matrices of more entries are no longer bound by launches. Smaller ones lie in storage
# that outlives a solve, so the next solve of that size finds its recording again.
LAUNCH_BOUND = 2**22
KEEP = 8  # recordings kept in a thread, one for each size


class HalfStep:
    """psi (m,) to phi (n,) and log q (m,) with a kernel matrix (n, m) that stays in place."""

    def __init__(self, kernel: Tensor):
        n, m = kernel.shape
        self.kernel = kernel
        on = {"dtype": torch.float64, "device": kernel.device}
        self.inputs = [torch.zeros(size, **on) for size in (n, m, n, m, m)]
        self.results = torch.zeros(2 + n + m, **on)
        self.play = _recorded(self.run, kernel.device) if kernel.is_cuda else self.run

    def load(self, phi0: Tensor, psi0: Tensor, a: Tensor, b: Tensor) -> None:
        """What the kernel was formed at, and the weights; float64."""
        for buffer, values in zip(self.inputs, (phi0, psi0, a, b), strict=False):
            buffer.copy_(values)

    def run(self) -> None:
        """The step, from buffers into a buffer; the host takes no part in it."""
        phi0, psi0, a, b, psi = self.inputs
        drift = psi - psi0
        shift = drift.mean()
        drift = drift - shift
        rows = (self.kernel @ (b * drift.exp()).to(self.kernel)).double()
        columns = (self.kernel.T @ (a / rows).to(self.kernel)).double()
        trust = torch.stack([drift.abs().max(), rows.min()])
        phi, log_q = phi0 - shift - rows.log(), columns.log() + drift
        torch.cat([trust, phi, log_q], out=self.results)

    def __call__(self, psi: Tensor) -> tuple[float, float, Tensor, Tensor]:
        """The largest drift, the smallest row sum, and phi and log q, all on the host."""
        self.inputs[-1].copy_(psi)
        self.play()
        trust, phi, log_q = self.results.cpu().split([2, *self.kernel.shape])
        return *trust.tolist(), phi, log_q


def _recorded(run: Callable[[], None], device: torch.device) -> Callable[[], None]:
    """Replays ``run`` as a CUDA graph."""
    graph, stream = torch.cuda.CUDAGraph(), _side_stream(device)
    with torch.cuda.device(device):
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(3):  # libraries set themselves up in their first calls
                run()
        torch.cuda.current_stream().wait_stream(stream)
        # thread_local: what other threads do on the device is no fault of this recording.
        with torch.cuda.graph(graph, stream=stream, capture_error_mode="thread_local"):
            run()
    return graph.replay


@functools.cache
def _side_stream(device: torch.device) -> torch.cuda.Stream:
    """Where recordings are made: one, for every stream gets a workspace of its own."""
    return torch.cuda.Stream(device)


_kept = threading.local()


def half_step(kernel: Tensor) -> HalfStep:
    """The step for a kernel matrix in this place and of this size, recorded if it is new."""
    kept = _kept.__dict__
    key = f"{kernel.device} {kernel.dtype} {kernel.data_ptr()} {tuple(kernel.shape)}"
    if key not in kept:
        kept[key] = HalfStep(kernel)
        for oldest in list(kept)[:-KEEP]:
            del kept[oldest]
    return kept[key]
