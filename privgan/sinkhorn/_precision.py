"""What rounding adds to a marginal error, and so which precision a tolerance needs.

An entry of the plan, a b exp(phi + psi - C / reg), carries the rounding of its cost over reg and a
few roundings of its own, relatively; the marginal error of all of them is at most that of the
worst. Costs are taken for precise to `COSTS` units in the last place of the largest, sums and
products in the iteration to `SUMS` units: about twice the worst that random problems have shown.
"""

import math

import torch
from torch import Tensor

from privgan.sinkhorn.costs import SQUARED_L2, Cost

COSTS, SUMS = 2, 16
# Costs that differ by less than this many reg are too alike for sums of exponentials: potentials
# of the size of the costs would be rounding.
FLAT = 1 / 2
PLAIN = 1e-30  # numbers from here to its inverse are far from float32's ends
MOST = 1e15  # costs over reg, of which float64 holds a third
OVERFLOWS = "cost / reg overflows: {}; rescale the data, leave outliers out, or raise reg"
TOO_SMALL = OVERFLOWS.format("reg is too small for these costs")


def rounding(dtype: torch.dtype, largest: float) -> float:
    """L1 marginal error, at most, from costs up to ``largest`` times reg in this precision."""
    return COSTS * torch.finfo(dtype).eps * largest


def sums_hold(dtype: torch.dtype, tol: float) -> bool:
    """Whether the iteration's sums in this precision support the tolerance."""
    return SUMS * torch.finfo(dtype).eps <= tol / 4


def holds(dtype: torch.dtype, ends: tuple[float, float], reg: float, tol: float) -> bool:
    """Whether costs between these ends do, in this precision."""
    largest = max(abs(end) for end in ends)
    inside = PLAIN < largest < 1 / PLAIN and PLAIN < reg < 1 / PLAIN  # squares of them, too
    return inside and sums_hold(dtype, tol) and rounding(dtype, largest / reg) <= tol / 2


def extent(matrix: Tensor) -> tuple[float, float]:
    """The least and the largest entry."""
    low, high = torch.stack(torch.aminmax(matrix)).tolist()
    return low, high


def reach(x: Tensor, y: Tensor, cost: Cost, rows: int) -> tuple[float, float]:
    """Bounds on the costs between x (n, d) and y (m, d), in memory for ``rows`` of them.

    For norms from the distances to a point in the middle, within a factor of about 2.
    """
    if cost.pointwise is None:
        return extent(torch.tensor([extent(cost.matrix(part, y)) for part in x.split(rows)]))
    middle = y.mean(0, keepdim=True)
    far = [cost.matrix(points, middle).max().item() for points in (x, y)]
    if cost.pointwise == SQUARED_L2:
        return 0.0, (far[0] ** 0.5 + far[1] ** 0.5) ** 2
    return 0.0, sum(far)


def check_range(low: float, high: float, reg: float) -> float:
    """The largest cost in size; ValueError unless it is a number, over reg too."""
    if not (math.isfinite(low) and math.isfinite(high)):  # max would let one NaN by
        raise ValueError(OVERFLOWS.format("some costs are not finite, in float64 too"))
    largest = max(-low, high)
    if not largest / reg <= MOST:
        raise ValueError(TOO_SMALL)
    return largest
