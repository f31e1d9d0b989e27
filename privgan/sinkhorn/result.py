"""What a solve returns, and how its value is differentiated."""

import math
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from privgan.sinkhorn._problem import Problem


@dataclass(frozen=True)
class Coupling:
    """A plan that is formed when it is asked for.

    problem: with points of its own, for the caller's may be written to. psi (k,): potentials of
    the points of y that have a weight, in units of reg.
    """

    problem: Problem
    psi: Tensor
    dtype: torch.dtype

    def plan(self, dtype: torch.dtype | None = None) -> Tensor:
        """The plan, (n, m), 0 where a weight is."""
        own, other = self.problem.own, self.problem.other
        tiles = self.problem.tiles()
        plan = torch.cat(
            [self.problem.plan(self.psi, tile).to(dtype or self.dtype) for tile in tiles]
        )
        return other.filled(own.filled(plan).T).T


@dataclass(frozen=True)
class SinkhornResult:
    """A solved problem. ``converged`` says whether ``error`` reached the tolerance.

    value: 0-dim tensor, cost units; differentiable in the inputs that require gradients.
    f, g: potentials, (n,) and (m,), cost units, rounded to the inputs' precision. Inside, they
    are float64: where costs are 1000 times reg, float32 alone costs 1e-4 of marginal error.

    Writing to the inputs later changes nothing here. A pickled or copied result has all but the
    value's graph.
    """

    value: Tensor
    f: Tensor
    g: Tensor
    _certificate: tuple[Tensor | float, Tensor | int] = field(repr=False)
    _tol: float = field(repr=False)
    _coupling: Coupling | None = field(repr=False, default=None)

    @cached_property
    def error(self) -> float:
        """L1 marginal error of the plan behind value, gradients and `plan`, in mass (0 to 2).

        A bound on what rounding adds is included, unless `solve_batch` found it: the plan's
        marginals summed in float64 are no further off, or by a few per cent.
        """
        return float(self._certificate[0])

    @cached_property
    def n_iter(self) -> int:
        """Iterations taken, a pair of half-steps each."""
        return int(self._certificate[1])

    @property
    def converged(self) -> bool:
        """Whether ``error`` is at most the tolerance that was asked for."""
        return self.error <= self._tol

    @property
    def certificate(self) -> tuple[Tensor | float, Tensor | int, Tensor | bool]:
        """error, n_iter and converged where they are: on the device, if nobody looked there yet."""
        error, n_iter = self._certificate
        return error, n_iter, error <= self._tol

    def plan(self) -> Tensor:
        """The coupling, (n, m); its rows sum to ``a`` up to rounding. Dense problems only."""
        if self._coupling is None:
            raise ValueError("a streamed problem has no stored plan; solve with backend='dense'")
        return self._coupling.plan()

    def information(self) -> float:
        """KL(P || a b^T), nats, at most log min(n, m); NaN for a streamed problem."""
        if self._coupling is None:
            return math.nan
        plan = self._coupling.plan(torch.float64)
        return max(0.0, divergence(plan, plan.sum(0)).item())

    def __getstate__(self) -> dict[str, Any]:
        return vars(self) | {"value": self.value.detach()}


def divergence(plan: Tensor, columns: Tensor) -> Tensor:
    """What rows (k, m) of a plan add to its KL from the product of its marginals.

    columns: sums of the whole plan's, (m,).
    """
    product = (plan.sum(1)[:, None] * columns).clamp_min(1e-300)
    ratio = plan / product  # r log r - r + 1 >= 0: no sum of it cancels
    return (torch.xlogy(ratio, ratio).sub_(ratio).add_(1.0) * product).sum()


class Envelope(torch.autograd.Function):
    """Attaches to the value the gradients that were computed with it."""

    @staticmethod
    def forward(
        ctx: Any, value: Tensor, gradients: tuple[Tensor | None, ...], *inputs: Tensor
    ) -> Tensor:
        ctx.save_for_backward(*inputs)
        ctx.gradients = gradients
        return value.clone()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
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
