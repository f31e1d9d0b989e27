r"""Directions, reported from a cap around the truth: what a large budget for a whole vector buys.

A record is a unit vector x in d columns. With probability ``keep`` the report is uniform on the cap
of unit vectors y with x.y >= ``height``, else uniform on the rest of the sphere. With P the cap's
share of the sphere, the two densities are keep / P and (1 - keep) / (1 - P) times that of uniform
directions, so one report is exactly epsilon-private, without a delta, at

    epsilon = log(keep / (1 - keep)) + log((1 - P) / P).

By the symmetry about x, with t = x.y and tau = E[t^2],

    E[y | x] = E[t] x,      E[y y' | x] = tau x x' + (1 - tau) / (d - 1) (I - x x'),

which is where `PrivUnit.unbiased` and `PrivUnit.second_moment` come from.
"""

import math
from dataclasses import dataclass, field
from typing import Self

import numpy as np
import scipy
import torch
from torch import Tensor

from privgan import checks
from privgan.mechanisms.additive import Gaussian
from privgan.mechanisms.base import Mechanism, refuse_sensitivity
from privgan.mechanisms.bounds import Bounds
from privgan.mechanisms.budget import Budget
from privgan.mechanisms.chances import happens
from privgan.mechanisms.flat import FlatCost
from privgan.sinkhorn.costs import check_points
from privgan.surroundings import full_precision

EDGE = 1e-5  # lengths this far from 1 are put down to rounding
MOST = 600.0  # nats: beyond, the share of a cap is no float64
ROOM = 16.0  # of what rounding moves x.y by, in what a likely report has beyond the cap's rim
TRIED = np.linspace(-2.0, 30.0, 321)  # log-odds of a report from the cap


@dataclass(frozen=True, eq=False, repr=False)
class Sphere(Bounds):
    """Directions: records of length 1 in ``dim`` >= 2 columns. Clipping divides by the length.

    A record of zeros has no direction, and is clipped to the first axis.
    """

    dim: int

    def __post_init__(self) -> None:
        dim = checks.positive_int("dim", self.dim)
        if dim < 2:
            raise ValueError(f"dim must be at least 2, where there are directions, got {dim}")
        vars(self).update(dim=dim, center=(0.0,) * dim)

    @property
    def widths(self) -> tuple[float, ...]:
        return (2.0,) * self.dim

    def l1_diameter(self, d: int | None = None) -> float:
        self.check_columns(self.dim if d is None else d)
        return 2.0 * math.sqrt(self.dim)

    def l2_diameter(self, d: int | None = None) -> float:
        self.check_columns(self.dim if d is None else d)
        return 2.0

    def _clip(self, x: Tensor) -> Tensor:
        scaled = x.double()
        largest = scaled.detach().abs().amax(1, keepdim=True)  # in these units no square overflows
        lost = largest == 0.0
        scaled = scaled / torch.where(lost, 1.0, largest)
        axis = torch.zeros_like(scaled[:1])
        axis[:, 0] = 1.0
        scaled = torch.where(lost, axis, scaled)
        return (scaled / torch.linalg.vector_norm(scaled, dim=1, keepdim=True)).type(x.dtype)

    def _outside(self, x: Tensor) -> Tensor:
        length = torch.linalg.vector_norm(x.detach().double(), dim=1, keepdim=True)
        return (length - 1.0).abs() > EDGE

    def __repr__(self) -> str:
        return f"Sphere({self.dim})"


@dataclass(frozen=True, eq=False, repr=False)
class CapCost(FlatCost):
    """``weight`` where x.y is below ``height``, else 0. Flat in x: the gradient is zero."""

    weight: float
    height: float

    def matrix(self, x: Tensor, y: Tensor) -> Tensor:
        check_points(x, y)
        with full_precision():
            return self.weight * (x.double() @ y.double().T < self.height).to(y.dtype)

    def paired(self, x: Tensor, y: Tensor) -> Tensor:
        return self.weight * ((x.double() * y.double()).sum(1) < self.height).to(y.dtype)


