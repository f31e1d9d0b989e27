r"""Entropic optimal transport between two weighted samples, solved to a certified error.

    W(a, b) = min over plans P with marginals a, b:  <P, C> + reg * KL(P || a b^T)

with natural logarithms. The dual potentials f (n,), g (m,) in cost units give the plan,
``P_ij = a_i b_j exp((f_i + g_j - C_ij) / reg)``. Rows of the returned plan are exact, on the
side that the generator's points are on, and the column sums carry the whole error.

The iteration is in `_iteration`; `_dense` runs it on a stored matrix, `_streaming` on tiles that
are formed and forgotten. Gradients come from the envelope theorem and are computed with the
solution, so nothing of size n x m outlives the call.
"""

import functools
from collections.abc import Callable
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
from privgan.sinkhorn.precision import full_precision
from privgan.sinkhorn.result import Envelope, SinkhornResult

# "auto" stores the matrix while it and its kernel fit in this much memory, and streams beyond; on a
# GPU it may take half of what is free there instead.
DENSE_BYTES = 2**30

# Half-steps, what they leave out of the costs in y alone, and how to form the matrix again.
Prepared = tuple[DenseHalfSteps | StreamingHalfSteps, Tensor | float, Callable[[], Tensor] | None]


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
        steps = _half_steps(matrix, reg, _double(a), _double(b), kept("kernel", cost, n, m))
        solution = steps.solve(_start(init, reg, cost, m), tol, max_iter)
        # A copy, for the kernel's storage belongs to the next solve.
        grad_cost = steps.plan(solution).clone() if cost.requires_grad else None
    return _result(solution, 0.0, reg, tol, (cost,), (grad_cost,), a, b, lambda: matrix)


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
    """
    x, y = checks.as_pair("x", x, "y", y)
    reg, tol, max_iter = _settings(reg, tol, max_iter)
    n, m = len(x), len(y)
    a, b = _weights("a", a, n, x), _weights("b", b, m, x)
    if backend == "auto":
        backend = "dense" if _storable(x, m) else "streaming"
    prepare = {"dense": _dense, "streaming": _streaming}.get(backend)
    if prepare is None:
        raise ValueError(f"backend must be 'auto', 'dense' or 'streaming', got {backend!r}")
    psi = _start(init, reg, x, m)
    return _solve(prepare, x, y, cost, reg, a, b, tol, max_iter, psi, look=True, check=True)


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
    sum to 1, and costs stay below about 2e6 ``tol`` times ``reg`` in float32 (beyond,
    `solve_samples` forms them in float64). On a GPU the host waits for nothing but the iteration,
    once every few of them. Without ``look``, and where Triton does the work on a stored matrix, not
    even for that: ``max_iter`` iterations are queued, of which those after the last one do nothing,
    and error, n_iter and converged are read from the device when they are asked for
    (``result.certificate`` has them there). A batch that the host would have to help with is then
    left as it is, and its error says so.
    """
    n, m = len(x), len(y)
    a, b = _uniform(n, x) if a is None else a, _uniform(m, x) if b is None else b
    prepare = _dense if _storable(x, m) else _streaming
    return _solve(prepare, x, y, cost, reg, a, b, tol, max_iter, None, look=look, check=False)


