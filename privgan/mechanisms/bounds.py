"""Public domains for records: what a sensitivity is the diameter of.

Local privacy compares any two records that could have been sent, so a mechanism's sensitivity
is the diameter of its domain, and the domain has to be public: limits read off the records
would reveal them. Limits are therefore Python numbers; tensors and arrays are refused.

A budget is as good as its domain is kept: what `Bounds.clip` returns lies inside as it stands, in
its own dtype, and is never only a rounding away from it.
"""

import contextlib
import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from privgan import checks
from privgan.values import Value

# Between these no width, half width, diameter or inverse of one leaves the normal numbers.
SMALLEST, LARGEST = 1e-300, 1e300

Records = TypeVar("Records", Tensor, np.ndarray)


class Bounds(Value, ABC):
    """A bounded convex set of records with ``dim`` columns."""

    dim: int
    center: tuple[float, ...]

    @property
    @abstractmethod
    def widths(self) -> tuple[float, ...]:
        """The set's extent along every coordinate, data units."""

    @abstractmethod
    def l1_diameter(self, d: int | None = None) -> float:
        """The largest L1 distance between two records; ``d``, if given, must be ``dim``."""

    @abstractmethod
    def l2_diameter(self, d: int | None = None) -> float:
        """The largest L2 distance between two records; ``d``, if given, must be ``dim``."""

    def clip(self, x: Records) -> Records:
        """The nearest record of the set to every row of ``x`` (n, dim), differentiably.

        It lies inside, also where the precision of ``x`` is coarse: up to that rounding it is the
        nearest. Raises ValueError where the set holds no number of that precision, and for rows
        that are not finite.
        """
        clipped = self._clip(self._records("x", x))
        return clipped if isinstance(x, Tensor) else clipped.numpy()

    @abstractmethod
    def _clip(self, x: Tensor) -> Tensor:
        """`clip` for rows that have been looked at; NaN stays NaN."""

    @abstractmethod
    def _outside(self, x: Tensor) -> Tensor:
        """Which entries (n, dim), or rows (n, 1), lie outside."""

    def check(self, x: Tensor | np.ndarray, name: str = "x") -> None:
        """Raise ValueError at the first row of ``x`` (n, dim) that lies outside."""
        outside = self._outside(self._records(name, x))
        if not outside.any():
            return
        row, column = (int(i) for i in outside.nonzero()[0])
        count = int(outside.any(1).sum())
        where = f"row {row}" + (f" (column {column})" if outside.shape[1] == self.dim else "")
        raise ValueError(
            f"{name} has {count} row{'' if count == 1 else 's'} outside {self!r}, the first at "
            f"{where}; ask for clipping with clip=True, or widen the public bounds"
        )

    def _records(self, name: str, x: Any) -> Tensor:
        """``x`` as finite rows of the right width; there may be none."""
        records = checks.as_float_tensor(name, x)
        if records.ndim != 2:
            raise ValueError(
                f"{name} has shape {tuple(records.shape)}; records are (n, {self.dim}), a row each"
            )
        self.check_columns(records.shape[1], name)
        checks.check_finite(name, records, "row")
        return records

    def check_columns(self, d: int, name: str = "x") -> None:
        """Raise ValueError unless records of ``d`` columns fit."""
        if d != self.dim:
            raise ValueError(f"{name} has {d} columns and {self!r} has {self.dim}; they must agree")

    def _check_size(self, names: str) -> None:
        """Raise ValueError for a domain in units so small or so large that numbers fail."""
        with contextlib.suppress(OverflowError):  # which math.fsum raises
            reach = math.hypot(*self.center) + self.l1_diameter()
            if min(self.widths) >= SMALLEST and reach <= LARGEST:
                return
        raise ValueError(
            f"{names} must leave a domain wider than {SMALLEST:g} in every column and within "
            f"{LARGEST:g} of the origin, got {self!r}; change the units of the records"
        )

    def _no_number(self, dtype: torch.dtype) -> ValueError:
        return ValueError(
            f"{self!r} holds no number of {str(dtype).removeprefix('torch.')}; pass records in "
            "float64, or move the origin of their units nearer"
        )


@dataclass(frozen=True, eq=False, repr=False)
class Box(Bounds):
    """Records with ``low <= x <= high`` in every coordinate.

    low, high: numbers for all coordinates, with ``dim`` the number of columns, or sequences of
    one number a column. They are kept as one number a column.
    """

    low: tuple[float, ...]
    high: tuple[float, ...]
    dim: int

    def __init__(
        self,
        low: float | Sequence[float],
        high: float | Sequence[float],
        dim: int | None = None,
    ):
        dim = _dim({"low": low, "high": high}, dim)
        lows, highs = _limits("low", low, dim), _limits("high", high, dim)
        for k, (a, b) in enumerate(zip(lows, highs, strict=True)):
            if not a < b:
                raise ValueError(f"low must be below high, got {a!r} and {b!r} for column {k}")
        center = tuple(a / 2 + b / 2 for a, b in zip(lows, highs, strict=True))
        vars(self).update(low=lows, high=highs, dim=dim, center=center)
        self._check_size("low and high")

    @property
    def widths(self) -> tuple[float, ...]:
        return tuple(b - a for a, b in zip(self.low, self.high, strict=True))

    def l1_diameter(self, d: int | None = None) -> float:
        self.check_columns(self.dim if d is None else d)
        return math.fsum(self.widths)

    def l2_diameter(self, d: int | None = None) -> float:
        self.check_columns(self.dim if d is None else d)
        return math.hypot(*self.widths)

    def _clip(self, x: Tensor) -> Tensor:
        ends = ("low", "high") if x.dtype == torch.float64 else ("_low_single", "_high_single")
        low, high = (self.placed(end, x) for end in ends)
        return torch.maximum(torch.minimum(x, high), low)

    def _outside(self, x: Tensor) -> Tensor:
        """A limit as its nearest number is still inside: 0.1 in float32 is above 0.1."""
        return (x < self.placed("low", x)) | (x > self.placed("high", x))

    @property
    def _low_single(self) -> Tensor:
        """The least float32 numbers inside, (dim,)."""
        return self._single()[0]

    @property
    def _high_single(self) -> Tensor:
        return self._single()[1]

    def _single(self) -> tuple[Tensor, Tensor]:
        """The least and the greatest float32 numbers inside."""
        low, high = torch.tensor([self.low, self.high], dtype=torch.float64)
        up = torch.tensor(math.inf)
        least, most = low.float(), high.float()
        least = torch.where(least < low, least.nextafter(up), least)
        most = torch.where(most > high, most.nextafter(-up), most)
        if (least > most).any():
            raise self._no_number(torch.float32)
        return least, most

    def __repr__(self) -> str:
        low, high = _short(self.low), _short(self.high)
        return f"Box({low}, {high}, dim={self.dim})"


