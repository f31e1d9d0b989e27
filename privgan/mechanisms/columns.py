"""Costs on columns of their own, each in units of its own reg."""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from privgan.sinkhorn import Cost
from privgan.sinkhorn.costs import check_points


@dataclass(frozen=True, eq=False, repr=False)
class ByColumns(Cost):
    """A cost of blocks (columns, cost, reg), in cost(x[:, columns], y[:, columns]) / reg each."""

    blocks: Sequence[tuple[slice, Cost, float]]

    def __post_init__(self) -> None:
        vars(self).update(blocks=tuple(self.blocks))

    def _check(self, x: Tensor, y: Tensor) -> None:
        """Raise unless both are points that have the columns of every block."""
        check_points(x, y)
        wanted = max(s.stop for s, *_ in self.blocks)
        if x.shape[1] < wanted:
            raise ValueError(
                f"x and y have {x.shape[1]} columns; the blocks of costs need {wanted}"
            )

    def shiftable(self, d: int) -> Tensor:
        found = super().shiftable(d)
        for s, cost, _ in self.blocks:
            found[s] = cost.shiftable(len(found[s]))
        return found

    def flat(self, d: int) -> Tensor:
        found = super().flat(d)
        for s, cost, _ in self.blocks:
            found[s] = cost.flat(len(found[s]))
        return found
