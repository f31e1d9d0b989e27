"""Does a mechanism draw what its density says? Tests of the sampler against ``log_density``.

The cost, the budget and the matched loss all follow from the density, so a sampler that draws
from another law breaks promise and recovery at once.
"""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import scipy
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from privgan.audit.extremes import reports_directions
from privgan.mechanisms import Mechanism, Sampled
from privgan.mechanisms.categorical import Categorical

SPREAD = 7.0  # lines reach sinh(7) = 548 typical spreads to either side, the middle densest
STEPS = 256  # points to either side where the mass is,
COARSE = 32  # and in each of two looks that find out where that is
RARE = 1e-9  # a chance
NEGLIGIBLE = 16.0  # nats below a line's highest density
ENTRIES = 2**22  # numbers formed at once
DIRECTIONS = 500  # reports held against the density on great circles


def line_p_value(
    mechanism: Mechanism, x: Tensor, y: Tensor, numbers: Tensor | None = None
) -> float:
    """p-value of reports ``y`` (n, d), doubles, of one record ``x``, in their columns of numbers.

    Two rows make a block, so that rows are tested against each other too. Through each block
    runs a line: along one coordinate, slanted between two, or across all of both rows. Given the
    line, the block's place on it has the density restricted to it, whatever the channel; its
    distribution function there is uniform, which Kolmogorov and Smirnov's test judges.

    numbers: which columns are, (d,) bool; all by default. The others stay as they were drawn.
    """
    numbers = torch.ones(y.shape[1], dtype=torch.bool) if numbers is None else numbers
    moving = y[:, numbers]
    if not y.isfinite().all():
        return 0.0
    away = (moving - moving.median(0).values).abs()
    spread = float(away.median())
    # A continuous channel repeats itself only as often as numbers so far from 0 lie close together.
    close = torch.finfo(y.dtype).eps * moving.abs().amax(0) / away.median(0).values
    close = close.nan_to_num(1.0).clamp(max=1.0)
    repeats = len(y) - len(moving.unique(dim=0))
    if (
        spread == 0.0
        or scipy.stats.poisson.sf(repeats - 1, len(y) ** 2 * float(close.min())) < RARE
    ):
        return 0.0
    blocks = y[: len(y) // 2 * 2].reshape(-1, 2, y.shape[1])
    rng = np.random.default_rng(len(y))
    p = []
    for k, family in enumerate(FAMILIES):
        part = blocks[k :: len(FAMILIES)]
        lines = np.stack([family(rng, moving.shape[1]) for _ in part])
        directions = torch.zeros_like(part)
        directions[:, :, numbers] = torch.as_tensor(lines).reshape(len(part), 2, -1)
        rank = _ranks(mechanism, x, part, directions, spread)
        p.append(float(scipy.stats.kstest(rank, "uniform").pvalue))
    return bonferroni(p)


def direction_p_value(mechanism: Mechanism, x: Tensor, y: Tensor) -> float:
    """p-value of reports ``y`` (n, d) of one record ``x``, where these are unit vectors.

    On a great circle through a report, in any direction, the report's place has the density
    restricted to it; on that which leads there from the record, this times sin^(d - 2) of the
    angle between them. Either place's distribution function is uniform. Of many reports it takes
    the first `DIRECTIONS`.
    """
    y = y[:DIRECTIONS]
    if not y.isfinite().all() or len(y) > len(y.unique(dim=0)):
        return 0.0
    d, centre = y.shape[1], mechanism.forward(x[None])
    rng = torch.Generator().manual_seed(len(y))
    across = torch.randn(y.shape, dtype=y.dtype, generator=rng)
    across = across - (across * y).sum(1, keepdim=True) * y
    outward = y - (y @ centre.T) * centre
    here = torch.arccos((y @ centre.T).clamp(-1.0, 1.0))  # (n, 1)
    seam = 2 * math.pi * torch.rand(here.shape, dtype=y.dtype, generator=rng)  # where it is cut
    p: list[float] = []
    zero, half = torch.zeros_like(here), torch.full_like(here, math.pi)
    for origin, way, at, low, high, power in (
        (y, across, zero, -seam, 2 * math.pi - seam, 0),
        (centre.expand_as(y), outward, here, zero, half, d - 2),
    ):
        rank = _circle_ranks(mechanism, x, torch.stack([origin, way]), at, low, high, power)
        p.append(float(scipy.stats.kstest(rank, "uniform").pvalue))
    return bonferroni(p)


def count_p_value(mechanism: Mechanism, x: Tensor, y: Tensor) -> float:
    """p-value of reports ``y`` (n, d) of one record ``x`` (d,), for channels with few reports."""
    return _counted(y, lambda seen: mechanism.log_density(x[None], seen)[0])


def sampled_p_values(mechanism: Sampled, x: Tensor, y: Tensor) -> list[float]:
    """p-values of reports ``y`` (n, d') of one record: of the sets drawn, and of every block.

    Of each block, by the reports that hold it.
    """
    sets = mechanism.drawn(y)
    found = [_counted(sets, mechanism.log_chance)]
    for b, (s, (columns, part)) in enumerate(zip(mechanism.reports, mechanism.blocks, strict=True)):
        own = y[sets[:, b], s.start : s.stop - 1]
        if len(own) > 1:
            judge = direction_p_value if reports_directions(part) else line_p_value
            judge = count_p_value if isinstance(part, Categorical) else judge
            found.append(judge(part, x[columns], own))
    return found


def _counted(y: Tensor, log_chance: Callable[[Tensor], Tensor]) -> float:
    """Chi-square of how often each row came, those expected fewer than five times together.

    And how often neighbouring rows agree, which must be as often as independent ones do.
    """
    seen, counts = y.unique(dim=0, return_counts=True)
    chance = log_chance(seen).exp().numpy()
    expected, counts = chance * len(y), counts.numpy()
    often = expected >= 5.0
    observed = np.append(counts[often], len(y) - counts[often].sum())
    expected = np.append(expected[often], len(y) - expected[often].sum())
    if expected[-1] < 5.0:  # nothing is left over, up to rounding
        if expected[-1] < -1e-6 * len(y) or observed[-1] > 50:
            return 0.0  # probabilities above one in all, or reports that should never come
        observed, expected = observed[:-1], expected[:-1]
    chi_square = ((observed - expected) ** 2 / expected).sum()
    if len(observed) < 2:
        return 1.0 if chi_square < 1e-6 * len(y) else 0.0
    frequencies = float(scipy.stats.chi2.sf(chi_square, len(observed) - 1))
    agree = int((y[0:-1:2] == y[1::2]).all(1).sum())
    neighbours = scipy.stats.binomtest(agree, len(y) // 2, min(1.0, float((chance**2).sum())))
    return bonferroni([frequencies, float(neighbours.pvalue)])


def bonferroni(p: Sequence[float]) -> float:
    """One p-value from several: the least, times their number; 0 if any is no number.

    A density that is NaN gives such a one, and Python's ``min`` would pass over it.
    """
    return min(1.0, len(p) * float(np.nan_to_num(np.min(p), nan=0.0)))


def survives_extreme_uniforms(mechanism: Mechanism, x: Tensor) -> bool:
    """Whether reports of ``x`` (d,) stay finite, and possible, where a uniform draw is extreme.

    Exactly 0 comes once in 2^24 float32 draws: too rare for a test by sampling, and often enough
    in a release of a few million numbers. So it is put in place of every uniform, and then the
    largest value below 1.
    """
    for dtype in _dtypes(mechanism, x):
        for low in (True, False):
            record = x.to(dtype)[None]
            with _Extreme(low):
                y = mechanism.privatize(record, seed=0)
            if not y.isfinite().all() or not mechanism.log_density(record, y).isfinite().all():
                return False
    return True


def _dtypes(mechanism: Mechanism, x: Tensor) -> list[torch.dtype]:
    """The precisions that the mechanism takes records in: it may find float32 too coarse."""
    try:
        mechanism.privatize(x.float()[None], seed=0)
    except ValueError:
        return [torch.float64]
    return [torch.float32, torch.float64]


class _Extreme(TorchDispatchMode):
    """Within it, torch's uniform draws are all the least or the greatest they can be."""

    def __init__(self, low: bool):
        super().__init__()
        self.low = low

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        name = func.overloadpacket
        if name in (torch.ops.aten.rand, torch.ops.aten.rand_like):
            return out.fill_(0.0 if self.low else 1.0 - torch.finfo(out.dtype).eps / 2)
        if name in (torch.ops.aten.uniform_, torch.ops.aten.uniform):
            low, high = (*args[1:], 0.0, 1.0)[:2] if len(args) > 1 else (0.0, 1.0)
            width = (high - low) * (1.0 - torch.finfo(out.dtype).eps / 2)
            return out.fill_(low if self.low else low + width)
        return out


def _signs(rng: np.random.Generator, n: int) -> np.ndarray:
    return rng.choice([-1.0, 1.0], n)


def _few(rng: np.random.Generator, d: int, coordinates: int) -> np.ndarray:
    """A direction (2 d,) of signs at so many places of the block, zeros elsewhere."""
    direction = np.zeros(2 * d)
    places = rng.choice(2 * d, coordinates, replace=False)
    direction[places] = _signs(rng, coordinates)
    return direction


def _across(rng: np.random.Generator, d: int) -> np.ndarray:
    """The same signs for both rows, or opposite ones, at every place."""
    return np.outer(_signs(rng, 2), _signs(rng, d)).ravel()


FAMILIES: tuple[Callable[[np.random.Generator, int], np.ndarray], ...] = (
    partial(_few, coordinates=1),
    partial(_few, coordinates=2),
    _across,
)


def _ranks(
    mechanism: Mechanism, x: Tensor, blocks: Tensor, directions: Tensor, spread: float
) -> np.ndarray:
    """The distribution function along each block's line at the block itself, (n,).

    A line across hundreds of columns leaves the likely, or the possible, after a thousandth of a
    spread: where its mass lies is looked for first.
    """
    ranks = []
    size = max(1, ENTRIES // ((2 * STEPS + 1) * blocks[0].numel()))
    for y, v in zip(blocks.split(size), directions.split(size), strict=True):
        ends = torch.full((len(y), 2, 1), spread * math.sinh(SPREAD), dtype=torch.float64)
        for _ in range(2):
            t, log = _along(mechanism, x, y, v, ends, COARSE)
            ends = _reach(t, log)
        t, log = _along(mechanism, x, y, v, ends, STEPS)
        density = (log - log.amax(1, keepdim=True)).exp()
        mass = (density[:, 1:] + density[:, :-1]) / 2 * t.diff()
        ranks.append(mass[:, :STEPS].sum(1) / mass.sum(1))
    return torch.cat(ranks).numpy()


def _circle_ranks(
    mechanism: Mechanism,
    x: Tensor,
    frames: Tensor,
    at: Tensor,
    low: Tensor,
    high: Tensor,
    power: int,
) -> np.ndarray:
    """The distribution function at the angles ``at`` (n, 1) of great circles, cut to (low, high).

    frames: an origin and a way at right angles to it for each, (2, n, d).
    """
    even = torch.linspace(0.0, 1.0, 2 * STEPS + 1, dtype=at.dtype)
    near = (SPREAD * even).sinh() / math.sinh(SPREAD)  # the rim of a small cap is near
    steps = torch.cat([even, near[1:-1]]).sort().values
    ranks, size = [], max(1, ENTRIES // (2 * len(steps) * frames.shape[2]))
    parts = (part.split(size) for part in (*frames, at, low, high))
    for origin, way, middle, first, last in zip(*parts, strict=True):
        way = torch.nn.functional.normalize(way, dim=1)
        left, right = (first - middle) * steps.flip(0), (last - middle) * steps[1:]
        angle = middle + torch.cat([left, right], 1)
        points = angle.cos()[:, :, None] * origin[:, None] + angle.sin()[:, :, None] * way[:, None]
        log = mechanism.log_density(x[None], points.flatten(0, 1)).reshape(angle.shape)
        density = (log - log.amax(1, keepdim=True)).exp() * angle.sin().abs() ** power
        mass = (density[:, 1:] + density[:, :-1]) / 2 * angle.diff()
        ranks.append(mass[:, : len(steps) - 1].sum(1) / mass.sum(1))
    return torch.cat(ranks).numpy()


def _along(
    mechanism: Mechanism, x: Tensor, y: Tensor, v: Tensor, ends: Tensor, steps: int
) -> tuple[Tensor, Tensor]:
    """Places on the lines through blocks ``y`` (n, rows, d), so many a side, and log densities.

    ends: how far lines go to the left and to the right, (n, 2, 1). Both results: (n, 2 steps + 1).
    """
    shape = torch.linspace(0.0, SPREAD, steps + 1).double().sinh() / math.sinh(SPREAD)
    left, right = (ends * shape).unbind(1)
    t = torch.cat([-left[:, 1:].flip(1), right], 1)
    points = y[:, None] + t[:, :, None, None] * v[:, None]  # (n, t, rows, d)
    log = mechanism.log_density(x[None], points.reshape(-1, y.shape[2]))
    return t, log.reshape(points.shape[:3]).sum(2)


def _reach(t: Tensor, log: Tensor) -> Tensor:
    """How far from the middle the mass reaches to the left and to the right, (n, 2, 1).

    It is one place further than the last that is not negligible.
    """
    middle = t.shape[1] // 2
    likely = log >= log.amax(1, keepdim=True) - NEGLIGIBLE
    likely[:, middle] = True
    first = likely.byte().argmax(1) - 1
    last = t.shape[1] - likely.byte().flip(1).argmax(1)
    found = t.gather(1, torch.stack([first, last], 1).clamp(0, t.shape[1] - 1))
    return found.abs()[:, :, None]
