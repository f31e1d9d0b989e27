"""Noise added to the numbers of a record: Gaussian, Laplace, Euclidean Laplace.

The three differ in the norm their density falls off in, and so in the sensitivity that their
budget is measured by: L2, L1 and L2 diameters of the public domain.
"""

import math
from abc import abstractmethod
from dataclasses import dataclass, field
from typing import Self

import torch
from torch import Tensor

from privgan import checks
from privgan.mechanisms.base import Mechanism, calibration, check_bounds, sensitivity_of
from privgan.mechanisms.bounds import SMALLEST, Bounds
from privgan.mechanisms.budget import Budget, gaussian_mu
from privgan.mechanisms.location import winsorised
from privgan.sinkhorn import L1, Euclidean, SquaredL2
from privgan.streams import stream

RARE = 1e6  # no noise is as many scales large
DRAWS = 4096  # of the noise, to know its spread by
LEAST = 0.04  # of the reports' variance is the records', however much of it noise explains


class Additive(Mechanism):
    """A report is the record plus independent noise of one law.

    norm: that of the sensitivity, "l1" or "l2".
    """

    norm: str

    def __post_init__(self) -> None:
        check_bounds(self.bounds)
        vars(self).update(dim=None if self.bounds is None else self.bounds.dim)

    def budget(self, sensitivity: float | None = None) -> Budget:
        return self._budget(sensitivity_of(self, self.norm, sensitivity))

    def coordinate_budget(self) -> Budget | None:
        """Of the widest coordinate, all others being the same."""
        if self.bounds is None or self.bounds.dim == 1:
            return None
        return self._budget(max(self.bounds.widths))

    def unbiased(self, y: Tensor) -> Tensor:
        return y

    def second_moment(self, d: int) -> tuple[float, float]:
        return 1.0, self._variance(d)

    def _draw(self, x: Tensor, generator: torch.Generator) -> Tensor:
        self._check_held(x.dtype)
        return x + self._noise(x.shape, x.dtype, generator).to(x.device)

    def _check_pair(self, x: Tensor, y: Tensor) -> None:
        super()._check_pair(x, y)
        self._check_held(x.dtype)

    def _check_held(self, dtype: torch.dtype) -> None:
        """Raise ValueError where numbers of ``dtype`` do not hold the noise, or its density."""
        if not torch.finfo(dtype).tiny <= self.reg <= torch.finfo(dtype).max / RARE:
            name = str(dtype).removeprefix("torch.")
            raise ValueError(
                f"{name} does not hold the noise of {self!r}; pass float64, or change the units of "
                "the records"
            )

    def _location(self, reports: Tensor) -> tuple[Tensor, Tensor]:
        """The reports' own, with the noise's variance taken off, and within the bounds."""
        centre, variance = winsorised(reports)
        shape = torch.Size((DRAWS, reports.shape[1]))
        _, of_noise = winsorised(self._noise(shape, torch.float64, stream(0, "location")))
        of_records = torch.maximum(variance - of_noise, LEAST * variance)
        spread = torch.where(variance > 0.0, of_records, of_noise).sqrt()
        if self.bounds is None:
            return centre, spread
        half_widths = self.bounds.placed("widths", spread) / 2
        return self.bounds.clip(centre[None])[0], torch.minimum(spread, half_widths)

    @abstractmethod
    def _budget(self, distance: float) -> Budget:
        """What a report reveals between two records this far apart."""

    @abstractmethod
    def _variance(self, d: int) -> float:
        """Of the noise on each of ``d`` columns."""

    @abstractmethod
    def _noise(self, shape: torch.Size, dtype: torch.dtype, generator: torch.Generator) -> Tensor:
        """Noise for records of this shape, on the CPU."""


