"""Half-steps that are right for any reg, and slow: for costs that differ by little beside reg."""

from dataclasses import dataclass

import torch
from torch import Tensor

from privgan.sinkhorn import _device
from privgan.sinkhorn._iteration import Solution, iterate
from privgan.sinkhorn._precision import SUMS
from privgan.sinkhorn._problem import Problem, Side, gradients
from privgan.sinkhorn.costs import Cost


@dataclass(frozen=True, eq=False, repr=False)
class Table(Cost):
    """The costs of a matrix, between points that are the numbers of its rows and columns."""

    costs: Tensor

    def matrix(self, x: Tensor, y: Tensor) -> Tensor:
        return self.costs[x.long(), y[:, 0].long()]

    def within(self, rows: Side, columns: Side) -> Tensor:
        """Those of rows and columns that have a weight; not to be written to."""
        whole = rows.kept is None and columns.kept is None
        return self.costs if whole else self.matrix(rows.points, columns.points)

    def points(self) -> tuple[Tensor, Tensor]:
        """All of its rows, (n, 1), and columns, (m, 1)."""
        n, m = self.costs.shape
        numbers = torch.arange(max(n, m), dtype=torch.float64, device=self.costs.device)[:, None]
        return numbers[:n], numbers[:m]


class ExactHalfSteps:
    """``psi -> (phi, log q)`` for any problem; see `_iteration`."""

    def __init__(self, problem: Problem):
        self.problem, self.other = problem, problem.transposed()
        self.a, self.b = problem.a, problem.b
        self.noise = SUMS * torch.finfo(torch.float64).eps

    def solve(self, psi: Tensor | None, tol: float, max_iter: int, look: bool = True) -> Solution:
        """The iteration from ``psi`` (m,), or from 0."""
        problem = self.problem
        psi = torch.zeros_like(problem.b) if psi is None else psi
        search = _device.iterate if problem.a.is_cuda else iterate
        return search(self, psi, problem.a, problem.b, tol, max_iter)

    def __call__(self, psi: Tensor) -> tuple[Tensor, Tensor]:
        phi = self.problem.potential(self.problem.x, psi)
        return phi, psi - self.other.potential(self.problem.y, phi)

    def attempt(self, psi: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The same, and whether it can be trusted, without a look from the host."""
        phi, log_q = self(psi)
        return phi, log_q, log_q.sum().isfinite()

    def gradients(self, solution: Solution, need_y: bool) -> tuple[Tensor, Tensor | None]:
        """Plan-weighted cost gradients in x (n, d) and, if asked for, in y (m, d)."""
        p = self.problem
        return gradients(
            p.cost, p.x, p.y, p.tiles(), lambda tile: p.plan(solution.psi, tile), need_y
        )
