"""Losses to hold the matched one against: their minimiser is the law of the reports."""

import numpy as np
import ot
import torch
from torch import Tensor

from privgan import checks
from privgan.sinkhorn import Cost, solve_samples
from privgan.training.losses import EntropicLoss, Loss, Value


class SinkhornDivergence(EntropicLoss):
    """Debiased entropic OT, W(x, y) - W(x, x)/2 - W(y, y)/2: the contrast, for its minimiser
    is the law of the reports.

    Feydy et al., "Interpolating between optimal transport and MMD", 2019.
    """

    def solve(self, x: Tensor, y: Tensor, a: Tensor | None = None) -> Value:
        x = self.forward(x)
        settings = {"tol": self.tol, "max_iter": self.max_iter}
        between = solve_samples(x, y, self.cost, self.reg, a, **settings)
        within = solve_samples(x, x, self.cost, self.reg, a, a, **settings)
        target = solve_samples(y, y, self.cost, self.reg, **settings)
        parts = between, within, target
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
    def forward(ctx, x, y, a, cost):
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
    def backward(ctx, grad, _):
        x, y, plan, potential = ctx.saved_tensors
        need_x, need_y, need_a = ctx.needs_input_grad[:3]
        return (
            ctx.cost.gradient(x, y, grad * plan) if need_x else None,
            ctx.cost.T.gradient(y, x, grad * plan.T) if need_y else None,
            grad * potential if need_a else None,
            None,
        )
