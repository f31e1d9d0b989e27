r"""Entropic optimal transport between two weighted samples, solved to a certified error.

    W(a, b) = min over plans P with marginals a, b:  <P, C> + reg * KL(P || a b^T)

with natural logarithms. The dual potentials f (n,), g (m,) in cost units give the plan,
``P_ij = a_i b_j exp((f_i + g_j - C_ij) / reg)``. The solver alternates

    g_j = -reg log sum_i a_i exp((f_i - C_ij) / reg)      (columns of P sum to b)
    f_i = -reg log sum_j b_j exp((g_j - C_ij) / reg)      (rows of P sum to a)

always ending on f, the side that the generator's points are on: rows are exact and the
column sums carry the whole error. The next column pass measures it, so the certificate
``sum_j |(P^T 1)_j - b_j|`` belongs to exactly the potentials that are returned.
"""

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from privgan import checks
from privgan.costs import Cost

# Scalings are folded back into the kernel before exp(+-DRIFT) could lose float32 range.
DRIFT = 20.0


@dataclass(frozen=True)
class SinkhornResult:
    """A solved problem. ``converged`` says whether ``error`` reached the tolerance.

    value: 0-dim tensor, cost units; differentiable in the inputs that require gradients.
    f, g: potentials, (n,) and (m,), cost units.
    error: L1 marginal error of the plan, in mass (between 0 and 2).
    n_iter: pairs of half-steps taken.
    """

    value: Tensor
    f: Tensor
    g: Tensor
    error: float
    n_iter: int
    converged: bool
    _problem: tuple = field(repr=False, default=())

    def plan(self) -> Tensor:
        """The coupling, (n, m); its rows sum to ``a`` up to rounding."""
        cost, reg, a, b = self._problem
        return _plan(cost(), reg, a, b, self.f, self.g)


def sinkhorn(
    cost: Tensor,
    reg: float,
    a: Tensor | None = None,
    b: Tensor | None = None,
    *,
    tol: float = 1e-3,
    max_iter: int = 1000,
) -> SinkhornResult:
    """Solve entropic OT for a cost matrix.

    cost: (n, m), float32 or float64. reg: regularisation > 0, in cost units.
    a, b: weights (n,), (m,), each summing to 1; uniform when omitted. A zero weight is
    the same as leaving the point out. tol: L1 marginal error to reach.

    Not reaching ``tol`` is no exception: look at ``converged`` and ``error``.
    The value's gradient in ``cost``, ``a`` and ``b`` is the envelope theorem's
    (P, f and g; f and g up to a constant); second derivatives are refused.
    """
    cost = checks.as_float_tensor("cost", cost)
    if cost.ndim != 2 or cost.numel() == 0:
        raise ValueError(f"cost has shape {tuple(cost.shape)}; expected (n, m) with n, m >= 1")
    checks.check_finite("cost", cost)
    reg, tol, max_iter = _settings(reg, tol, max_iter)
    a, b = _weights("a", a, cost.shape[0], cost), _weights("b", b, cost.shape[1], cost)
    with torch.no_grad():
        solution = _solve(cost.detach(), reg, a.detach(), b.detach(), tol, max_iter)
    f, g, error, n_iter = solution
    value = _MatrixEnvelope.apply(cost, a, b, f, g, reg)
    problem = (cost.detach, reg, a.detach(), b.detach())
    return SinkhornResult(value, f, g, error, n_iter, error <= tol, problem)


def sinkhorn_samples(
    x: Tensor,
    y: Tensor,
    cost: Cost,
    reg: float,
    a: Tensor | None = None,
    b: Tensor | None = None,
    *,
    tol: float = 1e-3,
    max_iter: int = 1000,
) -> SinkhornResult:
    """Solve entropic OT between the points ``x`` (n, d) and ``y`` (m, d).

    As `sinkhorn`, with the cost given as a `Cost`; the value is differentiable in
    ``x``, ``y``, ``a`` and ``b``.
    """
    x, y = checks.as_pair("x", x, "y", y)
    reg, tol, max_iter = _settings(reg, tol, max_iter)
    a, b = _weights("a", a, x.shape[0], x), _weights("b", b, y.shape[0], x)
    with torch.no_grad():
        matrix = cost.matrix(x, y)
        f, g, error, n_iter = _solve(matrix, reg, a, b, tol, max_iter)
    value = _SamplesEnvelope.apply(x, y, a, b, f, g, matrix, cost, reg)
    problem = (lambda: matrix, reg, a.detach(), b.detach())
    return SinkhornResult(value, f, g, error, n_iter, error <= tol, problem)


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


