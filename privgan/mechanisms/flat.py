"""Costs that are piecewise constant in the record: they have values, and no gradient."""

from dataclasses import dataclass

import torch
from torch import Tensor

from privgan.sinkhorn import Cost
from privgan.sinkhorn.costs import Transposed


class FlatCost(Cost):
    """A cost whose gradient is zero in every column of x, also where its arguments are swapped."""

    def gradient(self, x: Tensor, y: Tensor, plan: Tensor) -> Tensor:
        return torch.zeros_like(x)

    def flat(self, d: int) -> Tensor:
        return torch.ones(d, dtype=torch.bool, device="cpu")

    @property
    def T(self) -> Cost:
        return _FlatTransposed(self)


@dataclass(frozen=True, eq=False, repr=False)
class _FlatTransposed(Transposed, FlatCost):
    gradient = FlatCost.gradient
    flat = FlatCost.flat
