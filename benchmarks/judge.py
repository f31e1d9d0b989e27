"""The referee: true errors in float64, by code that shares nothing with any entrant.

A plan is given as such or by its potentials, ``P_ij = exp((f_i + g_j - C_ij) / reg) / (n m)``.
Its marginal error is the L1 distance of its row sums from 1/n plus that of its column sums from
1/m. Its gradient in x is held against the gradient of the converged plan, in relative L1 norm.
"""

import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from benchmarks.cases import BUILD, Case

MAX_ITERATIONS = 8000  # nobody is given more
CHUNK = 2**22  # entries of a float64 tile, 32 MB
ACCURACY = 1e-9  # marginal error of the reference plan
NEWTON_STEPS = 100
LARGEST = 4096  # beyond, no reference plan is stored: only the marginal error is judged


@dataclass(frozen=True)
class Reference:
    """The converged float64 solution of a case.

    gradient: (n, d) in x, or None beyond LARGEST points. value: cost units, None likewise.
    plain: marginal error after 1, 2, ... iterations of plain Sinkhorn from zero potentials.
    error: marginal error of the reference plan itself.
    """

    gradient: np.ndarray | None
    value: float | None
    plain: np.ndarray
    error: float

    def iterations(self, tol: float) -> int | None:
        """What plain Sinkhorn needs for ``tol``; None if MAX_ITERATIONS are not enough."""
        reached = np.flatnonzero(self.plain <= tol)
        return int(reached[0]) + 1 if len(reached) else None


@dataclass(frozen=True)
class Verdict:
    """True errors of an entrant's answer; NaN or infinity where its numbers are."""

    error: float
    gradient_error: float | None
    value_error: float | None


