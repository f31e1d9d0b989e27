r"""The Sinkhorn iteration on one potential, accelerated, guarded and certified.

In units of reg, with psi = g / reg on the report side, one full Sinkhorn iteration is

    phi_i = -log sum_j b_j exp(psi_j - C_ij / reg)           (rows of the plan sum to a)
    q_j   =  sum_i a_i exp(phi_i + psi_j - C_ij / reg)       (column sums over b)
    psi  <-  psi - log q

Its fixed points maximise the concave dual D(psi) = <a, phi(psi)> + <b, psi>, and b (1 - q) is
D's gradient. The pair (phi(psi), psi) has exact rows, so sum_j b_j |q_j - 1| is the whole
marginal error: the certificate comes with the iteration and costs nothing.

Acceleration is Anderson's (J. ACM 12, 1965; Walker and Ni, SIAM J. Numer. Anal. 49, 2011):
the next psi combines the last few so that their residuals cancel. Plain Sinkhorn converges
like the largest eigenvalue of a symmetric operator, this about like its square root. It has
no global guarantee of its own, so a step that lowers D is taken back and replaced by a plain
one, which never does.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from privgan.sinkhorn._precision import TOO_SMALL

SLACK = 1e-7  # a fall of the dual by less, relatively, is float32 rounding
LARGE = 100.0  # nats; a dual beyond counts from the first one on
DEPTH = 6  # past iterates combined; deeper pays little and conditions worse
STALL = 100  # iterations in which the error falls by less than 5%: rounding's floor, give up

# psi (m,) to phi (n,) and log q (m,), all float64.
HalfSteps = Callable[[Tensor], tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class Solution:
    """Potentials in units of reg (float64), their certified error, iterations taken.

    The last two are 0-dim tensors on a device at which the host has not looked. last: the psi that
    was tried last, which may be further on than the best, where the error stands still.
    """

    phi: Tensor
    psi: Tensor
    error: float | Tensor
    n_iter: int | Tensor
    last: Tensor


def iterate(
    half_steps: HalfSteps,
    psi: Tensor,
    a: Tensor,
    b: Tensor,
    tol: float,
    max_iter: int,
    noise: float = 0.0,
) -> Solution:
    """Iterate from ``psi`` (m,) until the L1 marginal error is at most ``tol``.

    noise: what rounding may do to potentials, absolutely.

    a (n,), b (m,): weights, float64. Stops early when rounding lets the error fall no
    further; the best iterate seen is returned with the error that belongs to it.

    The vectors are small: whatever the device, their algebra is compiled and done on the CPU,
    before a framework would have dispatched it.
    """
    from privgan.sinkhorn import _dense_loops  # numba takes a while to import

    device, current = psi.device, psi.cpu().numpy()
    a_host, b_host = a.cpu().numpy(), b.cpu().numpy()
    memory = _Memory(len(current))
    best = Solution(psi, psi, np.inf, 0, psi)
    highest, record, stalled = -np.inf, np.inf, 0
    plain, bold = current, False
    first, large = None, 0.0
    for n_iter in range(1, max_iter + 1):
        psi = torch.from_numpy(current).to(device)
        phi, log_q = half_steps(psi)
        residual, rows, columns = log_q.cpu().numpy(), phi.cpu().numpy(), current
        if first:
            rows, columns = rows - first[0], columns - first[1]
        error, dual = _dense_loops.measure(a_host, b_host, rows, columns, residual)
        if n_iter == 1 and abs(dual) > LARGE:  # an outlier's: no gain would show beside it
            first, large, dual = (rows, columns), LARGE, dual - dual
        if not bold and not np.isfinite(dual):
            raise ValueError(TOO_SMALL)
        if bold and not dual >= highest - SLACK * (large + abs(highest)) - noise:  # NaN included
            memory.forget()
            current, bold = plain, False  # a Sinkhorn step from the last iterate that was kept
            continue
        stalled += 1
        if error < 0.95 * record:
            record, stalled = error, 0
        if error < best.error:
            best = Solution(phi, psi, error, n_iter, psi)
        if best.error <= tol or stalled >= STALL:
            break
        highest = max(highest, dual)
        plain = current - residual
        current, bold = memory.combine(plain, residual), True
    return Solution(best.phi.to(device), best.psi, best.error, n_iter, psi)


class _Memory:
    """The last plain steps and residuals, and the combination that cancels most of them."""

    def __init__(self, size: int):
        self.steps, self.residuals = np.zeros((2, DEPTH, size))
        self.gram = np.zeros((DEPTH, DEPTH))
        self.count = 0

    def forget(self) -> None:
        self.count = 0

    def combine(self, step: np.ndarray, residual: np.ndarray) -> np.ndarray:
        """argmin over weights summing to 1 of |sum of weighted residuals|, applied to steps."""
        from privgan.sinkhorn import _dense_loops

        self.count += 1
        return _dense_loops.combine(
            self.steps, self.residuals, self.gram, self.count, step, residual
        )
