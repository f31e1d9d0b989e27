"""A matrix of costs whose backward pass is the cost's own: it never holds n x m x d numbers."""

from typing import Any

import torch
from torch import Tensor


class Pairwise(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, y: Tensor, cost: Any) -> Tensor:
        ctx.save_for_backward(x, y)
        ctx.cost = cost
        return cost.matrix(x.detach(), y.detach())

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, plan: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        x, y = ctx.saved_tensors
        need_x, need_y, _ = ctx.needs_input_grad
        return (
            ctx.cost.gradient(x, y, plan) if need_x else None,
            ctx.cost.gradient(y, x, plan.T) if need_y else None,
            None,
        )
