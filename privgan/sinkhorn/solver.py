r"""Entropic optimal transport between two weighted samples, solved to a certified error.

    W(a, b) = min over plans P with marginals a, b:  <P, C> + reg * KL(P || a b^T)

with natural logarithms. The dual potentials f (n,), g (m,) in cost units give the plan,
``P_ij = a_i b_j exp((f_i + g_j - C_ij) / reg)``. Rows of the returned plan are exact, on the
side that the generator's points are on, and the column sums carry the whole error.

The iteration is in `_iteration`; `_dense` runs it on a stored matrix, `_streaming` on tiles that
are formed and forgotten. Gradients come from the envelope theorem and are computed with the
solution, so nothing of size n x m outlives the call.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from privgan import checks
from privgan.sinkhorn._dense import DenseHalfSteps, kept
from privgan.sinkhorn._iteration import Solution
from privgan.sinkhorn._streaming import TILE, CompiledHalfSteps, StreamingHalfSteps
from privgan.sinkhorn._triton import TritonHalfSteps
from privgan.sinkhorn._triton_dense import TritonDenseHalfSteps
from privgan.sinkhorn.costs import Cost

# "auto" stores the matrix while it and its kernel fit in this much memory, and streams beyond.
DENSE_BYTES = 2**30


@dataclass(frozen=True)
class SinkhornResult:
    """A solved problem. ``converged`` says whether ``error`` reached the tolerance.

    value: 0-dim tensor, cost units; differentiable in the inputs that require gradients.
    f, g: potentials, (n,) and (m,), cost units, rounded to the inputs' precision. Inside, they
    are float64: where costs are 1000 times reg, float32 alone costs 1e-4 of marginal error.
    error: L1 marginal error of the plan behind value, gradients and `plan`, in mass (0 to 2).
    n_iter: iterations taken, a pair of half-steps each.
    """

    value: Tensor
    f: Tensor
    g: Tensor
    error: float
    n_iter: int
    converged: bool
    _density: Callable[[], Tensor] | None = field(repr=False, default=None)

    def plan(self) -> Tensor:
        """The coupling, (n, m); its rows sum to ``a`` up to rounding. Dense problems only."""
        if self._density is None:
            raise ValueError("a streamed problem has no stored plan; solve with backend='dense'")
        return self._density()

    def information(self) -> float:
        """KL(P || a b^T), nats, at most log min(n, m); NaN for a streamed problem."""
        if self._density is None:
            return math.nan
        plan = self.plan().double()
        product = (plan.sum(1)[:, None] * plan.sum(0)).clamp_min(1e-300)
        return torch.special.xlogy(plan, plan / product).sum().item()


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
    """
    cost = checks.as_float_tensor("cost", cost)
    if cost.ndim != 2 or cost.numel() == 0:
        raise ValueError(f"cost has shape {tuple(cost.shape)}; expected (n, m) with n, m >= 1")
    checks.check_finite("cost", cost)
    reg, tol, max_iter = _settings(reg, tol, max_iter)
    n, m = cost.shape
    a, b = _weights("a", a, n, cost), _weights("b", b, m, cost)
    with torch.no_grad():
        matrix = cost.detach().contiguous()
        steps = _half_steps(matrix, reg, a.double(), b.double(), kept("kernel", cost, n, m))
        solution = steps.solve(_start(init, reg, cost, m), tol, max_iter)
        # A copy, for the kernel's storage belongs to the next solve.
        grad_cost = steps.plan(solution).clone() if cost.requires_grad else None
    return _result(solution, 0.0, reg, tol, (cost,), (grad_cost,), a, b, lambda: matrix)


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
    O((n + m) d) memory for any cost, "auto" is dense up to `DENSE_BYTES`.
    """
    x, y = checks.as_pair("x", x, "y", y)
    reg, tol, max_iter = _settings(reg, tol, max_iter)
    n, m = len(x), len(y)
    a, b = _weights("a", a, n, x), _weights("b", b, m, x)
    if backend == "auto":
        backend = "dense" if 2 * n * m * x.element_size() <= DENSE_BYTES else "streaming"
    prepare = {"dense": _dense, "streaming": _streaming}.get(backend)
    if prepare is None:
        raise ValueError(f"backend must be 'auto', 'dense' or 'streaming', got {backend!r}")
    with torch.no_grad():
        points = x.detach(), y.detach()
        steps, offset, matrix = prepare(*points, cost, reg, a.double(), b.double(), tol)
        psi = _start(init, reg, x, m)
        solution = steps.solve(None if psi is None else psi - offset / reg, tol, max_iter)
        gradients = _gradients(steps, solution, cost, x, y)
    return _result(solution, offset, reg, tol, (x, y), gradients, a, b, matrix)


def _dense(x, y, cost, reg, a, b, tol):
    """Half-steps on a stored matrix, what it lacks in y alone, and how to form it again."""
    n, m = len(x), len(y)
    points = x, y
    matrix, offset = cost.reduced_in(*points, kept("cost", x, n, m))
    if x.dtype == torch.float32 and _rounding(matrix, reg) > tol:
        # Float32 costs this many times larger than reg could not support the tolerance.
        points = x.double(), y.double()
        matrix, offset = cost.reduced_in(*points, points[0].new_empty((n, m)))
    kernel = kept("kernel", x, n, m)
    steps = _half_steps(matrix.contiguous(), reg, a, b, kernel)
    return steps, offset, lambda: cost.reduced_in(*points, points[0].new_empty((n, m)))[0]


def _half_steps(matrix, reg, a, b, kernel):
    kind = TritonDenseHalfSteps if TritonDenseHalfSteps.fits(kernel) else DenseHalfSteps
    return kind(matrix, reg, a, b, kernel)


def _streaming(x, y, cost, reg, a, b, tol):
    kinds = CompiledHalfSteps, TritonHalfSteps, StreamingHalfSteps
    kind = next(kind for kind in kinds if kind.fits(x, cost))
    return kind(x, y, cost, reg, a, b), 0.0, None


def _gradients(
    steps: DenseHalfSteps | StreamingHalfSteps, solution: Solution, cost: Cost, x: Tensor, y: Tensor
) -> tuple[Tensor | None, Tensor | None]:
    """sum_j P_ij dc(x_i, y_j)/dx_i, and alike in y, where they will be asked for."""
    if not (x.requires_grad or y.requires_grad):
        return None, None
    x_points, y_points = x.detach(), y.detach()
    if isinstance(steps, StreamingHalfSteps):
        return steps.gradients(solution, y.requires_grad)
    plan = steps.plan(solution)
    return (
        cost.gradient(x_points, y_points, plan) if x.requires_grad else None,
        cost.T.gradient(y_points, x_points, plan.T) if y.requires_grad else None,
    )


def _result(
    solution: Solution,
    offset: Tensor | float,
    reg: float,
    tol: float,
    inputs: tuple[Tensor, ...],
    gradients: tuple[Tensor | None, ...],
    a: Tensor,
    b: Tensor,
    matrix: Callable[[], Tensor] | None,
) -> SinkhornResult:
    f, g = reg * solution.phi, reg * solution.psi + offset
    with torch.no_grad():
        weights = a.detach(), b.detach()
        value = a.double() @ f + b.double() @ g
    f, g = f.to(a.dtype), g.to(a.dtype)
    if not torch.isfinite(value.to(a.dtype)):
        raise ValueError(f"cost / reg overflows: the value is {value.item():.3g}; rescale the data")
    value = _Envelope.apply(value.to(a.dtype), (*gradients, f, g), *inputs, a, b)
    density = None if matrix is None else lambda: _plan(matrix(), reg, *weights, solution)
    converged = solution.error <= tol
    return SinkhornResult(value, f, g, solution.error, solution.n_iter, converged, density)


def _settings(reg: Any, tol: Any, max_iter: Any) -> tuple[float, float, int]:
    return (
        checks.positive("reg", reg),
        checks.positive("tol", tol),
        checks.positive_int("max_iter", max_iter),
    )


def _weights(name: str, weights: Any, size: int, like: Tensor) -> Tensor:
    if weights is None:
        return torch.full((size,), 1.0 / size, dtype=like.dtype, device=like.device)
    weights = checks.as_float_tensor(name, weights)
    checks.check_same(name, weights, "the points", like)
    if weights.shape != (size,):
        raise ValueError(f"{name} has shape {tuple(weights.shape)}; expected ({size},)")
    checks.check_finite(name, weights)
    if (weights < 0).any():
        first = int((weights < 0).nonzero()[0])
        raise ValueError(f"{name}[{first}] is {weights[first].item()}; weights must be >= 0")
    total = weights.sum().item()
    if abs(total - 1.0) > 1e-4:
        raise ValueError(f"{name} sums to {total:.6g}, not 1; pass {name} / {name}.sum()")
    return weights


def _start(init: Any, reg: float, like: Tensor, m: int) -> Tensor | None:
    """The caller's potentials as psi = g / reg, float64."""
    if init is None:
        return None
    g = checks.as_float_tensor("init", init.g if isinstance(init, SinkhornResult) else init)
    if g.shape != (m,):
        raise ValueError(f"init has shape {tuple(g.shape)}; potentials on the y side are ({m},)")
    checks.check_finite("init", g)
    return g.detach().to(like.device).double() / reg


