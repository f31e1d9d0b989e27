r"""Entropic optimal transport between two weighted samples, solved to a certified error.

    W(a, b) = min over plans P with marginals a, b:  <P, C> + reg * KL(P || a b^T)

with natural logarithms. The dual potentials f (n,), g (m,) in cost units give the plan,
``P_ij = a_i b_j exp((f_i + g_j - C_ij) / reg)``. Rows of the returned plan are exact, on the
side that the generator's points are on, and the column sums carry the whole error.

The iteration is in `_iteration`; `_dense` runs it on a stored matrix, `_streaming` on tiles that
are formed and forgotten. Gradients come from the envelope theorem and are computed with the
solution, so nothing of size n x m outlives the call.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from privgan import checks
from privgan.sinkhorn import _prepare
from privgan.sinkhorn._batch import solve_each
from privgan.sinkhorn._dense import DenseHalfSteps
from privgan.sinkhorn._exact import Table
from privgan.sinkhorn._iteration import Solution
from privgan.sinkhorn._precision import OVERFLOWS
from privgan.sinkhorn._prepare import Prepared
from privgan.sinkhorn._problem import Problem, Side
from privgan.sinkhorn.costs import Cost
from privgan.sinkhorn.result import Coupling, Envelope, SinkhornResult
from privgan.sinkhorn.weights import uniform, weights
from privgan.surroundings import full_precision

# "auto" stores the matrix while it and its kernel fit in this much memory, and streams beyond; on a
# GPU it may take half of what is free there instead.
DENSE_BYTES = 2**30


@full_precision()
def solve(
    cost: Tensor,
    reg: float,
    a: Tensor | None = None,
    b: Tensor | None = None,
    *,
    tol: float = 1e-3,
    max_iter: int = 1000,
    init: SinkhornResult | Tensor | None = None,
) -> SinkhornResult:
    """Solve entropic OT for a cost matrix.

    cost: (n, m), float32 or float64. reg: regularisation > 0, in cost units.
    a, b: weights (n,), (m,), each summing to 1; uniform when omitted. A zero weight is
    the same as leaving the point out. tol: L1 marginal error to reach.
    init: where to start from, potentials g (m,) or an earlier result.

    Not reaching ``tol``, within ``max_iter`` or because rounding forbids it, is no exception:
    look at ``converged`` and ``error``. The value's gradient in ``cost``, ``a`` and ``b`` is
    the envelope theorem's (P, f and g; f and g up to a constant); second derivatives are
    refused.

    >>> solved = pg.sinkhorn.solve(torch.tensor([[0.0, 1.0], [1.0, 0.0]]), reg=1.0)
    >>> solved.converged, round(solved.value.item(), 4)
    (True, 0.3799)
    """
    cost = checks.as_float_tensor("cost", cost)
    if cost.ndim != 2 or cost.numel() == 0:
        raise ValueError(f"cost has shape {tuple(cost.shape)}; expected (n, m) with n, m >= 1")
    checks.check_finite("cost", cost)
    reg, tol, max_iter = _settings(reg, tol, max_iter)
    n, m = cost.shape
    a, b = weights("a", a, n, cost), weights("b", b, m, cost)
    psi = _start(init, reg, cost, m)
    with torch.no_grad():
        table = Table(cost.detach().clone())
        rows, columns = table.points()
        problem = Problem(Side.of(rows, a, True), Side.of(columns, b, True), table, reg)
        prepared = _prepare.stored(table.within(problem.own, problem.other), problem, tol)
        solution = _whole(prepared, _run(prepared, problem, psi, max_iter), reg, tol)
        coupling = Coupling(problem, solution.psi, cost.dtype)
        gradient = coupling.plan() if cost.requires_grad else None
    return _result(problem, solution, (cost,), (gradient,), a, b, tol, coupling)


@full_precision()
def solve_samples(
    x: Tensor,
    y: Tensor,
    cost: Cost,
    reg: float,
    a: Tensor | None = None,
    b: Tensor | None = None,
    *,
    tol: float = 1e-3,
    max_iter: int = 1000,
    init: SinkhornResult | Tensor | None = None,
    backend: str = "auto",
) -> SinkhornResult:
    """Solve entropic OT between the points ``x`` (n, d) and ``y`` (m, d).

    As `solve`, with the cost given as a `Cost`; the value is differentiable in ``x``,
    ``y``, ``a`` and ``b``. backend: "dense" stores the (n, m) matrix, "streaming" needs
    O((n + m) d) memory for any cost, "auto" is dense while that takes no more memory than
    `DENSE_BYTES`, or half of what a GPU has free.

    A batch of problems, x (B, n, d) and y (B, m, d), with weights of each or the same for all, has
    results of one dimension more: value (B,), f (B, n), g (B, m), as if solved one at a time.
    """
    _check_cost(cost)
    if getattr(x, "ndim", 2) == 3 or getattr(y, "ndim", 2) == 3:

        def alone(x: Tensor, y: Tensor, a: Any, b: Any, init: Any) -> SinkhornResult:
            settings: dict[str, Any] = {"tol": tol, "max_iter": max_iter, "backend": backend}
            return solve_samples(x, y, cost, reg, a, b, init=init, **settings)

        return solve_each(alone, x, y, a, b, init)
    x, y = checks.as_pair("x", x, "y", y)
    reg, tol, max_iter = _settings(reg, tol, max_iter)
    n, m = len(x), len(y)
    a, b = weights("a", a, n, x), weights("b", b, m, x)
    if backend not in ("auto", "dense", "streaming"):
        raise ValueError(f"backend must be 'auto', 'dense' or 'streaming', got {backend!r}")
    fits = _fits(x, m) if backend == "auto" else lambda _: backend == "dense"
    psi = _start(init, reg, x, m)
    return _solve(fits, x, y, cost, reg, a, b, tol, max_iter, psi, look=True, check=True)


@full_precision()
def solve_batch(
    x: Tensor,
    y: Tensor,
    cost: Cost,
    reg: float,
    a: Tensor | None = None,
    b: Tensor | None = None,
    *,
    tol: float = 1e-2,
    max_iter: int = 500,
    look: bool = True,
) -> SinkhornResult:
    """`solve_samples` for a training loop, which has checked once what it passes again and again.

    Nothing is validated: x (n, d) and y (m, d) are finite and alike in dtype and device, weights
    are positive and sum to 1, and costs stay below about 5e5 ``tol`` times ``reg`` in float32 and
    above ``reg`` / 2 (beyond, `solve_samples` takes float64, and float64 potentials). On a GPU the
    host waits for nothing but the iteration, once every few of them. Without ``look`` not even for
    that, unless the problem is large: ``max_iter`` iterations are queued, of which those after the
    last one do nothing, and error, n_iter and converged are read from the device when they are
    asked for (``result.certificate`` has them there). A batch that the host would have to help with
    is then left as it is, and its error says so; it has gradients of 0 if nothing was found.
    """
    n, m = len(x), len(y)
    a, b = uniform(n, x) if a is None else a, uniform(m, x) if b is None else b
    return _solve(_fits(x, m), x, y, cost, reg, a, b, tol, max_iter, None, look=look, check=False)


def _solve(
    fits: Callable[[int], bool],
    x: Tensor,
    y: Tensor,
    cost: Cost,
    reg: float,
    a: Tensor,
    b: Tensor,
    tol: float,
    max_iter: int,
    psi: Tensor | None,
    *,
    look: bool,
    check: bool,
) -> SinkhornResult:
    with torch.no_grad():
        problem = Problem(Side.of(x, a, check), Side.of(y, b, check), cost, reg)
        prepared = _prepare.prepared(problem, tol, check, fits)
        solution = _run(prepared, problem, psi, max_iter, look)
        gradients = _gradients(prepared, solution, problem, x.requires_grad, y.requires_grad)
        if isinstance(error := solution.error, Tensor):  # infinite as long as nothing was found
            gradients = tuple(g if g is None else g.where(error.isfinite(), 0) for g in gradients)
        solution = _whole(prepared, solution, reg, tol)
        kept = problem.copied() if prepared.stored else None
        coupling = Coupling(kept, solution.psi, x.dtype) if kept else None
    return _result(problem, solution, (x, y), gradients, a, b, tol, coupling, check)


def _run(
    prepared: Prepared, problem: Problem, psi: Tensor | None, max_iter: int, look: bool = True
) -> Solution:
    """The solution for costs less the offset, from potentials of all of y for whole costs."""
    if psi is not None:
        psi = psi if problem.other.kept is None else psi[problem.other.kept]
        psi = psi - prepared.offset / problem.reg
    return prepared.steps.solve(psi, prepared.tol, max_iter, look)


def _whole(prepared: Prepared, solution: Solution, reg: float, tol: float) -> Solution:
    """The same for whole costs, its error with what rounding may add."""
    error, psi = prepared.error(solution, tol), solution.psi
    if isinstance(prepared.offset, Tensor):
        psi = psi + prepared.offset / reg
    return Solution(solution.phi, psi, error, solution.n_iter, psi)


def _fits(x: Tensor, m: int) -> Callable[[int], bool]:
    """Whether a cost matrix and its kernel fit, of numbers of so many bytes; and on a GPU three
    more for gradients: distances, a quotient, a plan turned round."""

    def fits(size: int) -> bool:
        wanted = (5 if x.is_cuda else 2) * len(x) * m * size
        if wanted <= DENSE_BYTES or not x.is_cuda:
            return wanted <= DENSE_BYTES
        free, _ = torch.cuda.mem_get_info(x.device)
        unused = torch.cuda.memory_reserved(x.device) - torch.cuda.memory_allocated(x.device)
        return wanted <= (free + unused) // 2

    return fits


def _gradients(
    prepared: Prepared, solution: Solution, problem: Problem, need_x: bool, need_y: bool
) -> tuple[Tensor | None, ...]:
    """sum_j P_ij dc(x_i, y_j)/dx_i, and alike in y, where they will be asked for."""
    if not (need_x or need_y):
        return None, None
    steps, x, y, cost = prepared.steps, problem.x, problem.y, problem.cost
    if isinstance(steps, DenseHalfSteps):
        plan = steps.plan(solution).to(x.dtype)
        grad_x = cost.gradient(x, y, plan) if need_x else None
        grad_y = cost.T.gradient(y, x, plan.T) if need_y else None
    else:
        grad_x, grad_y = steps.gradients(solution, need_y)
    return (
        None if grad_x is None else problem.own.filled(grad_x.to(x.dtype)),
        None if grad_y is None else problem.other.filled(grad_y.to(y.dtype)),
    )


def _result(
    problem: Problem,
    solution: Solution,
    inputs: tuple[Tensor, ...],
    gradients: tuple[Tensor | None, ...],
    a: Tensor,
    b: Tensor,
    tol: float,
    coupling: Coupling | None,
    check: bool = True,
) -> SinkhornResult:
    with torch.no_grad():
        value = problem.reg * (problem.a @ solution.phi + problem.b @ solution.psi)
        potentials = problem.extended(solution.phi, solution.psi)
        f, g = ((problem.reg * p).to(a.dtype) for p in potentials)
    if check and not torch.isfinite(value.to(a.dtype)):
        raise ValueError(OVERFLOWS.format("the value is beyond the inputs' precision"))
    value = Envelope.apply(value.to(a.dtype), (*gradients, f, g), *inputs, a, b)
    certificate = solution.error, solution.n_iter
    return SinkhornResult(value, f, g, certificate, tol, coupling)


def _check_cost(cost: Any) -> None:
    if not isinstance(cost, Cost):
        raise TypeError(f"cost must be a Cost such as SquaredL2(), got {checks.shown(cost)}")


def _settings(reg: Any, tol: Any, max_iter: Any) -> tuple[float, float, int]:
    return (
        checks.positive("reg", reg),
        checks.positive("tol", tol),
        checks.positive_int("max_iter", max_iter),
    )


def _start(init: Any, reg: float, like: Tensor, m: int) -> Tensor | None:
    """The caller's potentials as psi = g / reg, float64."""
    if init is None:
        return None
    g = checks.as_float_tensor("init", init.g if isinstance(init, SinkhornResult) else init)
    if g.shape != (m,):
        raise ValueError(f"init has shape {tuple(g.shape)}; potentials on the y side are ({m},)")
    checks.check_finite("init", g)
    return g.detach().to(like.device).double() / reg
