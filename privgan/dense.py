"""Half-steps from a stored cost matrix: the kernel is exponentiated once, then multiplied.

At psi = psi0 + small, exp(phi + psi - C / reg) is a stored matrix K scaled by rows and
columns, with K_ij = exp(phi0_i + psi0_j - C_ij / reg) and phi0_i = min_j (C_ij / reg - psi0_j),
so that every row of K has largest entry 1. The first psi0 is the c-transform of phi = 0,
-log sum_i a_i exp(-C_ij / reg): the optimum itself once x follows the law behind y, and the
largest entry of every column is then at least 1 / n, so nothing underflows, whatever C / reg
is. K is formed again ("absorbed") when psi drifts.
"""

import math

import torch
from torch import Tensor

from privgan import kernels
from privgan.semidual import Solution

DRIFT = 20.0  # nats: exp(+-20) stays far inside the float32 range


class DenseHalfSteps:
    """``psi -> (phi, log q)`` for a cost matrix (n, m) on any device; see `semidual`.

    kernel: storage for K, (n, m), overwritten. a, b: weights, float64.
    """

    def __init__(self, cost: Tensor, reg: float, a: Tensor, b: Tensor, kernel: Tensor):
        self.cost, self.scale, self.kernel = cost, 1.0 / reg, kernel
        self.a, self.b = a, b
        passes = _CPUPasses if cost.device.type == "cpu" else _Passes
        self.passes = passes(cost, kernel)
        self.psi0: Tensor | None = None

    def start(self) -> Tensor:
        return self.passes.transform(self.scale, self.a)

    def _absorb(self, psi: Tensor) -> None:
        self.psi0, self.phi0 = psi, self.passes.absorb(self.scale, psi)

    def __call__(self, psi: Tensor) -> tuple[Tensor, Tensor]:
        if self.psi0 is None:
            self._absorb(psi)
        found = self.passes.half_steps(self.phi0, self.psi0, psi, self.a, self.b)
        if found is None:
            self._absorb(psi)
            found = self.passes.half_steps(self.phi0, self.psi0, psi, self.a, self.b)
        phi, log_q = found
        if not math.isfinite(log_q.sum()):
            log_q = self._exact_log_columns(phi) + psi
        return phi, log_q

    def plan(self, solution: Solution) -> Tensor:
        """The plan of a solution, (n, m), written over the kernel."""
        drift, shift = _drift(solution.psi, self.psi0)
        if drift.abs().max() > DRIFT:
            self._absorb(solution.psi)
            drift, shift = _drift(solution.psi, self.psi0)
        rows = self.a * (solution.phi - self.phi0 + shift).exp()
        columns = self.b * drift.exp()
        return self.kernel.mul_(rows.to(self.kernel)[:, None]).mul_(columns.to(self.kernel))

    def _exact_log_columns(self, phi: Tensor) -> Tensor:
        """log sum_i a_i exp(phi_i - C_ij / reg) for columns whose kernel entries underflowed."""
        shifted = (phi + self.a.log())[:, None] - self.scale * self.cost
        return torch.logsumexp(shifted, 0)


def _drift(psi: Tensor, psi0: Tensor) -> tuple[Tensor, Tensor]:
    """psi - psi0 less its mean, and that mean, which only moves phi the other way."""
    drift = psi - psi0
    shift = drift.mean()
    return drift - shift, shift


class _Passes:
    """The three passes over the matrix in torch operations, for CUDA."""

    def __init__(self, cost: Tensor, kernel: Tensor):
        self.cost, self.kernel = cost, kernel

    def transform(self, scale: float, a: Tensor) -> Tensor:
        """-log sum_i a_i exp(-scale C_ij), (m,)."""
        return -torch.logsumexp(a.log()[:, None] - scale * self.cost.double(), 0)

    def absorb(self, scale: float, psi: Tensor) -> Tensor:
        exponent = psi - scale * self.cost.double()
        least = -exponent.amax(1)
        self.kernel.copy_((exponent + least[:, None]).exp_())
        return least

    def half_steps(
        self, phi0: Tensor, psi0: Tensor, psi: Tensor, a: Tensor, b: Tensor
    ) -> tuple[Tensor, Tensor] | None:
        """phi and log q, or None if psi is too far from psi0 for the kernel's precision."""
        drift, shift = _drift(psi, psi0)
        if drift.abs().max() > DRIFT:
            return None
        rows = (self.kernel @ (b * drift.exp()).to(self.kernel)).double()
        columns = (self.kernel.T @ (a / rows).to(self.kernel)).double()
        return phi0 - shift - rows.log(), columns.log() + drift


class _CPUPasses(_Passes):
    """The same passes, compiled: each reads the matrix once."""

    def __init__(self, cost: Tensor, kernel: Tensor):
        super().__init__(cost, kernel)
        shares = torch.get_num_threads()
        m = kernel.shape[1]
        self.scratch = kernel.new_empty(m), kernel.new_empty((shares, m))

    def transform(self, scale: float, a: Tensor) -> Tensor:
        partial = self.scratch[1].double()
        kernels.column_minima(self.cost, scale, partial)
        least = partial.amin(0)
        kernels.column_sums(self.cost, scale, least, a, partial)
        return least - partial.sum(0).log()

    def absorb(self, scale: float, psi: Tensor) -> Tensor:
        phi = psi.new_empty(self.kernel.shape[0])
        kernels.absorb(self.cost, scale, psi, phi, self.kernel)
        return phi

    def half_steps(
        self, phi0: Tensor, psi0: Tensor, psi: Tensor, a: Tensor, b: Tensor
    ) -> tuple[Tensor, Tensor] | None:
        phi, log_q = torch.empty_like(phi0), torch.empty_like(psi)
        settings = phi0, psi0, psi, a, b, DRIFT
        inside = kernels.half_steps(self.kernel, *settings, *self.scratch, phi, log_q)
        return (phi, log_q) if inside else None
