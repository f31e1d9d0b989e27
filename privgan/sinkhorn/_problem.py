"""What is to be solved, and transforms of its potentials in float64: slow, and right for any reg.

Both limits cost the usual formulas their digits. Where reg is far below the costs, exp underflows
unless the largest exponent is taken out. Where reg is far above, all exponents are nearly 0, sums
of exponentials nearly 1, and their logarithms rounding; ``log1p`` of sums of ``expm1`` keeps them.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from privgan.sinkhorn._pairs import HELD
from privgan.sinkhorn.costs import Cost
from privgan.sinkhorn.weights import double, is_uniform

TILE = 2**22  # cost entries formed at a time


def tile_rows(y: Tensor) -> int:
    """Points whose costs to ``y`` (m, d) are formed at a time, by any `Cost`: within `TILE`, and
    `HELD` should it hold a number for every column, too."""
    return max(1, min(TILE // len(y), HELD // max(1, y.numel())))


@dataclass(frozen=True)
class Side:
    """Points (k, d) of positive weight, their weights, float64 with sum 1, and those of weight 0.

    kept (n,): which points have a weight, boolean. It and the points of weight 0 are None if there
    are none.
    """

    points: Tensor
    weights: Tensor
    kept: Tensor | None = None
    dropped: Tensor | None = None

    @staticmethod
    def of(points: Tensor, weights: Tensor, check: bool) -> "Side":
        """All points (n, d) with these weights (n,), of which unless to ``check`` none is 0."""
        points, precise = points.detach(), double(weights)
        if check and not (is_uniform(weights) or precise.min() > 0):
            kept = precise > 0
            return Side(points[kept], precise[kept], kept, points[~kept])
        return Side(points, precise)

    def copied(self) -> "Side":
        """With points of its own; where some have been dropped they are already."""
        return Side(self.points.clone(), self.weights) if self.kept is None else self

    def filled(self, own: Tensor, other: Tensor | float = 0.0) -> Tensor:
        """Numbers (k, ...) of the points that have a weight, and ``other`` ones for the rest."""
        if self.kept is None:
            return own
        full = own.new_zeros((len(self.kept), *own.shape[1:]))
        full[self.kept], full[~self.kept] = own, other
        return full


@dataclass(frozen=True)
class Problem:
    """Entropic OT between two sides, reg in cost units.

    most: where other processes hold more of its own side, the largest of everybody's numbers.
    """

    own: Side
    other: Side
    cost: Cost
    reg: float
    most: Callable[..., list[float]] | None = None

    @property
    def x(self) -> Tensor:
        return self.own.points

    @property
    def y(self) -> Tensor:
        return self.other.points

    @property
    def a(self) -> Tensor:
        return self.own.weights

    @property
    def b(self) -> Tensor:
        return self.other.weights

    def transposed(self) -> "Problem":
        """The same with its two sides exchanged."""
        return Problem(self.other, self.own, self.cost.T, self.reg)

    def copied(self) -> "Problem":
        """The same, with points of its own."""
        return Problem(self.own.copied(), self.other.copied(), self.cost, self.reg)

    def among_all(self, ends: tuple[float, float]) -> tuple[float, float]:
        """The ends of all costs, from those of the costs that are here."""
        if self.most is None:
            return ends
        low, high = self.most(-ends[0], ends[1])
        return -low, high

    def tiles(self) -> Iterator[slice]:
        rows = tile_rows(self.y)
        for first in range(0, len(self.x), rows):
            yield slice(first, first + rows)

    def _exponents(self, x: Tensor, psi: Tensor) -> Tensor:
        """psi_j - c(x_i, y_j) / reg for some points x, float64."""
        return self.cost.matrix(x.double(), self.y.double()).double().div_(-self.reg).add_(psi)

    def potential(self, x: Tensor, psi: Tensor) -> Tensor:
        """-log sum_j b_j exp(psi_j - c(x_i, y_j) / reg) for points x (k, d), float64."""
        rows = tile_rows(self.y)
        return torch.cat([self._potential(part, psi) for part in x.split(rows)])

    def _potential(self, x: Tensor, psi: Tensor) -> Tensor:
        exponents = self._exponents(x, psi)
        top = exponents.amax(1)
        rest = (exponents - top[:, None]).expm1_() @ self.b
        near = top + rest.log1p()
        if (rest > -0.5).all():
            return -near
        return -torch.where(rest > -0.5, near, torch.logsumexp(exponents.add_(self.b.log()), 1))

    def plan(self, psi: Tensor, tile: slice) -> Tensor:
        """Some rows of the plan of ``psi``, which sum to ``a``; float64."""
        exponents = self._exponents(self.x[tile], psi + self.b.log())
        return torch.softmax(exponents, 1).mul_(self.a[tile, None])

    def extended(self, phi: Tensor, psi: Tensor) -> tuple[Tensor, Tensor]:
        """Potentials (n,), (m,): points of weight 0 have those that a small weight would have."""
        if self.own.kept is None and self.other.kept is None:
            return phi, psi
        own, other = self.own, self.other
        more_phi = 0.0 if own.dropped is None else self.potential(own.dropped, psi)
        swapped = self.transposed()
        more_psi = 0.0 if other.dropped is None else swapped.potential(other.dropped, phi)
        return own.filled(phi, more_phi), other.filled(psi, more_psi)


def gradients(
    cost: Cost,
    x: Tensor,
    y: Tensor,
    tiles: Iterable[slice],
    plan: Callable[[slice], Tensor],
    need_y: bool,
) -> tuple[Tensor, Tensor | None]:
    """Plan-weighted cost gradients in x (n, d) and, if asked for, in y (m, d).

    plan: the plan's rows that a tile stands for; tiles cover all of x, and are taken one at a time.
    """
    grad_x = torch.empty_like(x)
    grad_y = torch.zeros_like(y) if need_y else None
    for tile in tiles:
        rows = plan(tile).to(x)
        grad_x[tile] = cost.gradient(x[tile], y, rows)
        if grad_y is not None:
            grad_y += cost.T.gradient(y, x[tile], rows.T)
    return grad_x, grad_y