def _solve(
    prepare: Callable[..., Prepared],
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
        points, weights = (x.detach(), y.detach()), (_double(a), _double(b))
        steps, offset, matrix = prepare(*points, cost, reg, *weights, tol if check else None)
        solution = steps.solve(None if psi is None else psi - offset / reg, tol, max_iter, look)
        gradients = _gradients(steps, solution, cost, x, y)
    return _result(solution, offset, reg, tol, (x, y), gradients, a, b, matrix, check)


def _storable(x: Tensor, m: int) -> bool:
    """Whether a cost matrix and its kernel fit, and on a GPU a plan turned round for a gradient."""
    wanted = (3 if x.is_cuda else 2) * len(x) * m * x.element_size()
    if wanted <= DENSE_BYTES or not x.is_cuda:
        return wanted <= DENSE_BYTES
    free, _ = torch.cuda.mem_get_info(x.device)
    unused = torch.cuda.memory_reserved(x.device) - torch.cuda.memory_allocated(x.device)
    return wanted <= (free + unused) // 2


def _dense(
    x: Tensor, y: Tensor, cost: Cost, reg: float, a: Tensor, b: Tensor, tol: float | None
) -> Prepared:
    """Half-steps on a stored matrix, what it lacks in y alone, and how to form it again.

    tol: what the costs' precision has to support; None if that is known.
    """
    n, m = len(x), len(y)
    points = x, y
    matrix, offset = cost.reduced_in(*points, kept("cost", x, n, m))
    if tol is not None and x.dtype == torch.float32 and _rounding(matrix, reg) > tol:
        # Float32 costs this many times larger than reg could not support the tolerance.
        points = x.double(), y.double()
        matrix, offset = cost.reduced_in(*points, points[0].new_empty((n, m)))
    kernel = kept("kernel", x, n, m)
    steps = _half_steps(matrix.contiguous(), reg, a, b, kernel)
    return steps, offset, lambda: cost.reduced_in(*points, points[0].new_empty((n, m)))[0]


def _half_steps(matrix: Tensor, reg: float, a: Tensor, b: Tensor, kernel: Tensor) -> DenseHalfSteps:
    kind = TritonDenseHalfSteps if TritonDenseHalfSteps.fits(kernel) else DenseHalfSteps
    return kind(matrix, reg, a, b, kernel)


def _streaming(
    x: Tensor, y: Tensor, cost: Cost, reg: float, a: Tensor, b: Tensor, tol: float | None
) -> Prepared:
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
    check: bool = True,
) -> SinkhornResult:
    f, g = reg * solution.phi, reg * solution.psi + offset
    with torch.no_grad():
        weights = a.detach(), b.detach()
        value = _double(a) @ f + _double(b) @ g
    f, g = f.to(a.dtype), g.to(a.dtype)
    if check and not torch.isfinite(value.to(a.dtype)):
        raise ValueError(f"cost / reg overflows: the value is {value.item():.3g}; rescale the data")
    value = Envelope.apply(value.to(a.dtype), (*gradients, f, g), *inputs, a, b)
    density = None if matrix is None else lambda: _plan(matrix(), reg, *weights, solution)
    return SinkhornResult(value, f, g, solution, tol, density)


def _settings(reg: Any, tol: Any, max_iter: Any) -> tuple[float, float, int]:
    return (
        checks.positive("reg", reg),
        checks.positive("tol", tol),
        checks.positive_int("max_iter", max_iter),
    )


def _weights(name: str, weights: Any, size: int, like: Tensor) -> Tensor:
    if weights is None:
        return _uniform(size, like)
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


def _uniform(size: int, like: Tensor) -> Tensor:
    return _uniform_on(size, like.dtype, like.device)


@functools.lru_cache(64)
def _uniform_on(size: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    with torch.inference_mode(False):  # a tensor made within it is no use to autograd
        return torch.full((size,), 1.0 / size, dtype=dtype, device=device)


@functools.lru_cache(64)
def _uniform_double(size: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    with torch.inference_mode(False):
        return _uniform_on(size, dtype, device).double()


def _double(weights: Tensor) -> Tensor:
    """Float64; of uniform weights the same tensor each time, which need not be copied again."""
    kind = len(weights), weights.dtype, weights.device
    uniform = weights is _uniform_on(*kind)
    return _uniform_double(*kind) if uniform else weights.detach().double()


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
    low, high = torch.stack(torch.aminmax(matrix)).tolist()
    return 4 * torch.finfo(matrix.dtype).eps * max(-low, high) / reg


def _plan(cost: Tensor, reg: float, a: Tensor, b: Tensor, solution: Solution) -> Tensor:
    plan = torch.empty_like(cost, dtype=a.dtype)
    rows = max(1, TILE // cost.shape[1])
    for start in range(0, len(cost), rows):  # in float64, but not all of it at once
        tile = slice(start, start + rows)
        log_density = (solution.phi[tile, None] + solution.psi).sub_(cost[tile].double() / reg)
        plan[tile] = log_density.exp_().mul_(a[tile, None]).mul_(b)
    return plan
