r"""Releasing records for good: exact noise on a grid, from the ``opendp`` package; exact bits.

Floating-point noise leaks through its low bits (Mironov 2012). Here a record is rounded to
multiples of a grid g = 2^k and the noise is drawn exactly, from cryptographic randomness, on that
grid. Its probabilities are proportional to exp(-cost / reg), so the matched loss does not change.

Rounding moves each coordinate by at most g/2, so two records come apart by at most d g (L1) or
sqrt(d) g (L2) more than the bounds allow, and this is paid for. The grid is so fine, 2^-20 of the
noise and of the domain, that it costs about one part in a million. Nothing is claimed about timing.

Bits need no grid: a float64 chance is a fraction, and is met exactly.
"""

import math
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from decimal import Context, Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import scipy
import torch
from torch import Tensor

from privgan import checks
from privgan.mechanisms import (
    Gaussian,
    Laplace,
    LinearMap,
    LocalHashing,
    Mechanism,
    Product,
    RandomizedResponse,
    Sampled,
    SubsetSelection,
    UnaryEncoding,
    Window,
)
from privgan.mechanisms.budget import gaussian_epsilon
from privgan.reports.collection import Reports, metadata, write
from privgan.reports.rows import Rows, as_rows
from privgan.streams import stream
from privgan.surroundings import usual

FINE = 20  # the grid is this many halvings below the noise and the domain
DIGITS = Context(prec=50)
WORD = 64  # bits of a uniform number that are compared with a chance at a time


@dataclass(frozen=True)
class GridNoise:
    """Discrete Gaussian noise on ``dim`` coordinates. step: grid over sigma. mu: the L2
    sensitivity, rounding included, over sigma."""

    dim: int
    step: float
    mu: float


@dataclass(frozen=True)
class Spent:
    """What one released record costs: ``pure`` epsilon, and grid noise composed with it."""

    pure: float = 0.0
    grids: tuple[GridNoise, ...] = ()

    def __add__(self, other: "Spent") -> "Spent":
        return Spent(self.pure + other.pure, self.grids + other.grids)

    def __rmul__(self, times: int) -> "Spent":
        return Spent(times * self.pure, times * self.grids)

    def epsilon(self, delta: float) -> float:
        r"""Epsilon of the whole record, nats, at ``delta``: the continuous curve, and slack.

        With s = g / sigma, a rounded continuous Gaussian has at j g the mass
        r_j = phi(j s) int exp(-j s v - v^2/2) dv over |v| < s/2, which lies between
        s phi(j s) exp(-s^2/8) and s phi(j s) exp((j s)^2 s^2 / 8). The discrete one has
        p_j = phi(j s) / theta, with theta equal to 1/s up to exp(-2 pi^2 / s^2) < 1e-100. So, while
        |j s| <= T, p and r differ by factors of at most exp(s^2/8) above and exp(T^2 s^2/8) below.
        Rounding is post-processing: r keeps the continuous curve delta_0(epsilon_0), hence p has

            epsilon = epsilon_0 + sum d s^2 (1 + T^2) / 8,
            delta = exp(sum d s^2/8) (delta_0 + tail),

        the tail being the chance that some coordinate leaves T = mu + t, at most 2 d Phi(s/2 - t)
        for each block of d coordinates.
        """
        if not self.grids:
            return self.pure
        if delta == 0.0:
            raise ValueError(
                "Gaussian noise keeps no epsilon at delta = 0; give delta in (0, 1), say 1e-5"
            )
        tail = 1e-9 * checks.probability("delta", delta)
        coordinates = sum(grid.dim for grid in self.grids)
        widest = max(grid.step for grid in self.grids)
        t = -float(scipy.special.ndtri(tail / (2 * coordinates))) + widest / 2
        above = sum(grid.dim * grid.step**2 / 8 for grid in self.grids)
        below = sum(g.dim * g.step**2 * (g.mu + t) ** 2 / 8 for g in self.grids)
        mu = math.hypot(*(grid.mu for grid in self.grids))
        curve = gaussian_epsilon(delta * math.exp(-above) - tail, mu)
        return self.pure + curve + above + below


