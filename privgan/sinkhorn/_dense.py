"""Half-steps from a stored cost matrix: the kernel is exponentiated once, then multiplied.

At psi + log b = psi0 + small, b exp(phi + psi - C / reg) is a stored matrix K scaled by rows and
columns, with K_ij = exp(phi0_i + psi0_j - C_ij / reg). K is formed by columns first: phi0 = 0,
psi0_j = min_i C_ij / reg, so that every column's largest entry is 1. Its column sums give the
iteration's first psi, the c-transform of phi = 0: the optimum itself once x follows the law
behind y. Should psi drift from psi0, or a row be too faint in the kernel, K is formed again by
rows ("absorbed"), at phi0_i = min_j (C_ij / reg - psi0_j). Neither underflows, whatever C / reg and
however small a weight is.
"""

import math
import threading
from typing import Any

import torch
from torch import Tensor

from privgan.sinkhorn._iteration import Solution
from privgan.sinkhorn._precision import SUMS, TOO_SMALL, extent
from privgan.sinkhorn._search import search
from privgan.sinkhorn._threads import shares

DRIFT = 20.0  # nats: exp(+-20) stays far inside the float32 range
# Kernel entries below e^-60 count as zero: beside a row's or column's largest they are lost, and
# their products with weights would be denormal numbers, a hundred times slower.
FLUSH = -60.0
TILE = 2**22  # entries formed at a time in float64
LIGHTEST = 1e-300  # a weight less, 0 too, is as much: its logarithm is a number
FAINT = math.exp(-30.0)  # a row of a kernel formed by columns whose sum is less is formed again


# Storage of this many entries is kept: on a CPU, mapping fresh memory costs as much as filling it.
KEEP_ENTRIES = 2**24
_kept = threading.local()


def kept(name: str, like: Tensor, n: int, m: int) -> Tensor:
    """Uninitialised (n, m) memory; up to `KEEP_ENTRIES` the same piece at every call.

    Each thread and each CUDA stream has its own: nothing orders what two of them do.
    """
    if n * m > KEEP_ENTRIES:
        return like.new_empty((n, m))
    stream = torch.cuda.current_stream(like.device).cuda_stream if like.is_cuda else ""
    key = f"{name} {like.dtype} {like.device} {stream}"
    flat = getattr(_kept, key, None)
    if flat is None or len(flat) < n * m:
        flat = like.detach().new_empty(n * m)
        setattr(_kept, key, flat)
    return flat[: n * m].view(n, m)