class Judge:
    """Judges answers to one case."""

    def __init__(self, case: Case):
        self.case = case
        self.reference = reference(case)
        self.x, self.y = (torch.from_numpy(points).double() for points in case.points())
        stored = _cost_path(case)
        self.stored = np.load(stored, mmap_mode="r") if stored.exists() else None

    def __call__(
        self,
        f: np.ndarray,
        g: np.ndarray,
        gradient: np.ndarray,
        value: float,
        plan: np.ndarray | None = None,
    ) -> Verdict:
        """f (n,), g (m,), gradient (n, d) in x, and the value, all in cost units; plan (n, m)."""
        truth = self.reference
        gradient_error = value_error = None
        if truth.gradient is not None:
            difference = np.abs(np.asarray(gradient, np.float64) - truth.gradient).sum()
            gradient_error = float(difference / np.abs(truth.gradient).sum())
            value_error = abs(float(value) - truth.value) / abs(truth.value)
        error = self._marginal_error(f, g) if plan is None else self._sums_error(plan)
        return Verdict(error, gradient_error, value_error)

    def _sums_error(self, plan: np.ndarray) -> float:
        n, m = plan.shape
        rows, columns = plan.sum(1, dtype=np.float64), plan.sum(0, dtype=np.float64)
        return float(np.abs(rows - 1.0 / n).sum() + np.abs(columns - 1.0 / m).sum())

    def _marginal_error(self, f: np.ndarray, g: np.ndarray) -> float:
        f, g = (torch.as_tensor(np.asarray(phi), dtype=torch.float64) for phi in (f, g))
        n, m = len(self.x), len(self.y)
        rows, columns = torch.empty(n, dtype=torch.float64), torch.zeros(m, dtype=torch.float64)
        step = max(1, CHUNK // m)
        for start in range(0, n, step):
            tile = slice(start, start + step)
            cost = (
                _cost(self.x[tile], self.y, self.case.p)
                if self.stored is None
                else torch.from_numpy(np.array(self.stored[tile]))
            )
            density = cost.neg_().add_(f[tile, None]).add_(g).div_(self.case.reg).exp_()
            rows[tile] = density.mean(1)
            columns += density.sum(0) / n
        return ((rows - 1.0).abs().mean() + (columns - 1.0).abs().mean()).item()


def reference(case: Case) -> Reference:
    """The reference of a case: computed once, then read from a file."""
    if case.n > LARGEST:
        # Iteration counts settle as n grows: those of a smaller sample are a good first guess,
        # and the judge sees whether it was good enough.
        smaller = reference(Case(case.d, LARGEST, case.mechanism, case.noise))
        return Reference(None, None, smaller.plain, smaller.error)
    path = BUILD / "references" / f"{case.key}.npz"
    if not path.exists():
        _save(path, np.savez, **vars(_solve(case)))
    with np.load(path) as stored:
        return Reference(
            stored["gradient"], float(stored["value"]), stored["plain"], float(stored["error"])
        )


def _cost_path(case: Case) -> Path:
    return BUILD / "costs" / f"{case.key}.npy"


def _save(path: Path, write: Callable, **arrays: np.ndarray) -> None:
    # Imported here: the timed processes never save, and need not load the package.
    from privgan.files import write_atomically

    buffer = io.BytesIO()
    write(buffer, **arrays)
    write_atomically(path, buffer.getvalue())


def _cost(x: Tensor, y: Tensor, p: int) -> Tensor:
    """(n, d), (m, d) to (n, m), in the points' precision, without cancellation."""
    if p == 1:
        return torch.cdist(x, y, p=1.0)
    if x.shape[1] <= 4:
        return sum(
            (xk[:, None] - yk).square() for xk, yk in zip(x.unbind(1), y.unbind(1), strict=True)
        )
    return torch.cdist(x, y, compute_mode="donot_use_mm_for_euclid_dist").square()


def _solve(case: Case) -> Reference:
    x, y = (torch.from_numpy(points).double() for points in case.points())
    n, m, reg = case.n, case.n, case.reg
    cost = _cost(x, y, case.p)  # (n, m)
    if case.d > 4:  # too slow to form again for every answer
        _save(_cost_path(case), np.save, arr=cost.numpy())

    # Plain Sinkhorn, for the iterations that it needs: one in logarithms, absorbed into the
    # kernel, from where the scalings u, v start.
    cost.div_(-reg)
    psi = np.log(n) - torch.logsumexp(cost, 0)
    phi = np.log(m) - torch.logsumexp(cost + psi, 1)
    kernel = (cost + phi[:, None]).add_(psi).exp_()
    u, v = torch.ones_like(phi), torch.ones_like(psi)
    plain = []
    while True:
        columns = kernel.T @ u / n
        plain.append((v * columns - 1.0).abs().mean().item())
        if plain[-1] <= 1e-4 or len(plain) == MAX_ITERATIONS:
            break
        v = 1.0 / columns
        u = m / (kernel @ v)
    del kernel

    phi, psi, plan, error = _newton(cost, psi + v.log())
    value = reg * (phi.mean() + psi.mean()).item()
    if case.p == 2:
        gradient = 2.0 * (plan.sum(1, keepdim=True) * x - plan @ y)
    else:
        leaf = x.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(_cost(leaf, y, 1), leaf, plan)
    return Reference(gradient.numpy(), value, np.array(plain), error)


def _newton(log_kernel: Tensor, psi: Tensor) -> tuple[Tensor, Tensor, Tensor, float]:
    """phi (n,), psi (m,), the plan (n, m) and its marginal error, from a rough psi.

    Maximises the concave dual in psi alone, phi being what makes the rows exact. Its gradient is
    1/m - columns, its Hessian -(diag(columns) - n P^T P), singular along the constants only.
    """
    n, m = log_kernel.shape

    def rows_made_exact(psi: Tensor) -> tuple[Tensor, Tensor]:
        phi = np.log(m) - torch.logsumexp(log_kernel + psi, 1)
        return phi, phi.mean() + psi.mean()

    phi, dual = rows_made_exact(psi)
    for _ in range(NEWTON_STEPS):
        plan = (log_kernel + phi[:, None]).add_(psi).exp_().div_(n * m)
        columns = plan.sum(0)
        slope = 1.0 / m - columns
        error = slope.abs().sum().item()
        if error <= ACCURACY:
            break
        hessian = torch.addmm(torch.diag(columns), plan.T, plan, alpha=-n)
        hessian.add_(1.0 / m**2).diagonal().add_(1e-13 / m)
        step = torch.linalg.solve(hessian, slope)
        length = 1.0
        while length > 1e-6:
            psi_next = psi + length * step
            phi_next, dual_next = rows_made_exact(psi_next)
            if dual_next >= dual + 1e-4 * length * (slope @ step) - 1e-14 * dual.abs():
                break
            length /= 2.0
        phi, psi, dual = phi_next, psi_next, dual_next
    return phi, psi, plan, error