@usual()
def release(
    x: Tensor | np.ndarray | str | Path | Rows,
    mechanism: Mechanism,
    *,
    delta: float = 0.0,
    clip: bool = False,
    times: int = 1,
    path: str | Path | None = None,
) -> Reports:
    """Reports of every record of ``x`` (n, d), fit to leave the person it is about.

    Records may lie in a file or a folder, as for `fit`; they are read and released some at a time.
    path: a file for the reports, as of `Reports.save`; they go there as they are drawn, and come
    back as `Reports.load` reads them, so that memory never holds all. Whole or not at all.

    There is no seed: the noise cannot be repeated, by anybody. ``delta`` is for mechanisms with
    Gaussian noise. Records outside the mechanism's public bounds are an error unless ``clip`` asks
    for the nearest one inside. times: independent reports of each record, n rows after n rows;
    budgets add. The reports (float64) say what each record has spent on all of its own, which is
    more than the mechanism's budget by about one part in a million.

    Numbers and randomized response need the package opendp: ImportError without.
    Raises ValueError for
    records that are not finite or out of bounds, where bounds are missing, and for mechanisms that
    have no exact sampler; OSError naming a path that cannot be written.

    >>> mech = pg.UnaryEncoding.calibrate(epsilon=2.0, k=3)
    >>> pg.release(torch.eye(3), mech).values.shape
    torch.Size([3, 3])
    """
    checks.instance("mechanism", mechanism, Mechanism)
    delta = checks.fraction("delta", delta)
    times = checks.positive_int("times", times)
    place = None if path is None else checks.as_path("path", path)
    rows = as_rows("x", x)
    shape = times * len(rows), mechanism.report_dim(rows.shape[1])
    costs: list[float] = []  # of all reports of a record, which is that of the first as of any

    def parts() -> Iterator[Tensor]:
        for _ in range(times):
            for first, part in rows.parts():
                found, spent = _release(mechanism, _admitted(mechanism, part, first, clip))
                if not costs:
                    costs.append((times * spent).epsilon(delta))
                yield found

    def about() -> dict[str, Any]:
        return metadata(mechanism, False, costs[0], delta, times)

    if place is not None:
        write(place, shape, torch.float64, parts(), about)
        return Reports.load(place)
    values, start = torch.empty(shape, dtype=torch.float64), 0
    for found in parts():
        values[start : start + len(found)] = found
        start += len(found)
    return Reports(values, mechanism, False, costs[0], delta, times=times)


def _admitted(mechanism: Mechanism, part: Tensor, first: int, clip: bool) -> Tensor:
    """The records that may be released, of which the first has this number."""
    try:
        return mechanism._admit(part.double().cpu(), clip)
    except ValueError as error:
        raise (ValueError(f"{error}; rows are counted from {first}") if first else error) from None


def _release(mechanism: Mechanism, x: Tensor) -> tuple[Tensor, Spent]:
    sampler = SAMPLERS.get(type(mechanism))  # exact types: a subclass may draw something else
    if sampler is not None:
        return sampler(mechanism, x)
    raise ValueError(
        f"there is no exact sampler for {mechanism!r}; release through Laplace, Gaussian or a "
        "channel on categories, alone or within LinearMap, Product and Sampled"
    )


def _features(mechanism: LinearMap, x: Tensor) -> tuple[Tensor, Spent]:
    return _release(mechanism.mechanism, mechanism.forward(x))


def _blocks(mechanism: Product, x: Tensor) -> tuple[Tensor, Spent]:
    parts = [_release(part, x[:, columns]) for columns, part in mechanism.blocks]
    values, spent = zip(*parts, strict=True)
    return torch.cat(values, 1), sum(spent, Spent())