@dataclass(frozen=True, eq=False, repr=False)
class Gaussian(Additive):
    """Adds N(0, sigma^2) to every coordinate; ``sigma`` is in the units of the data.

    ``k(y|x) = (2 pi sigma^2)^(-d/2) exp(-|x - y|^2 / (2 sigma^2))``: squared L2, reg 2 sigma^2.

    >>> mech = pg.Gaussian(0.5)
    >>> mech.cost, mech.reg
    (SquaredL2(), 0.5)
    >>> mech.privatize(torch.zeros(4, 2), seed=0).shape
    torch.Size([4, 2])
    """

    sigma: float
    bounds: Bounds | None = field(default=None, kw_only=True)

    norm = "l2"
    recovery = (
        "the raw law can be recovered, but detail finer than sigma only at logarithmic rates: "
        "the reports needed grow exponentially in (sigma / detail)^2"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        sigma = checks.positive("sigma", self.sigma)
        _check_size("sigma", sigma, 2.0 * sigma * sigma)
        vars(self).update(
            sigma=sigma,
            cost=SquaredL2(),
            reg=2.0 * sigma * sigma,
            noise=f"normal, standard deviation {sigma:.4g} on every coordinate",
        )

    @classmethod
    def calibrate(
        cls,
        *,
        epsilon: float,
        delta: float,
        sensitivity: float | None = None,
        bounds: Bounds | None = None,
    ) -> Self:
        """The least noise that is (epsilon, delta)-private for the whole record.

        sensitivity: L2 diameter of the public domain, or ``bounds`` to take it from. Exact
        (Balle and Wang 2018), to a relative 1e-9 and on the safe side.

        >>> box = pg.Box(0, 1, dim=2)
        >>> mech = pg.Gaussian.calibrate(epsilon=8.0, delta=1e-5, bounds=box)
        >>> round(mech.sigma, 3), round(mech.epsilon(1e-5), 3)
        (0.849, 8.0)
        """
        distance, bounds = calibration(cls.norm, sensitivity, bounds)
        return cls(_scale(distance, gaussian_mu(epsilon, delta), epsilon), bounds=bounds)

    def _budget(self, distance: float) -> Budget:
        return Budget(mu=_ratio(distance, self.sigma))

    def _variance(self, d: int) -> float:
        return self.sigma**2

    def _noise(self, shape: torch.Size, dtype: torch.dtype, generator: torch.Generator) -> Tensor:
        return self.sigma * torch.randn(shape, dtype=dtype, generator=generator)

    def _log_normaliser(self, y: Tensor) -> float:
        return -0.5 * y.shape[1] * (math.log(math.pi) + math.log(self.reg))


@dataclass(frozen=True, eq=False, repr=False)
class Laplace(Additive):
    """Adds Laplace noise of scale b to every coordinate (std sqrt(2) b), data units.

    ``k(y|x) = (2 b)^(-d) exp(-|x - y|_1 / b)``: the L1 cost, reg b.
    """

    scale: float
    bounds: Bounds | None = field(default=None, kw_only=True)

    norm = "l1"
    recovery = "the raw law can be recovered; detail finer than the scale at polynomial rates"

    def __post_init__(self) -> None:
        super().__post_init__()
        scale = checks.positive("scale", self.scale)
        _check_size("scale", scale, 2.0 * scale)
        noise = f"Laplace, scale {scale:.4g} on every coordinate"
        vars(self).update(scale=scale, cost=L1(), reg=scale, noise=noise)

    @classmethod
    def calibrate(
        cls, *, epsilon: float, sensitivity: float | None = None, bounds: Bounds | None = None
    ) -> Self:
        """The least noise that is epsilon-private for the whole record.

        sensitivity: L1 diameter of the public domain, or ``bounds`` to take it from.

        >>> pg.Laplace.calibrate(epsilon=2.0, bounds=pg.Box(0, 1, dim=3)).scale
        1.5
        """
        distance, bounds = calibration(cls.norm, sensitivity, bounds)
        return cls(_pure_scale(distance, epsilon), bounds=bounds)

    def _budget(self, distance: float) -> Budget:
        return Budget(pure=_ratio(distance, self.scale))

    def _variance(self, d: int) -> float:
        return 2.0 * self.scale**2

    def _noise(self, shape: torch.Size, dtype: torch.dtype, generator: torch.Generator) -> Tensor:
        # An exponential magnitude with a fair sign. Inverting the distribution function at a
        # float32 uniform would return infinity whenever the uniform is exactly zero.
        magnitude = torch.empty(shape, dtype=dtype).exponential_(generator=generator)
        sign = torch.randint(0, 2, shape, dtype=torch.int8, generator=generator)
        return self.scale * magnitude * sign.mul_(2).sub_(1)

    def _log_normaliser(self, y: Tensor) -> float:
        return -y.shape[1] * math.log(2.0 * self.scale)


@dataclass(frozen=True, eq=False, repr=False)
class EuclideanLaplace(Additive):
    """Adds noise whose density falls off like ``exp(-|y - x|_2 / scale)``, data units.

    In the plane this is the mechanism of geo-indistinguishability: two places r apart can be
    told from a report at most as if epsilon were r / scale (Andres et al., CCS 2013).

    ``k(y|x) = exp(-|x - y|_2 / scale) / C_d``: the Euclidean cost, reg scale; C_d is the sphere's
    area times Gamma(d) scale^d.
    """

    scale: float
    bounds: Bounds | None = field(default=None, kw_only=True)

    norm = "l2"
    recovery = "the raw law can be recovered; detail finer than the scale at polynomial rates"

    def __post_init__(self) -> None:
        super().__post_init__()
        scale = checks.positive("scale", self.scale)
        _check_size("scale", scale, 2.0 * scale)
        noise = (
            f"in a random direction, to a Gamma(d) distance of scale {scale:.4g}; "
            f"{1 / scale:.4g} nats for every unit of distance between two records"
        )
        vars(self).update(scale=scale, cost=Euclidean(), reg=scale, noise=noise)

    @classmethod
    def calibrate(
        cls, *, epsilon: float, sensitivity: float | None = None, bounds: Bounds | None = None
    ) -> Self:
        """The least noise that is epsilon-private for the whole record.

        sensitivity: L2 diameter of the public domain, or ``bounds`` to take it from. For
        geo-indistinguishability within a radius, pass that radius as the sensitivity.
        """
        distance, bounds = calibration(cls.norm, sensitivity, bounds)
        return cls(_pure_scale(distance, epsilon), bounds=bounds)

    def _budget(self, distance: float) -> Budget:
        return Budget(pure=_ratio(distance, self.scale))

    def _variance(self, d: int) -> float:
        return (d + 1) * self.scale**2  # E r^2 / d of a radius r with the law Gamma(d, scale)

    def _noise(self, shape: torch.Size, dtype: torch.dtype, generator: torch.Generator) -> Tensor:
        # Gamma(d, 1) is a sum of d exponentials; the direction is a normal vector's.
        n = shape[0]
        radius = torch.empty(shape, dtype=dtype).exponential_(generator=generator).sum(1)
        direction = torch.randn(shape, dtype=dtype, generator=generator)
        length: Tensor = direction.norm(dim=1).clamp_min(torch.finfo(dtype).tiny)
        return direction * (self.scale * radius / length).reshape(n, 1)

    def _log_normaliser(self, y: Tensor) -> float:
        d = y.shape[1]
        log_area = math.log(2.0) + d / 2 * math.log(math.pi) - math.lgamma(d / 2)
        return -(log_area + math.lgamma(d) + d * math.log(self.scale))


def _check_size(name: str, value: float, formed: float) -> None:
    """Raise ValueError for noise so small or so large that what is ``formed`` of it fails."""
    if not SMALLEST <= formed < math.inf:
        raise ValueError(
            f"{name} is {value:.4g}, and float64 does not hold the budget and the density of such "
            "noise; change the units of the records"
        )


def _ratio(distance: float, scale: float) -> float:
    """distance / scale, and never 0; ValueError where it overflows."""
    ratio = distance / scale
    if ratio == math.inf:
        raise ValueError(
            f"noise of scale {scale:.4g} hides nothing of records {distance:.4g} apart: float64 "
            "does not hold their epsilon; add more noise"
        )
    return max(ratio, math.ulp(0.0))


def _pure_scale(distance: float, epsilon: float) -> float:
    """distance / epsilon, rounded up: epsilon is never exceeded."""
    epsilon = checks.positive("epsilon", epsilon)
    scale = _scale(distance, epsilon, epsilon)
    return math.nextafter(scale, math.inf) if distance / scale > epsilon else scale


def _scale(distance: float, over: float, epsilon: float) -> float:
    """distance / over, of noise for records this far apart; ValueError if float64 lacks it."""
    scale = distance / over
    if not 0.0 < scale < math.inf:
        raise ValueError(
            f"epsilon is {epsilon:.4g} for records {distance:.4g} apart, and float64 does not hold "
            "noise of the scale it asks for; change epsilon, or the units of the records"
        )
    return scale