@dataclass(frozen=True, eq=False, repr=False)
class Ball(Bounds):
    """Records within the L2 distance ``radius`` of ``center`` (the origin), in ``dim`` columns.

    Its diameter is twice the radius. The center is kept as one number a column.
    """

    radius: float
    dim: int
    center: tuple[float, ...]

    def __init__(
        self, radius: float, dim: int | None = None, center: float | Sequence[float] = 0.0
    ):
        radius = checks.positive("radius", checks.public("radius", radius))
        dim = _dim({"center": center}, dim)
        vars(self).update(radius=radius, dim=dim, center=_limits("center", center, dim))
        self._check_size("radius and center")

    @property
    def widths(self) -> tuple[float, ...]:
        return (2 * self.radius,) * self.dim

    def l1_diameter(self, d: int | None = None) -> float:
        self.check_columns(self.dim if d is None else d)
        return 2 * self.radius * math.sqrt(self.dim)

    def l2_diameter(self, d: int | None = None) -> float:
        self.check_columns(self.dim if d is None else d)
        return 2 * self.radius

    def _clip(self, x: Tensor) -> Tensor:
        offset, _ = self._offset(x)
        direction = offset / offset.norm(dim=1, keepdim=True).clamp_min(1.0)
        moved = (self.placed("center", offset) + self._aim(x.dtype) * direction).type(x.dtype)
        # The aim allows for rounding. Look again all the same, and fall back on the center.
        center = "center" if x.dtype == torch.float64 else "_center_single"
        moved = torch.where(self._outside(moved), self.placed(center, x), moved)
        return torch.where(self._outside(x), moved, x)

    def _aim(self, dtype: torch.dtype) -> float:
        """A radius from which rounding to ``dtype`` does not lead outside.

        A coordinate moves by at most eps/2 of its size, a row by at most eps/2 of its norm; and
        float64 errs by some roundings of its own on the way, and again in looking.
        """
        furthest = math.hypot(*self.center) + self.radius
        rounding = torch.finfo(dtype).eps / 2 + 4 * self.dim**0.5 * torch.finfo(torch.float64).eps
        return max(0.0, self.radius - rounding * furthest)

    def _outside(self, x: Tensor) -> Tensor:
        offset, scale = self._offset(x.detach())
        return scale * offset.norm(dim=1, keepdim=True) > self.radius

    def _offset(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """x - center in float64, (n, dim), in units of its largest entry, (n, 1).

        In these units no square overflows, and one of 1 cannot vanish.
        """
        x = x.double()
        offset = x - self.placed("center", x)
        scale = offset.detach().abs().amax(1, keepdim=True)
        scale = torch.where(scale > 0.0, scale, 1.0)
        return offset / scale, scale

    @property
    def _center_single(self) -> Tensor:
        """The float32 record nearest to the center, (dim,)."""
        center = torch.tensor(self.center, dtype=torch.float32)
        if self._outside(center[None]).any():
            raise self._no_number(torch.float32)
        return center

    def __repr__(self) -> str:
        at = f", center={_short(self.center)}" if any(self.center) else ""
        return f"Ball({self.radius!r}, dim={self.dim}{at})"


def _dim(limits: dict[str, float | Sequence[float]], dim: int | None) -> int:
    """The number of columns: given, or the length of the limits."""
    if dim is not None:
        return checks.positive_int("dim", dim)
    for name, limit in limits.items():
        if isinstance(limit, Sequence) and not isinstance(limit, str):
            return checks.positive_int(f"the length of {name}", len(limit))
        checks.public(name, limit)
    raise TypeError(
        f"the number of columns is missing: pass dim, or {' and '.join(limits)} with a number a "
        "column"
    )


def _limits(name: str, value: float | Sequence[float], dim: int) -> tuple[float, ...]:
    """``dim`` public numbers from one or from a sequence."""
    if not isinstance(value, Sequence) or isinstance(value, str):
        return (checks.public(name, value),) * dim
    if len(value) != dim:
        raise ValueError(f"{name} has {len(value)} numbers for {dim} columns")
    return tuple(checks.public(f"{name}[{k}]", v) for k, v in enumerate(value))


def _short(limits: tuple[float, ...]) -> str:
    return repr(limits[0] if len(set(limits)) == 1 else list(limits))