def _additive(mechanism: Gaussian | Laplace, x: Tensor) -> tuple[Tensor, Spent]:
    if mechanism.bounds is None:
        raise ValueError(
            f"{mechanism!r} has no bounds, so its noise promises nothing; give it the public "
            "bounds of its records"
        )
    dp, d = _opendp(), mechanism.bounds.dim
    laplace = isinstance(mechanism, Laplace)
    scale = mechanism.scale if isinstance(mechanism, Laplace) else mechanism.sigma
    distance = mechanism.bounds.l1_diameter() if laplace else mechanism.bounds.l2_diameter()
    k = math.floor(math.log2(min(scale, distance / d))) - FINE
    domain = dp.vector_domain(dp.atom_domain(T=float, nan=False), size=d)
    make, metric = (
        (dp.m.make_laplace, dp.l1_distance) if laplace else (dp.m.make_gaussian, dp.l2_distance)
    )
    measurement = make(domain, metric(T=float), scale=scale, k=k)
    values = torch.tensor([measurement(row) for row in x.tolist()], dtype=torch.float64)
    if laplace:  # the measurement's own map pays for the rounding
        return values, Spent(pure=measurement.map(_up(distance)))
    grid = math.ldexp(1.0, k)
    mu = _up(_up(distance + math.sqrt(d) * grid) / scale)
    return values, Spent(grids=(GridNoise(d, grid / scale, mu),))


def _category(mechanism: RandomizedResponse, x: Tensor) -> tuple[Tensor, Spent]:
    dp = _opendp()
    measurement = dp.m.make_randomized_response([*range(mechanism.k)], mechanism.keep)
    drawn = torch.tensor([measurement(category) for category in x.argmax(1).tolist()])
    values = torch.nn.functional.one_hot(drawn, mechanism.k).double()
    return values, Spent(pure=measurement.map(1))


def _bits(mechanism: UnaryEncoding, x: Tensor) -> tuple[Tensor, Spent]:
    """Two categories differ in two bits, each of which may be the likelier under either."""
    own = x.numpy() == 1
    values = np.empty(own.shape)
    values[own] = _ones(mechanism.keep, int(own.sum()))
    values[~own] = _ones(mechanism.flip, int((~own).sum()))
    keep, flip = Fraction(mechanism.keep), Fraction(mechanism.flip)
    return torch.from_numpy(values), Spent(_log(keep * (1 - flip) / ((1 - keep) * flip)))


def _subsets(mechanism: SubsetSelection | Window, x: Tensor) -> tuple[Tensor, Spent]:
    n, k, size = len(x), mechanism.k, mechanism.size
    own, inside = x.argmax(1).numpy(), _ones(mechanism.keep, n)
    if isinstance(mechanism, Window):
        back = np.where(inside, _below(size, n), size + _below(k - size, n))
        chosen = ((own - back) % k)[:, None] + np.arange(size)
    else:  # the others in a random order, the record's own before or behind them
        order = _words((n, k))
        order[np.arange(n), own] = np.where(inside, 0, np.iinfo(np.uint64).max)
        chosen = order.argsort(1)[:, :size]
    values = np.zeros((n, k))
    np.put_along_axis(values, chosen % k, 1.0, 1)
    keep = Fraction(mechanism.keep)
    return torch.from_numpy(values), Spent(_log(keep * (k - size) / ((1 - keep) * size)))


def _hashes(mechanism: LocalHashing, x: Tensor) -> tuple[Tensor, Spent]:
    n, buckets = len(x), mechanism.buckets
    numbers, lie = _words((n,)), ~_ones(mechanism.keep, n)
    steps = np.where(lie, 1 + _below(buckets - 1, n), 0)
    values = mechanism.support(mechanism.message(x.argmax(1).numpy(), numbers, steps)).double()
    keep = Fraction(mechanism.keep)
    return values, Spent(_log(keep * (buckets - 1) / (1 - keep)))


