"""Numbers in an interval, reported by a likely band around the truth: Piecewise, Square Wave.

With every coordinate's interval scaled to [-1, 1], both channels report a number of [-reach,
reach], uniformly within ``half`` of stretch * x with high density and uniformly elsewhere with a
density e^epsilon times less, so that a report reveals exactly epsilon of a coordinate. Coordinates
are reported independently and their budgets add.

-log k counts the coordinates whose report lies outside the band: it is flat in x, and a
generator of points gets no gradient from it. Learn the weights of a law on a grid instead
(`privgan.Atoms`): the transport value is differentiable in them.
"""

import math
from abc import abstractmethod
from dataclasses import dataclass, field
from typing import Any, Self

import torch
from torch import Tensor

from privgan import checks
from privgan.mechanisms.base import Mechanism, refuse_sensitivity
from privgan.mechanisms.bounds import LARGEST, SMALLEST, Box
from privgan.mechanisms.budget import Budget
from privgan.mechanisms.chances import happens
from privgan.mechanisms.flat import FlatCost
from privgan.sinkhorn.costs import check_points

EDGE = 1e-5  # reports this far out, relatively, are put down to rounding
STEPS = 16.0  # between neighbouring numbers that half a band must have room for


@dataclass(frozen=True, eq=False, repr=False)
class BandCost(FlatCost):
    """``weight`` times the number of coordinates with ``|y - stretch x| > half``.

    box: its intervals are scaled to [-1, 1] first. Flat in x: the gradient is zero.
    """

    box: Box
    weight: float
    stretch: float
    half: float

    def matrix(self, x: Tensor, y: Tensor) -> Tensor:
        check_points(x, y)
        self.box.check_columns(x.shape[1])
        # Reports are drawn in float64 and then rounded to what they come in. Rounding keeps order,
        # so a report from the band lies between the band's ends when these are rounded alike.
        middles = self.stretch * to_unit(x.double(), self.box)
        lows, highs = (
            from_unit(middles + end, self.box).type(y.dtype) for end in (-self.half, self.half)
        )
        misses = y.new_zeros((len(x), len(y)))
        for k, values in enumerate(y.unbind(1)):
            misses += (values < lows[:, k, None]) | (values > highs[:, k, None])
        return self.weight * misses


@dataclass(frozen=True, eq=False, repr=False)
class Band(Mechanism):
    """A likely band of half width ``half`` about ``stretch`` x, in reports of [-reach, reach].

    coordinate_epsilon: the budget of each coordinate, nats; the record's is d times that.
    """

    coordinate_epsilon: float
    bounds: Box = field(kw_only=True)
    stretch: float = field(init=False)
    half: float = field(init=False)
    reach: float = field(init=False)
    miss: float = field(init=False)  # the chance of a report outside the band

    recovery = (
        "the raw law can be recovered; learn weights on a grid of atoms (Atoms), for the cost is "
        "flat in x and a generator of points gets no gradient"
    )

    def __post_init__(self) -> None:
        epsilon = checks.positive("coordinate_epsilon", self.coordinate_epsilon)
        _check_box(self.bounds)
        shape = self._shape(epsilon) if epsilon >= SMALLEST else (math.inf,) * 3
        stretch, half, reach = shape
        if not reach * max(self.bounds.widths) <= LARGEST:
            raise ValueError(
                f"coordinate_epsilon is {epsilon:.4g}, and float64 does not hold its reports; "
                "raise epsilon, or change the units of the records"
            )
        beside = math.exp(-epsilon) * (reach - half)
        miss = beside / (half + beside) if half else 0.0
        vars(self).update(
            coordinate_epsilon=epsilon,
            dim=self.bounds.dim,
            stretch=stretch,
            half=half,
            reach=reach,
            miss=miss,
            cost=BandCost(self.bounds, epsilon, stretch, half),
            reg=1.0,
            noise=f"every coordinate uniform in a band of width {half:.4g} times its interval, "
            f"with probability {1 - miss:.4g}, else anywhere in {reach:.4g} times it",
        )
        self._check_resolved(torch.float64)

    @classmethod
    def calibrate(cls, *, epsilon: float, bounds: Box) -> Self:
        """The channel that is epsilon-private for the whole record: epsilon / d a coordinate."""
        _check_box(bounds)
        each = checks.positive("epsilon", epsilon) / bounds.dim
        checks.positive("epsilon over the number of columns", each)
        if each * bounds.dim > epsilon:
            each = math.nextafter(each, 0.0)
        return cls(each, bounds=bounds)

    def budget(self, sensitivity: float | None = None) -> Budget:
        refuse_sensitivity(self, sensitivity)
        return Budget(pure=self.bounds.dim * self.coordinate_epsilon)

    def coordinate_budget(self) -> Budget | None:
        return None if self.bounds.dim == 1 else Budget(pure=self.coordinate_epsilon)

    @staticmethod
    @abstractmethod
    def _shape(epsilon: float) -> tuple[float, float, float]:
        """``stretch``, ``half`` and ``reach`` at a coordinate's budget."""

    def _check_resolved(self, dtype: torch.dtype) -> None:
        """Raise ValueError where numbers of ``dtype`` lie too far apart for the likely band."""
        spacing = torch.finfo(dtype).eps
        for k, (center, width) in enumerate(
            zip(self.bounds.center, self.bounds.widths, strict=True)
        ):
            half, furthest = self.half * width / 2, abs(center) + self.reach * width / 2
            if not half >= STEPS * spacing * furthest:
                name = str(dtype).removeprefix("torch.")
                cure = "lower epsilon" + (", or pass float64" if dtype == torch.float32 else "")
                raise ValueError(
                    f"{name} cannot hold the likely band of {self!r} in column {k}, {2 * half:.3g} "
                    f"wide in reports of up to {furthest:.3g}; {cure}, or move the origin nearer"
                )

    def _draw(self, x: Tensor, generator: torch.Generator) -> Tensor:
        self._check_resolved(x.dtype)

        def uniform() -> Tensor:
            return torch.rand(x.shape, dtype=torch.float64, generator=generator).to(x.device)

        middle = self.stretch * to_unit(x.double(), self.bounds)
        beside = happens(torch.full(x.shape, self.miss, dtype=torch.float64), generator)
        inner = middle + self.half * (2 * uniform() - 1)
        # Outside: uniform on what is left of [-reach, reach], jumping over the band.
        outer = 2 * (self.reach - self.half) * uniform() - self.reach
        # A number times a mask would be float32.
        outer = torch.where(outer >= middle - self.half, outer + 2 * self.half, outer)
        drawn = torch.where(beside.to(x.device), outer, inner).clamp(-self.reach, self.reach)
        return from_unit(drawn, self.bounds).to(x.dtype)

    def _log_normaliser(self, y: Tensor) -> Tensor:
        band_density = math.log1p(-self.miss) - math.log(2 * self.half)
        volume = sum(math.log(width / 2) for width in self.bounds.widths)
        end = self.reach * (1 + EDGE)
        reach = torch.full((self.bounds.dim,), end, dtype=torch.float64, device=y.device)
        low, high = (from_unit(end, self.bounds).to(y) for end in (-reach, reach))
        possible = ((y >= low) & (y <= high)).all(1)
        constant = y.new_full((len(y),), self.bounds.dim * band_density - volume)
        return torch.where(possible, constant, -math.inf)


