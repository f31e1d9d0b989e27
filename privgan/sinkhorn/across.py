r"""Entropic transport of points that several processes hold a part of each, to the same other side.

It is no sum over parts: the value of a batch is not the mean of its parts' values. But the rows of
the kernel can stay apart. A process that holds the share s of the points' mass has, for potentials
psi of the other side, its own phi and its own column sums q; the whole has

    log q_j = log sum over processes of s q_j,        <a, phi> = sum over processes of s <a, phi>,

which each iteration gathers, m + 1 numbers from everybody. From there on all have the same numbers
and do the same: the acceleration, its guards and the stopping rule are repeated, not divided.
"""

import math
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor

from privgan import checks
from privgan.sinkhorn import _prepare, solver
from privgan.sinkhorn._exact import ExactHalfSteps
from privgan.sinkhorn._iteration import Solution, iterate
from privgan.sinkhorn._problem import Problem, Side
from privgan.sinkhorn._search import search
from privgan.sinkhorn.costs import Cost
from privgan.sinkhorn.result import Coupling, Envelope, SinkhornResult, divergence
from privgan.sinkhorn.weights import uniform
from privgan.surroundings import full_precision


class Across(Protocol):
    """What processes exchange. All of them call it alike, in one order."""

    def gathered(self, numbers: Tensor) -> Tensor:
        """Everybody's numbers (k,), (processes, k), in the order of the processes."""
        ...


class Shared:
    """Half-steps of all processes, from this one's own; ``psi -> (<a, phi>, log q)``.

    The dual is all that the iteration wants of phi, so that it stands in its place, with a weight
    of 1; and on the host, which so looks at every iteration. share: of the mass that is here.
    """

    def __init__(self, steps: Any, share: Tensor, across: Across):
        self.steps, self.share, self.across = steps, share, across
        self.a, self.b, self.noise = torch.ones(1, dtype=torch.float64), steps.b, steps.noise

    def solve(self, tol: float, max_iter: int) -> Solution:
        if isinstance(self.steps, ExactHalfSteps):
            found = iterate(self, torch.zeros_like(self.b), self.a, self.b, tol, max_iter)
        else:
            found = search(self, None, tol, max_iter)
        phi, _ = self.steps(found.psi)
        return Solution(phi, found.psi, found.error, found.n_iter, found.psi)

    def __call__(self, psi: Tensor) -> tuple[Tensor, Tensor]:
        phi, log_q = self.steps(psi)
        dual = self.share * (self.steps.a @ phi)
        found = self.across.gathered(torch.cat([log_q + self.share.log(), dual[None]]))
        return found[:, -1].sum()[None].cpu(), found[:, :-1].logsumexp(0)

    def start(self, look: bool = True) -> Tensor:
        own = self.share.log() - self.steps.start()
        return -self.across.gathered(own).logsumexp(0)

    def spread(self) -> float:
        return most(self.across, self.b, self.steps.spread())[0]

    def at(self, times: float) -> "Shared":
        return Shared(self.steps.at(times), self.share, self.across)


@dataclass(frozen=True)
class SharedResult(SinkhornResult):
    """What a process holds of a solved problem: f of its own points, and its rows of the plan.

    rows: they, as of a problem of their own, where there is a stored matrix. share: of the mass.
    """

    rows: Coupling | None = field(repr=False, default=None)
    share: float = 1.0
    across: Across | None = field(repr=False, default=None)

    def information(self) -> float:
        """KL(P || a b^T) of the whole plan, nats, which all processes ask for, or none."""
        if self.rows is None or self.across is None:
            return math.nan
        plan = self.share * self.rows.plan(torch.float64)
        columns = self.across.gathered(plan.sum(0)).sum(0)
        parts = self.across.gathered(divergence(plan, columns)[None])
        return max(0.0, parts.sum().item())


def most(across: Across, like: Tensor, *numbers: float) -> list[float]:
    """The largest of everybody's of each number."""
    return across.gathered(like.new_tensor(numbers, dtype=torch.float64)).amax(0).tolist()


@full_precision()
def solve_across(
    x: Tensor,
    y: Tensor,
    cost: Cost,
    reg: float,
    a: Tensor | None = None,
    *,
    across: Across,
    tol: float = 1e-2,
    max_iter: int = 500,
    backend: str = "auto",
) -> SinkhornResult:
    """`solve_samples` for points of which every process has some, ``x`` (n, d), with their weights.

    y (m, d): all of the other side, the same for everybody, weighted uniformly. a (n,): the weights
    of the points here, which sum to 1 over the processes; uniform over all points when omitted. The
    value is that of all points; its gradient in ``x`` and ``a`` is for those here, f is theirs, and
    there is no plan. Its information is that of all, and all must ask for it.
    """
    x, y = checks.as_pair("x", x, "y", y)
    n, m = len(x), len(y)
    count = x.new_tensor(n, dtype=torch.float64)
    mass = count if a is None else a.detach().double().sum()
    told = across.gathered(torch.stack([mass, count]))
    share = mass / told[:, 0].sum()
    own = uniform(n, x) if a is None else (a.detach().double() / mass).to(a.dtype)
    like = x.new_empty((int(told[:, 1].max()), 0))  # the same matrix is stored by all, or by none
    fits = solver._fits(like, m) if backend == "auto" else lambda _: backend == "dense"
    with torch.no_grad():
        sides = Side.of(x, own, True), Side.of(y, uniform(m, x), True)
        problem = Problem(*sides, cost, reg, lambda *ends: most(across, x, *ends))
        prepared = _prepare.prepared(problem, tol, True, fits)
        solution = Shared(prepared.steps, share, across).solve(prepared.tol, max_iter)
        grad_x, _ = solver._gradients(prepared, solution, problem, x.requires_grad, False)
        solution = solver._whole(prepared, solution, reg, tol)
        dual = share * (problem.a @ solution.phi)
        told = torch.stack([dual, dual.new_tensor(solution.error)])
        duals, errors = across.gathered(told).unbind(1)
        value = (reg * (duals.sum() + problem.b @ solution.psi)).to(x.dtype)
        f, g = (reg * p for p in problem.extended(solution.phi, solution.psi))
    grad_x = None if grad_x is None else grad_x * share.to(grad_x)
    gradients, inputs = ((grad_x,), (x,)) if a is None else ((grad_x, f.to(a.dtype)), (x, a))
    value = Envelope.apply(value, gradients, *inputs)
    certificate = errors.max().item(), int(solution.n_iter)
    potentials = f.to(x.dtype), g.to(x.dtype)
    rows = Coupling(problem.copied(), solution.psi, x.dtype) if prepared.stored else None
    return SharedResult(
        value, *potentials, certificate, tol, rows=rows, share=share.item(), across=across
    )