def _solve(
    cost: Tensor, reg: float, a: Tensor, b: Tensor, tol: float, max_iter: int
) -> tuple[Tensor, Tensor, float, int]:
    """Potentials f, g, the marginal error that belongs to them, and the iterations."""
    log_kernel = cost / -reg  # (n, m)
    log_a, log_b = a.log(), b.log()  # -inf at zero weights, as it should be

    def log_domain_step(phi: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        # One exact pair of half-steps on phi = f / reg, psi = g / reg, safe at any scale,
        # and the kernel with both absorbed: its rows sum to 1 under b, so the largest
        # entries are of order one whatever cost / reg was.
        psi = -torch.logsumexp(log_kernel + (phi + log_a)[:, None], 0)
        phi = -torch.logsumexp(log_kernel + (psi + log_b)[None, :], 1)
        return phi, psi, (log_kernel + phi[:, None]).add_(psi).exp_()

    phi, psi, kernel = log_domain_step(torch.zeros_like(a))
    u, v = torch.ones_like(a), torch.ones_like(b)
    limit = torch.e**DRIFT
    n_iter = 1
    while True:
        columns = kernel.T @ (a * u)
        error = (b * (v * columns - 1.0).abs()).sum().item()
        if error <= tol or n_iter >= max_iter:
            break
        v_next = 1.0 / columns
        u_next = 1.0 / (kernel @ (b * v_next))
        extremes = torch.stack([*v_next.aminmax(), *u_next.aminmax()])
        if ((extremes > 1.0 / limit) & (extremes < limit)).all():
            u, v = u_next, v_next
        else:  # drifted, or a column underflowed: repeat the step in the log domain
            phi, psi, kernel = log_domain_step(phi + u.log())
            u, v = torch.ones_like(a), torch.ones_like(b)
        n_iter += 1
    return reg * (phi + u.log()), reg * (psi + v.log()), error, n_iter


def _plan(cost: Tensor, reg: float, a: Tensor, b: Tensor, f: Tensor, g: Tensor) -> Tensor:
    log_density = (f[:, None] + g[None, :] - cost).div_(reg)
    return log_density.exp_().mul_(a[:, None]).mul_(b[None, :])


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


class _MatrixEnvelope(torch.autograd.Function):
    """The dual value <f, a> + <g, b>; its gradient is (P, f, g) at fixed potentials."""

    @staticmethod
    def forward(ctx, cost, a, b, f, g, reg):
        ctx.save_for_backward(cost, a, b, f, g)
        ctx.reg = reg
        return f @ a + g @ b

    @staticmethod
    def backward(ctx, grad):
        cost, a, b, f, g = ctx.saved_tensors
        needs = ctx.needs_input_grad
        with torch.no_grad():
            grad_cost = grad * _plan(cost, ctx.reg, a, b, f, g) if needs[0] else None
            grads = (grad_cost, grad * f if needs[1] else None, grad * g if needs[2] else None)
        return *_first_order(grads, grad, cost, a, b), None, None, None


class _SamplesEnvelope(torch.autograd.Function):
    """The dual value; dW/dx_i = sum_j P_ij dc(x_i, y_j)/dx_i, and alike in y."""

    @staticmethod
    def forward(ctx, x, y, a, b, f, g, matrix, cost, reg):
        ctx.save_for_backward(x, y, a, b, f, g, matrix)
        ctx.cost, ctx.reg = cost, reg
        return f @ a + g @ b

    @staticmethod
    def backward(ctx, grad):
        x, y, a, b, f, g, matrix = ctx.saved_tensors
        need_x, need_y, need_a, need_b = ctx.needs_input_grad[:4]
        with torch.no_grad():
            plan = grad * _plan(matrix, ctx.reg, a, b, f, g) if need_x or need_y else None
            grads = (
                ctx.cost.gradient(x, y, plan) if need_x else None,
                ctx.cost.T.gradient(y, x, plan.T) if need_y else None,
                grad * f if need_a else None,
                grad * g if need_b else None,
            )
        return *_first_order(grads, grad, x, y, a, b), None, None, None, None, None


def _first_order(grads: tuple, *inputs: Tensor) -> tuple:
    return tuple(None if grad is None else _FirstOrder.apply(grad, *inputs) for grad in grads)
