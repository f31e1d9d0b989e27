"""What a solve returns, and how its value is differentiated."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from privgan.sinkhorn._iteration import Solution


@dataclass(frozen=True)
class SinkhornResult:
    """A solved problem. ``converged`` says whether ``error`` reached the tolerance.

    value: 0-dim tensor, cost units; differentiable in the inputs that require gradients.
    f, g: potentials, (n,) and (m,), cost units, rounded to the inputs' precision. Inside, they
    are float64: where costs are 1000 times reg, float32 alone costs 1e-4 of marginal error.
    """

    value: Tensor
    f: Tensor
    g: Tensor
    _solution: Solution = field(repr=False)
    _tol: float = field(repr=False)
    _density: Callable[[], Tensor] | None = field(repr=False, default=None)

    @cached_property
    def error(self) -> float:
        """L1 marginal error of the plan behind value, gradients and `plan`, in mass (0 to 2)."""
        return float(self._solution.error)

    @cached_property
    def n_iter(self) -> int:
        """Iterations taken, a pair of half-steps each."""
        return int(self._solution.n_iter)

    @property
    def converged(self) -> bool:
        """Whether ``error`` is at most the tolerance that was asked for."""
        return self.error <= self._tol

    @property
    def certificate(self) -> tuple[Tensor | float, Tensor | float]:
        """error and n_iter where they are: on the device, if nobody had to look at them yet."""
        return self._solution.error, self._solution.n_iter

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
