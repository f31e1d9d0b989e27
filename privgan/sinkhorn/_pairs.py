"""Squared distances and their like between many columns, in the ways that are precise there."""

from collections.abc import Callable

import torch
from torch import Tensor

from privgan.surroundings import full_precision

# Up to this many columns a cost is formed coordinate by coordinate: exact under translation,
# and cheaper than a matrix product with so short an inner dimension.
FEW = 8
# A squared distance below this share of the squares that it is expanded in is formed anew from
# differences: the expansion would magnify their rounding by more than the inverse.
NEAR = 0.125
HELD = 2**25  # numbers that may be held at a time, where each pair has one for every column


def centred(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Both less the mean of y: what is expanded in their squares would else cancel badly."""
    centre = y.mean(0)
    return x - centre, y - centre


def expand(x: Tensor, y: Tensor, out: Tensor) -> tuple[Tensor, Tensor]:
    """|x_i|^2 - 2 x_i.y_j, (n, m), into ``out``; returns |x_i|^2 (n,) and |y_j|^2 (m,)."""
    squares = x.square().sum(1)
    with full_precision():
        torch.addmm(squares[:, None], x, y.T, alpha=-2.0, out=out)
    return squares, y.square().sum(1)


def settle(x: Tensor, y: Tensor, out: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Squared distances on a CPU, expanded where that is precise, into ``out`` (n, m).

    Returns both sets of points centred, (n, d) and (m, d), and the squares of these, (n,), (m,).
    """
    from privgan.sinkhorn import _loops

    x_, y_ = centred(x, y)
    squares = expand(x_, y_, out)
    _loops.settle(x.contiguous(), y.contiguous(), *squares, out)
    return x_, y_, *squares


def portions(x: Tensor, y: Tensor) -> list[slice]:
    """Rows of ``x`` (n, d) to take at a time where each is to hold d numbers for every ``y``."""
    rows = max(1, HELD // max(1, y.numel()))
    return [slice(start, start + rows) for start in range(0, len(x), rows)]


def in_rows(x: Tensor, y: Tensor, plan: Tensor, p: float, distance: Tensor) -> Tensor:
    """sum_j plan_ij d|x_i - y_j|_p / dx_i, (n, d), from few rows at a time.

    cdist's own backward, which holds one number for each of x, y and columns. For p = 1 it needs
    only the signs, not the distances.
    """
    out = torch.empty_like(x)
    for part in portions(x, y):
        out[part] = torch.ops.aten._cdist_backward(plan[part], x[part], y, p, distance[part])
    return out


def on_triton(x: Tensor, out: Tensor) -> bool:
    from privgan.sinkhorn import _triton  # it imports costs

    return _triton.fits(x) and out.is_contiguous()


def filled_by_triton(x: Tensor, y: Tensor, out: Tensor, *, squared: bool) -> bool:
    from privgan.sinkhorn import _triton

    fits = on_triton(x, out)
    if fits:
        _triton.pairwise(x, y, out, squared=squared)
    return fits


def fill_by_coordinate(
    x: Tensor, y: Tensor, out: Tensor, term_: Callable[[Tensor], Tensor]
) -> None:
    out.zero_()
    for xk, yk in zip(x.unbind(1), y.unbind(1), strict=True):
        out += term_(xk[:, None] - yk[None, :])