@dataclass(frozen=True, eq=False, repr=False)
class Piecewise(Band):
    """The piecewise mechanism (Wang et al., ICDE 2019): unbiased, reports reach C > 1.

    coordinate_epsilon: the budget of each coordinate, nats; the record's is d times that.
    """

    @staticmethod
    def _shape(epsilon: float) -> tuple[float, float, float]:
        reach = 1 / math.tanh(epsilon / 4)  # C = (e^(eps/2) + 1) / (e^(eps/2) - 1)
        # And (C - 1) / 2 = 1 / (e^(eps/2) - 1), of which no term may overflow.
        return (reach + 1) / 2, -math.exp(-epsilon / 2) / math.expm1(-epsilon / 2), reach


@dataclass(frozen=True, eq=False, repr=False)
class SquareWave(Band):
    """The square wave mechanism (Li et al., SIGMOD 2020), made for recovering laws.

    coordinate_epsilon: the budget of each coordinate, nats; the record's is d times that.
    """

    @staticmethod
    def _shape(epsilon: float) -> tuple[float, float, float]:
        # In an interval of length 1, b = (eps e^eps - e^eps + 1) / (2 e^eps (e^eps - 1 - eps)).
        half = _square_wave_width(epsilon)
        return 1.0, half, 1 + half


def to_unit(x: Tensor, box: Box) -> Tensor:
    """The box's intervals to [-1, 1]."""
    return (x - box.placed("center", x)) / (box.placed("widths", x) / 2)


def from_unit(x: Tensor, box: Box) -> Tensor:
    return box.placed("center", x) + x * (box.placed("widths", x) / 2)


def _square_wave_width(epsilon: float) -> float:
    """2 b: half the width of the band in an interval of length 2."""
    if epsilon > 1e-3:
        decayed = math.exp(-epsilon)  # e^-eps times both halves of the fraction: none overflows
        return decayed * (epsilon + math.expm1(-epsilon)) / (1 - decayed * (1 + epsilon))
    # Both are eps^2 / 2 at first, and would cancel.
    above = 1 - epsilon / 3 + epsilon**2 / 12 - epsilon**3 / 60
    return above / (1 + epsilon / 3 + epsilon**2 / 12 + epsilon**3 / 60)


def _check_box(bounds: Any) -> None:
    checks.instance("bounds", bounds, Box)
