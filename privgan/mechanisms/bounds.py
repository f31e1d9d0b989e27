"""Public domains for records: what a sensitivity is the diameter of.

Local privacy compares any two records that could have been sent, so a mechanism's sensitivity
is the diameter of its domain, and the domain has to be public: limits read off the records
would reveal them. Limits are therefore Python numbers; tensors and arrays are refused.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from privgan import checks
from privgan.values import Value


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

    @abstractmethod
    def clip(self, x: Tensor) -> Tensor:
        """The nearest record of the set to every row of ``x`` (n, dim), differentiably."""

    @abstractmethod
    def _outside(self, x: Tensor) -> Tensor:
        """Which entries (n, dim), or rows (n, 1), lie outside."""

    def check(self, x: Tensor, name: str = "x") -> None:
        """Raise ValueError at the first row of ``x`` (n, dim) that lies outside."""
        self.check_columns(x.shape[1], name)
        outside = self._outside(x)
        if not outside.any():
            return
        row, column = (int(i) for i in outside.nonzero()[0])
        count = int(outside.any(1).sum())
        if outside.shape[1] == self.dim:
            where = f"row {row} (column {column}): {x[row, column].item():.6g}"
        else:
            where = f"row {row}: distance {self._distance(x[row : row + 1]).item():.6g}"
        raise ValueError(
            f"{name} has {count} row{'' if count == 1 else 's'} outside {self!r}, the first at "
            f"{where}; ask for clipping with clip=True, or widen the public bounds"
        )

    def check_columns(self, d: int, name: str = "x") -> None:
        """Raise ValueError unless records of ``d`` columns fit."""
        if d != self.dim:
            raise ValueError(f"{name} has {d} columns and {self!r} has {self.dim}; they must agree")

    def _distance(self, x: Tensor) -> Tensor:
        """L2 distance of every row from the centre, float64, (n,)."""
        x = x.detach().double()
        distance: Tensor = (x - self.placed("center", x)).norm(dim=1)
        return distance


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
        center = tuple((a + b) / 2 for a, b in zip(lows, highs, strict=True))
        vars(self).update(low=lows, high=highs, dim=dim, center=center)

    @property
    def widths(self) -> tuple[float, ...]:
        return tuple(b - a for a, b in zip(self.low, self.high, strict=True))

    def l1_diameter(self, d: int | None = None) -> float:
        self.check_columns(self.dim if d is None else d)
        return math.fsum(self.widths)

    def l2_diameter(self, d: int | None = None) -> float:
        self.check_columns(self.dim if d is None else d)
        return math.hypot(*self.widths)

    def clip(self, x: Tensor) -> Tensor:
        return torch.maximum(torch.minimum(x, self.placed("high", x)), self.placed("low", x))

    def _outside(self, x: Tensor) -> Tensor:
        return (x < self.placed("low", x)) | (x > self.placed("high", x))

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

    @property
    def widths(self) -> tuple[float, ...]:
        return (2 * self.radius,) * self.dim

    def l1_diameter(self, d: int | None = None) -> float:
        self.check_columns(self.dim if d is None else d)
        return 2 * self.radius * math.sqrt(self.dim)

    def l2_diameter(self, d: int | None = None) -> float:
        self.check_columns(self.dim if d is None else d)
        return 2 * self.radius

    def clip(self, x: Tensor) -> Tensor:
        centre = self.placed("center", x)
        # Everything below rounds: aim this far inside, so that what is clipped is inside.
        scale = self.radius + max(abs(c) for c in self.center)
        radius = self.radius - 2 * self.dim**0.5 * torch.finfo(x.dtype).eps * scale
        distance = (x - centre).norm(dim=1, keepdim=True)
        moved = centre + (x - centre) * (radius / distance.clamp_min(radius))
        return torch.where(distance > radius, moved, x)

    def _outside(self, x: Tensor) -> Tensor:
        return (self._distance(x) > self.radius)[:, None]

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
