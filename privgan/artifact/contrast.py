"""Losses to hold the matched one against: their minimiser is the law of the reports."""

from typing import Any

import numpy as np
import ot
import torch
from torch import Tensor

from privgan import checks
from privgan.sinkhorn import Cost, SinkhornResult, solve_samples
from privgan.training.losses import EntropicLoss, Loss, Value


class SinkhornDivergence(EntropicLoss):
    """Debiased entropic OT, W(x, y) - W(x, x)/2 - W(y, y)/2: the contrast, for its minimiser
    is the law of the reports.

    Feydy et al., "Interpolating between optimal transport and MMD", 2019.
    """

    def solve(self, x: Tensor, y: Tensor, a: Tensor | None = None) -> Value:
        x = self.forward(x)

        def solve(x: Tensor, y: Tensor, *weights: Tensor | None) -> SinkhornResult:
            return solve_samples(
                x, y, self.cost, self.reg, *weights, tol=self.tol, max_iter=self.max_iter
            )

        parts = between, within, target = solve(x, y, a), solve(x, x, a, a), solve(y, y)
        return Value(
            between.value - (within.value + target.value) / 2,
            converged=all(part.converged for part in parts),
            error=max(part.error for part in parts),
            n_iter=sum(part.n_iter for part in parts),
        )


class ExactLoss(Loss):
    """Unregularised OT by POT's network simplex: what a generator trained on reports as if
    they were raw data would minimise. Its minimiser is the law of the reports.
    """

    def __init__(self, cost: Cost):
        self.cost = cost

    def solve(self, x: Tensor, y: Tensor, a: Tensor | None = None) -> Value:
        x, y = checks.as_pair("x", self.forward(x), "y", y)
        if a is None:
            a = x.new_full((len(x),), 1.0 / len(x))
        value, converged = _ExactTransport.apply(x, y, a, self.cost)
        return Value(value, converged)

    def __repr__(self) -> str:
        return f"ExactLoss({self.cost!r})"


class _ExactTransport(torch.autograd.Function):
    """<P, C> at POT's optimal P, uniform on y; gradients hold P, and its potentials, fixed."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, y: Tensor, a: Tensor, cost: Cost) -> tuple[Tensor, bool]:
        with torch.no_grad():
            matrix = cost.matrix(x, y)
        weights = a.detach().double().cpu().numpy()
        plan, log = ot.emd(
            weights / weights.sum(),
            np.full(y.shape[0], 1.0 / y.shape[0]),
            matrix.double().cpu().numpy(),
            numItermax=1_000_000,
            log=True,
        )
        plan = torch.as_tensor(plan, dtype=x.dtype, device=x.device)
        potential = torch.as_tensor(log["u"], dtype=x.dtype, device=x.device)
        ctx.save_for_backward(x, y, plan, potential)
        ctx.cost = cost
        return (plan * matrix).sum(), log["warning"] is None

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor, _: None) -> tuple[Tensor | None, ...]:
        x, y, plan, potential = ctx.saved_tensors
        need_x, need_y, need_a = ctx.needs_input_grad[:3]
        return (
            ctx.cost.gradient(x, y, grad * plan) if need_x else None,
            ctx.cost.T.gradient(y, x, grad * plan.T) if need_y else None,
            grad * potential if need_a else None,
            None,
        )