class DenseHalfSteps:
    """``psi -> (phi, log q)`` for a cost matrix (n, m) on any device; see `_iteration`.

    kernel: storage for K, (n, m), overwritten. a, b: weights, float64.
    """

    def __init__(self, cost: Tensor, reg: float, a: Tensor, b: Tensor, kernel: Tensor):
        self.cost, self.reg, self.scale = cost, reg, 1.0 / reg
        self.a, self.b, self.log_b = a, b, b.clamp_min(LIGHTEST).log()
        self.passes = _kind(kernel)(cost, kernel, self.scale, a, self.log_b)
        self.formed = False  # whether there is a kernel yet, at phi0 (n,) and psi0 (m,)
        self.noise = SUMS * torch.finfo(kernel.dtype).eps

    def solve(self, psi: Tensor | None, tol: float, max_iter: int, look: bool = True) -> Solution:
        """The iteration from ``psi`` (m,), or from the c-transform of phi = 0."""
        return search(self, psi, tol, max_iter, look)

    def spread(self) -> float:
        """How far costs differ, over reg."""
        low, high = extent(self.cost)
        return (high - low) * self.scale

    def at(self, times: float) -> "DenseHalfSteps":
        """The same for ``times`` reg, in the same storage."""
        self.formed = False
        return DenseHalfSteps(self.cost, self.reg * times, self.a, self.b, self.passes.kernel)

    def start(self, look: bool = True) -> Tensor:
        """-log sum_i a_i exp(-C_ij / reg), (m,)."""
        self.phi0 = torch.zeros_like(self.a)
        self.psi0 = self.cost.amin(0).double().mul_(self.scale)
        self.faint, self.formed = FAINT, True
        log_sums = self.passes.form(self.phi0, self.psi0).log() - self.psi0
        if look:
            log_sums = self._repaired(log_sums, self.phi0, torch.zeros_like(self.b))
        return -log_sums

    def _absorb(self, psi: Tensor) -> None:
        self.psi0 = psi + self.log_b
        self.phi0 = self.passes.row_minima(self.psi0)
        self.faint, self.formed = 0.0, True
        self.passes.form(self.phi0, self.psi0)

    def __call__(self, psi: Tensor) -> tuple[Tensor, Tensor]:
        if not self.formed:
            self._absorb(psi)
        found = self.passes.half_steps(self.phi0, self.psi0, psi, self.faint)
        if found is None:
            self._absorb(psi)
            found = self.passes.half_steps(self.phi0, self.psi0, psi, self.faint)
        if found is None:
            raise ValueError(TOO_SMALL)
        phi, log_q = found
        return phi, self._repaired(log_q, phi, psi)

    def attempt(self, psi: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The same, and whether it can be trusted, without a look from the host."""
        if not self.formed:
            self._absorb(psi)
        phi, log_q, inside = self.passes.attempt(self.phi0, self.psi0, psi, self.faint)
        return phi, log_q, inside & log_q.sum().isfinite()

    def plan(self, solution: Solution) -> Tensor:
        """The plan of a solution, (n, m), written over the kernel."""
        psi, look = solution.psi + self.log_b, not isinstance(solution.error, Tensor)
        if not self.formed or (look and _drift(psi, self.psi0)[0].abs().max() > DRIFT):
            self._absorb(solution.psi)
        drift, shift = _drift(psi, self.psi0)
        rows = self.a * (solution.phi - self.phi0 + shift).exp()
        kernel = self.passes.kernel
        return kernel.mul_(rows.to(kernel)[:, None]).mul_(drift.exp().to(kernel))

    def _repaired(self, log_sums: Tensor, phi: Tensor, psi: Tensor) -> Tensor:
        """log sum_i a_i exp(phi_i + psi_j - C_ij / reg), with what has underflowed summed anew."""
        if math.isfinite(log_sums.sum()):
            return log_sums
        lost = (~log_sums.isfinite()).nonzero()[:, 0]
        weighted = (phi + self.a.log())[:, None]
        for part in lost.split(max(1, TILE // len(phi))):
            exponents = weighted - self.scale * self.cost[:, part].double()
            log_sums[part] = torch.logsumexp(exponents, 0) + psi[part]
        return log_sums


def _kind(kernel: Tensor) -> type["_Passes"]:
    return _CPUPasses if kernel.device.type == "cpu" else _Passes


def _drift(psi: Tensor, psi0: Tensor) -> tuple[Tensor, Tensor]:
    """psi - psi0 less its mean, and that mean, which only moves phi the other way."""
    drift = psi - psi0
    shift = drift.mean()
    return drift - shift, shift


class _Passes:
    """The passes over the matrix in torch operations, for large matrices on CUDA."""

    def __init__(self, cost: Tensor, kernel: Tensor, scale: float, a: Tensor, log_b: Tensor):
        self.cost, self.kernel, self.scale, self.a, self.log_b = cost, kernel, scale, a, log_b

    def form(self, phi0: Tensor, psi0: Tensor) -> Tensor:
        """Fill the kernel; its column sums weighted with a, (m,)."""
        self._log_kernel(phi0, psi0)
        # Clamped, not infinite, on the way: some exp take a hundred times longer over infinity.
        torch.threshold_(self.kernel.exp_(), 1.001 * math.exp(FLUSH), 0.0)
        return (self.a.to(self.kernel) @ self.kernel).double()

    def _log_kernel(self, phi0: Tensor, psi0: Tensor) -> None:
        rows = max(1, TILE // len(psi0))
        for start in range(0, len(phi0), rows):  # in float64, but not all of it at once
            tile = slice(start, start + rows)
            exponent = (phi0[tile, None] + psi0).sub_(self.scale * self.cost[tile].double())
            self.kernel[tile] = exponent.clamp_min_(FLUSH)

    def row_minima(self, psi: Tensor) -> Tensor:
        """min_j (C_ij / reg - psi_j), (n,)."""
        tiles = self.cost.split(max(1, TILE // len(psi)))
        return torch.cat([(tile.double() * self.scale).sub_(psi).amin(1) for tile in tiles])

    def half_steps(
        self, phi0: Tensor, psi0: Tensor, psi: Tensor, faint: float
    ) -> tuple[Tensor, Tensor] | None:
        """phi and log q, or None if the kernel cannot hold them: it must be formed anew."""
        phi, log_q, inside = self.attempt(phi0, psi0, psi, faint)
        return (phi, log_q) if inside else None

    def attempt(
        self, phi0: Tensor, psi0: Tensor, psi: Tensor, faint: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        """phi, log q, and whether the kernel can hold them."""
        drift, shift = _drift(psi + self.log_b, psi0)
        rows = (self.kernel @ drift.exp().to(self.kernel)).double()
        columns = (self.kernel.T @ (self.a / rows).to(self.kernel)).double()
        inside = (drift.abs().max() <= DRIFT) & (rows.min() >= faint)
        return phi0 - shift - rows.log(), columns.log() + (psi - psi0 - shift), inside


class _CPUPasses(_Passes):
    """The same passes, compiled: each reads the matrix once."""

    def __init__(self, cost: Tensor, kernel: Tensor, scale: float, a: Tensor, log_b: Tensor):
        from privgan.sinkhorn import _dense_loops  # numba takes a while to import

        super().__init__(cost, kernel, scale, a, log_b)
        self.loops: Any = _dense_loops
        m = kernel.shape[1]
        scratch = kernel.new_empty(m), a.new_empty((shares(kernel.numel()), m))
        self.arrays = [t.numpy() for t in (a, log_b, *scratch)]

    def _log_kernel(self, phi0: Tensor, psi0: Tensor) -> None:
        self.loops.log_kernel(self.cost, self.scale, phi0, psi0, FLUSH, self.kernel)

    def row_minima(self, psi: Tensor) -> Tensor:
        minima = psi.new_empty(len(self.cost))
        self.loops.row_minima(self.cost, self.scale, psi, minima)
        return minima

    def half_steps(
        self, phi0: Tensor, psi0: Tensor, psi: Tensor, faint: float
    ) -> tuple[Tensor, Tensor] | None:
        phi, log_q = torch.empty_like(phi0), torch.empty_like(psi)
        inside = self.loops.half_steps(
            self.kernel, phi0, psi0, psi, DRIFT, faint, *self.arrays, phi, log_q
        )
        return (phi, log_q) if inside else None