def _sampled(mechanism: Sampled, x: Tensor) -> tuple[Tensor, Spent]:
    """The blocks are drawn without a look at the record, so their chances need not be exact."""
    sets = mechanism.draw_sets(len(x), stream(None, "blocks"))
    values = x.new_zeros((len(x), mechanism.report_dim(x.shape[1])))
    spent = []
    for b, (s, (columns, part)) in enumerate(zip(mechanism.reports, mechanism.blocks, strict=True)):
        rows = sets[:, b].nonzero()[:, 0]
        own, cost = _release(part, x[rows][:, columns])
        values[rows, s] = torch.cat([own, own.new_ones((len(rows), 1))], 1)
        spent.append(cost)
    most = slice(mechanism.choose)  # what any set can spend, and its grids at their widest
    pure = sorted((part.pure for part in spent), reverse=True)[most]
    grids = [grid for part in spent for grid in part.grids]
    mus = sorted((grid.mu for grid in grids), reverse=True)[most]
    dim = max((grid.dim for grid in grids), default=0)
    step = max((grid.step for grid in grids), default=0.0)
    return values, Spent(_up(math.fsum(pure)), tuple(GridNoise(dim, step, mu) for mu in mus))


SAMPLERS: dict[type[Mechanism], Callable[..., tuple[Tensor, Spent]]] = {
    Gaussian: _additive,
    Laplace: _additive,
    RandomizedResponse: _category,
    UnaryEncoding: _bits,
    SubsetSelection: _subsets,
    Window: _subsets,
    LocalHashing: _hashes,
    Sampled: _sampled,
    LinearMap: _features,
    Product: _blocks,
}


def _log(ratio: Fraction) -> float:
    """Its logarithm from above, by a unit in the last place at most."""
    exact = DIGITS.ln(DIGITS.divide(Decimal(ratio.numerator), Decimal(ratio.denominator)))
    return found if (found := float(exact)) >= exact else _up(found)


def _words(shape: tuple[int, ...]) -> np.ndarray:
    """Uniform 64-bit words from the operating system; in rows, no two of a row alike."""
    found = np.frombuffer(os.urandom(8 * math.prod(shape)), np.uint64).reshape(shape).copy()
    if len(shape) == 2:
        ordered = np.sort(found, 1)
        ends = (ordered[:, 0] == 0) | (ordered[:, -1] == np.iinfo(np.uint64).max)
        again = (np.diff(ordered, axis=1) == 0).any(1) | ends
        if again.any():
            found[again] = _words((int(again.sum()), shape[1]))
    return found


def _below(bound: int, n: int) -> np.ndarray:
    """``n`` of the integers from 0 to ``bound`` - 1, each exactly as likely: by rejection."""
    whole = 2**64 // bound * bound
    found = _words((n,))
    while (over := found >= whole).any() if whole < 2**64 else False:
        found[over] = _words((int(over.sum()),))
    return (found % np.uint64(bound)).astype(np.int64)


def _ones(chance: float, n: int) -> np.ndarray:
    """``n`` independent bits, each 1 with a probability of exactly ``chance``, a fraction.

    A bit is 1 if a uniform number lies below the chance: which it is, the first binary digits in
    which the two differ decide. They come from the operating system, a word at a time.
    """
    numerator, denominator = chance.as_integer_ratio()
    drawn, undecided = np.zeros(n, dtype=bool), np.arange(n)
    while len(undecided) and numerator:
        digits, numerator = divmod(numerator << WORD, denominator)
        uniform = np.frombuffer(os.urandom(WORD // 8 * len(undecided)), np.uint64)
        drawn[undecided] = uniform < np.uint64(digits)
        undecided = undecided[uniform == np.uint64(digits)]
    return drawn


def _up(value: float) -> float:
    return math.nextafter(value, math.inf)


def _opendp() -> Any:
    try:
        import opendp.prelude as dp
    except ImportError as error:
        raise ImportError("a release needs the opendp package: pip install opendp") from error
    dp.enable_features("contrib")
    return dp