def _rounding(matrix: Tensor, reg: float) -> float:
    """Relative error of exp(-C / reg) from costs rounded a few times in their own precision."""
    low, high = torch.aminmax(matrix)
    return 4 * torch.finfo(matrix.dtype).eps * max(-low.item(), high.item()) / reg


def _plan(cost: Tensor, reg: float, a: Tensor, b: Tensor, solution: Solution) -> Tensor:
    plan = torch.empty_like(cost, dtype=a.dtype)
    rows = max(1, TILE // cost.shape[1])
    for start in range(0, len(cost), rows):  # in float64, but not all of it at once
        tile = slice(start, start + rows)
        log_density = (solution.phi[tile, None] + solution.psi).sub_(cost[tile].double() / reg)
        plan[tile] = log_density.exp_().mul_(a[tile, None]).mul_(b)
    return plan


class _Envelope(torch.autograd.Function):
    """Attaches to the value the gradients that were computed with it."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, gradients: tuple, *inputs: Tensor) -> Tensor:
        ctx.save_for_backward(*inputs)
        ctx.gradients = gradients
        return value.clone()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple:
        inputs = ctx.saved_tensors
        pairs = zip(ctx.needs_input_grad[2:], ctx.gradients, strict=True)
        # Refusing to be differentiated again must be wired to the inputs, or autograd would
        # take the gradient for a constant and return a silently wrong second derivative.
        wired = [_FirstOrder.apply(grad * own, *inputs) if need else None for need, own in pairs]
        return None, None, *wired


class _FirstOrder(torch.autograd.Function):
    """Passes a gradient through and refuses to be differentiated itself."""

    @staticmethod
    def forward(ctx: Any, grad: Tensor, *inputs: Tensor) -> Tensor:
        return grad.clone()

    @staticmethod
    def backward(ctx: Any, *_: Any) -> Any:
        raise NotImplementedError(
            "second derivatives of the Sinkhorn value are not implemented: the envelope "
            "gradient treats the potentials as constants"
        )
