"""Losses to hold the matched one against: their minimiser is the law of the reports."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from privgan import checks
from privgan.artifact.transport import best_plan
from privgan.sinkhorn import Cost
from privgan.sinkhorn.weights import is_uniform, weights
from privgan.training.losses import EntropicLoss, Loss, Value


@dataclass(frozen=True)
class SinkhornDivergence(EntropicLoss):
    """Debiased entropic OT, W(x, y) - W(x, x)/2 - W(y, y)/2: the contrast, for its minimiser
    is the law of the reports.

    Feydy et al., "Interpolating between optimal transport and MMD", 2019.
    """

    def between(self, x: Tensor, y: Tensor, a: Tensor | None = None) -> Value:
        between = self._coupled(x, y, a)
        within = self._coupled(x, x, a, a)
        target = self._coupled(y, y, None)
        parts = between, within, target
        return Value(
            between.value - (within.value + target.value) / 2,
            converged=all(part.converged for part in parts),
            error=max(part.error for part in parts),
            n_iter=sum(part.n_iter for part in parts),
        )


@dataclass(frozen=True)
class ExactLoss(Loss):
    """Unregularised OT by POT's network simplex: what a generator trained on reports as if
    they were raw data would minimise. Its minimiser is the law of the reports.

    ``converged`` is False where the plan may cost more than the best one by what is to be seen:
    beside an outlier far out on both sides, among points of unequal weights.
    """

    cost: Cost

    def __post_init__(self) -> None:
        checks.instance("cost", self.cost, Cost)

    def between(self, x: Tensor, y: Tensor, a: Tensor | None = None) -> Value:
        x, y = checks.as_pair("x", x, "y", y)
        value, converged = _ExactTransport.apply(x, y, weights("a", a, len(x), x), self.cost)
        return Value(value, converged)

    def shiftable(self, d: int) -> Tensor:
        return self.cost.shiftable(d)

    def unit(self, y: Tensor) -> float:
        """The mean cost of half the reports to the other half."""
        half = min(len(y) // 2, 500)
        spread = self.cost.matrix(y[:half], y[half : 2 * half]).mean().item() if half else 0.0
        return spread if 0.0 < spread < math.inf else 1.0


class _ExactTransport(torch.autograd.Function):
    """<P, C> at POT's optimal P, uniform on y; gradients hold P, and its potentials, fixed."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, y: Tensor, a: Tensor, cost: Cost) -> tuple[Tensor, bool]:
        with torch.no_grad():
            matrix = cost.matrix(x.double(), y.double()).cpu().numpy()
        if not np.isfinite(matrix).all():
            raise ValueError("costs between x and y overflow; rescale the data")
        best = best_plan(matrix, None if is_uniform(a) else a.detach().double().cpu().numpy())
        value = x.new_tensor((best.masses * matrix).sum())
        plan = torch.as_tensor(best.masses, dtype=x.dtype, device=x.device)
        potential = torch.as_tensor(best.potential, dtype=x.dtype, device=x.device)
        ctx.save_for_backward(x, y, plan, potential)
        ctx.cost = cost
        return value, best.exact

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor, _: Any) -> tuple[Tensor | None, ...]:
        x, y, plan, potential = ctx.saved_tensors
        need_x, need_y, need_a = ctx.needs_input_grad[:3]
        return (
            ctx.cost.gradient(x, y, grad * plan) if need_x else None,
            ctx.cost.T.gradient(y, x, grad * plan.T) if need_y else None,
            grad * potential if need_a else None,
            None,
        )