@dataclass(frozen=True, eq=False, repr=False)
class PrivUnit(Mechanism):
    """A direction reported from the cap x.y >= ``height``, with probability ``keep``, or outside.

    height: in [0, 1). keep: at least what the cap has of the sphere. bounds: the `Sphere`. Pure
    local privacy; at several nats its reports err far less than Gaussian ones of the same budget.
    Bhowmick, Duchi, Freudiger, Kapoor, Rogers, "Protection against reconstruction and its
    applications in private federated learning", 2018; optimal among unbiased ones: Asi, Feldman,
    Talwar, "Optimal algorithms for mean estimation under local differential privacy", 2022.
    """

    height: float
    keep: float
    bounds: Sphere = field(kw_only=True)
    dim: int = field(init=False)
    slope: float = field(init=False)  # E[x.y]
    square: float = field(init=False)  # E[(x.y)^2]

    recovery = (
        "means and covariances of directions can be recovered, and their law wherever no "
        "Gegenbauer polynomial vanishes at the height; start with closed_form, for the cost is "
        "flat in x and a generator of points gets no gradient, or train as if by as_gaussian()"
    )

    def __post_init__(self) -> None:
        checks.instance("bounds", self.bounds, Sphere)
        height, keep = checks.number("height", self.height), checks.probability("keep", self.keep)
        if not 0.0 <= height < 1.0:
            raise ValueError(f"height must be at least 0 and below 1, got {height!r}")
        dim, share = self.bounds.dim, _share(height, self.bounds.dim)
        if not share >= math.exp(-MOST):
            raise ValueError(f"a cap of height {height!r} is too small for float64; lower epsilon")
        if not keep > share:
            raise ValueError(
                f"keep must exceed the cap's share of the sphere, {share:.4g}, where reports say "
                f"nothing, got {keep!r}; raise epsilon"
            )
        slope, square = _powers(height, keep, dim)
        vars(self).update(
            height=height,
            keep=keep,
            dim=dim,
            slope=slope,
            square=square,
            cost=CapCost(_epsilon(height, keep, dim), height),
            reg=1.0,
            noise=f"uniform in the cap x.y >= {height:.4g} with probability {keep:.4g}, else "
            "outside",
        )
        self._check_resolved(torch.float64)

    @classmethod
    def calibrate(cls, *, epsilon: float, bounds: Sphere) -> Self:
        """Of all the epsilon-private ones that whose `unbiased` reports vary least.

        Their mean squared error is ``1 / slope^2 - 1``.
        """
        checks.instance("bounds", bounds, Sphere)
        epsilon = checks.positive("epsilon", epsilon)
        if epsilon > MOST:
            raise ValueError(
                f"epsilon must be at most {MOST:g} nats, where float64 ends, got {epsilon!r}"
            )
        logits = TRIED[epsilon - TRIED > 1e-9]  # a cap of less than half the sphere
        shares = scipy.special.expit(logits - epsilon)
        heights = np.sqrt(1.0 - scipy.special.betaincinv((bounds.dim - 1) / 2, 0.5, 2.0 * shares))
        tried = [
            pair for pair in zip(heights, scipy.special.expit(logits), strict=True) if pair[0] < 1.0
        ]
        if not tried:
            raise ValueError(f"float64 cannot hold so small a cap in {bounds!r}; lower epsilon")
        height = float(max(tried, key=lambda pair: _powers(pair[0], pair[1], bounds.dim)[0])[0])
        share = _share(height, bounds.dim)
        keep = float(scipy.special.expit(epsilon - math.log1p(-share) + math.log(share)))
        step = 2.0**-53
        while _epsilon(height, keep, bounds.dim) > epsilon:  # rounding
            keep, step = keep * (1.0 - step), 2.0 * step
        return cls(height, keep, bounds=bounds)

    def forward(self, x: Tensor) -> Tensor:
        self._check_dim(x)
        return self.bounds._clip(x)

    def budget(self, sensitivity: float | None = None) -> Budget:
        refuse_sensitivity(self, sensitivity)
        return Budget(pure=_epsilon(self.height, self.keep, self.dim))

    def unbiased(self, y: Tensor) -> Tensor:
        return y / self.slope

    def second_moment(self, d: int) -> tuple[float, float]:
        across = (1.0 - self.square) / (self.dim - 1)
        return (self.square - across) / self.slope**2, across / self.slope**2

    def as_gaussian(self) -> Gaussian:
        """Gaussian noise with the mean and the total variance, ``1 / slope^2 - 1``, of `unbiased`.

        Its cost has the gradient in x that a cap's has not, so that a generator can be trained on
        ``unbiased(reports)`` as if they had this noise. It stands in for the channel and is not
        matched to it: a report's own variance along the record differs from that across, and a
        share ``1 - keep`` of the reports comes from outside the cap. Nothing is released by it, and
        its budget is not this channel's.
        """
        return Gaussian(math.sqrt((1.0 / self.slope**2 - 1.0) / self.dim), bounds=self.bounds)

    def grid(self, bins: int) -> Tensor:
        """``bins`` directions around the circle of the first two columns."""
        bins = checks.positive_int("bins", bins)
        angle = torch.arange(bins, dtype=torch.float64) * (2 * math.pi / bins)
        rest = torch.zeros(bins, self.dim - 2, dtype=torch.float64)
        return torch.cat([angle.cos()[:, None], angle.sin()[:, None], rest], 1)

    def _location(self, reports: Tensor) -> tuple[Tensor, Tensor]:
        return reports.new_zeros(self.dim), reports.new_full((self.dim,), self.dim**-0.5)

    def _check_resolved(self, dtype: torch.dtype) -> None:
        """Raise ValueError where rounding to ``dtype`` blurs the rim of the cap."""
        beyond = (1.0 - self.height**2) / (self.dim * max(self.height, 0.1))
        if beyond < ROOM * torch.finfo(dtype).eps:
            name = str(dtype).removeprefix("torch.")
            raise ValueError(
                f"{name} cannot hold the cap of {self!r}; lower epsilon"
                + (", or pass float64" if dtype == torch.float32 else "")
            )

    def _draw(self, x: Tensor, generator: torch.Generator) -> Tensor:
        self._check_resolved(x.dtype)
        n, axis = len(x), x.detach().cpu().double()
        axis = axis / torch.linalg.vector_norm(axis, dim=1, keepdim=True)
        inside = happens(torch.full((n,), self.keep, dtype=torch.float64), generator).numpy()
        u = torch.rand(n, dtype=torch.float64, generator=generator).numpy()
        share = _share(self.height, self.dim)
        # The share of the sphere that lies above the report, or, more precise there, below it.
        above = np.where(inside, share * u, share + (1.0 - share) * u)
        below = np.where(inside, 1.0 - share * u, (1.0 - share) * (1.0 - u))
        nearer = np.minimum(above, below)
        t = np.sqrt(
            1.0 - scipy.special.betaincinv((self.dim - 1) / 2, 0.5, np.minimum(2.0 * nearer, 1.0))
        )
        t = np.where(above <= below, t, -t)
        t = np.where(inside, np.maximum(t, self.height), t)
        along = torch.from_numpy(t)[:, None]
        across = torch.randn(x.shape, dtype=torch.float64, generator=generator)
        across = across - (across * axis).sum(1, keepdim=True) * axis
        across = across / torch.linalg.vector_norm(across, dim=1, keepdim=True)
        y = along * axis + (1.0 - along.square()).clamp_min(0.0).sqrt() * across
        return y.to(x)

    def _log_normaliser(self, y: Tensor) -> Tensor:
        """On the sphere's own surface; no other report is possible."""
        surface = math.log(2.0) + self.dim / 2 * math.log(math.pi) - math.lgamma(self.dim / 2)
        inside = math.log(self.keep) - math.log(_share(self.height, self.dim)) - surface
        length = torch.linalg.vector_norm(y.double(), dim=1)
        possible = (length - 1.0).abs() <= EDGE
        return torch.where(possible, y.new_full((len(y),), inside), -math.inf)


def _share(height: float, dim: int) -> float:
    """What the cap has of the sphere: half the chance that t^2 >= height^2, for height >= 0."""
    return float(0.5 * scipy.special.betainc((dim - 1) / 2, 0.5, (1.0 - height) * (1.0 + height)))


def _epsilon(height: float, keep: float, dim: int) -> float:
    share = _share(height, dim)
    return math.log(keep) - math.log1p(-keep) + math.log1p(-share) - math.log(share)


def _powers(height: float, keep: float, dim: int) -> tuple[float, float]:
    """E[t] and E[t^2]. Under uniform directions t^2 has the law Beta(1/2, (d - 1) / 2)."""
    a, share, rim = (dim - 1) / 2, _share(height, dim), (1.0 - height) * (1.0 + height)
    # The integrals of t and of t^2 over the cap, over its share of the sphere.
    first = math.exp(
        a * math.log(rim) - math.log(2 * a) - scipy.special.betaln(0.5, a) - math.log(share)
    )
    second = float(scipy.special.betainc(a, 1.5, rim)) / (2 * dim * share)
    outside = (1.0 - keep) / (1.0 - share)
    slope = first * (keep - share * outside)
    return slope, second * keep + (1.0 / dim - second * share) * outside
