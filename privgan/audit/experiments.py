"""What one report tells about which of two records sent it: a finite experiment, and its delta.

Two records give every set of reports two probabilities, p and q. The least delta at an epsilon is

    delta(epsilon) = sum over sets of (p - e^epsilon q)_+        (the hockey stick)

once the sets are fine enough. Coarser ones are post-processing and can only tell less, so what is
found here is never above the truth; sets of one likelihood ratio p / q lose nothing. Independent
reports multiply their probabilities, and the logarithms of the ratios add.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import scipy
from torch import Tensor

from privgan.mechanisms import (
    EuclideanLaplace,
    Laplace,
    LinearMap,
    LocalHashing,
    Mechanism,
    Piecewise,
    RandomizedResponse,
    SquareWave,
    SubsetSelection,
    UnaryEncoding,
    Window,
)

CELLS = 1024  # sets of reports that an experiment is kept in
FEW = 2**16  # outcomes among which equal ratios are looked for
NODES = 400  # directions that the Euclidean Laplace noise is integrated over
ROUNDING = 2e-15  # of a probability found by quadrature; taken off p and added to q
UNLIKELY = 1e-18  # a tail that may share one cell


@dataclass(frozen=True, eq=False)
class Experiment:
    """Probabilities (k,) of k sets of reports, under a record and under another.

    largest: the log-likelihood ratio of the most telling report, nats.
    """

    p: np.ndarray
    q: np.ndarray
    largest: float

    @property
    def loss(self) -> np.ndarray:
        """log(p / q), nats, (k,)."""
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.nan_to_num(np.log(self.p) - np.log(self.q), nan=-np.inf)

    def __and__(self, other: "Experiment") -> "Experiment":
        """Both reports, independent of each other."""
        p, q = (np.outer(a, b).ravel() for a, b in ((self.p, other.p), (self.q, other.q)))
        return Experiment(p, q, self.largest + other.largest)

    def repeated(self, times: int) -> "Experiment":
        """``times`` independent reports, by squaring."""
        if times == 1:
            return self
        half = self.repeated(times // 2)
        both = (half & half).merged()
        return (both & self).merged() if times % 2 else both

    def merged(self) -> "Experiment":
        """The same in at most `CELLS` sets: those of one ratio together, or of nearly one."""
        loss = self.loss
        if len(loss) <= FEW:
            ratios, cell = np.unique(loss.round(9), return_inverse=True)
            if len(ratios) <= CELLS:
                return self._summed(cell)
        finite = loss[np.isfinite(loss)]
        cell, low, high = _cells(loss, finite.min(), finite.max(), 16 * CELLS)
        mass = np.bincount(cell, self.p, 16 * CELLS).cumsum()
        step = (high - low) / (16 * CELLS)
        first, last = np.searchsorted(mass, [UNLIKELY, mass[-1] * (1 - UNLIKELY)])
        cell, _, _ = _cells(loss, low + first * step, low + (last + 1) * step, CELLS)
        return self._summed(cell)

    def _summed(self, cell: np.ndarray) -> "Experiment":
        return Experiment(np.bincount(cell, self.p), np.bincount(cell, self.q), self.largest)

    def delta(self, epsilon: float, mu: float = 0.0) -> float:
        """The least delta at ``epsilon``, with Gaussian noise of ``mu`` beside this report."""
        above = epsilon - self.loss
        if mu == 0.0:
            return float((self.p * -np.expm1(np.minimum(above, 0.0))).sum())
        # That of Balle and Wang (`privgan.mechanisms.budget`) at what each report leaves over.
        first = scipy.special.log_ndtr(mu / 2 - above / mu)
        with np.errstate(invalid="ignore"):
            drop = np.minimum(above + scipy.special.log_ndtr(-mu / 2 - above / mu) - first, 0.0)
        return float((self.p * np.exp(first) * -np.expm1(np.nan_to_num(drop, nan=0.0))).sum())


NOTHING = Experiment(np.ones(1), np.ones(1), 0.0)


def together(experiments: Iterable[tuple[Experiment, int]]) -> Experiment:
    """All of them, each so many times, independent of one another."""
    found = NOTHING
    for experiment, times in experiments:
        found = found.merged() & experiment.repeated(times)
    return found


def experiments(
    part: Mechanism, x: Tensor, other: Tensor, epsilon: float
) -> list[tuple[Experiment, int]]:
    """What ``part`` tells between two records (d,), as independent experiments with their numbers.

    Only channels of the library itself are known, by their published laws; a subclass may draw
    otherwise, and of what is not known nothing is told. Some sets end at ``epsilon``.
    """
    a, b = part.forward(x[None])[0].double(), part.forward(other[None])[0].double()
    if type(part) is LinearMap:
        part = part.mechanism
    if type(part) is Laplace or (type(part) is EuclideanLaplace and len(a) == 1):
        ratios, counts = np.unique(((a - b).abs() / part.reg).numpy(), return_counts=True)
        pairs = zip(ratios.tolist(), counts.tolist(), strict=True)
        return [(laplace(t, epsilon), n) for t, n in pairs if t > 0.0]
    if type(part) is EuclideanLaplace:
        t = float((a - b).norm()) / part.scale
        return [(euclidean_laplace(t, len(a), epsilon), 1)] if t > 0.0 else []
    if type(part) is RandomizedResponse:
        lie = (1 - part.keep) / (part.k - 1)
        return [(_outcomes([part.keep, lie, (part.k - 2) * lie], [1, 0, 2]), 1)]
    if type(part) is SubsetSelection or type(part) is Window:
        alone = 1 - (part.size - 1) / (part.k - 1)  # of the sets with one, those without the other
        if type(part) is Window:
            steps = abs(int(a.argmax()) - int(b.argmax()))
            alone = min(steps, part.k - steps, part.size, part.k - part.size) / part.size
        own, rest = part.keep * alone, (1 - part.keep) * alone * part.size / (part.k - part.size)
        return [(_outcomes([own, rest, 1 - own - rest], [1, 0, 2]), 1)] if alone else []
    if type(part) is LocalHashing:
        bits = np.array([1 - part.keep, part.keep]), np.array([1 - part.rates[1], part.rates[1]])
        return [(_outcomes(np.outer(*bits).ravel(), [0, 2, 1, 3]), 1)]
    if type(part) is UnaryEncoding:
        bits = np.array([1 - part.keep, part.keep]), np.array([1 - part.flip, part.flip])
        return [(_outcomes(np.outer(*bits).ravel(), [0, 2, 1, 3]), 1)]
    if type(part) is Piecewise or type(part) is SquareWave:
        widths = part.bounds.placed("widths", a)
        apart = (part.stretch * (a - b).abs() / (widths / 2)).clamp(max=2 * part.half)
        shares, counts = np.unique((apart / (2 * part.half)).numpy(), return_counts=True)
        pairs = zip(shares.tolist(), counts.tolist(), strict=True)
        return [(_band(part, share), n) for share, n in pairs if share > 0.0]
    return []


def laplace(t: float, epsilon: float) -> Experiment:
    """Laplace noise on records ``t`` scales apart: with u = y - x, log p / q = |u - t| - |u|.

    It is t for u < 0, -t for u > t, and t - 2 u between.
    """
    edges = _edges(t, epsilon)
    inner = -np.expm1(-np.diff(edges) / 2) / 2
    p = np.concatenate([[math.exp(-t) / 2], np.exp((edges[1:] - t) / 2) * inner, [0.5]])
    return Experiment(p, p[::-1], t)


def euclidean_laplace(t: float, d: int, epsilon: float) -> Experiment:
    """Noise exp(-|y - x|) in d > 1 dimensions, on records ``t`` scales apart.

    At a distance r, in a direction of cosine c with the other record, |y - x'| < r + l exactly if
    2 r (l + t c) > t^2 - l^2. r is Gamma(d); the angle has the density sin^(d-2).
    """
    edges = _edges(t, epsilon)
    loss = edges[1:-1, None]
    nodes, weights = np.polynomial.legendre.leggauss(NODES)
    widest = np.arccos(-loss / t)
    angle = widest * (nodes + 1) / 2
    # loss + t cos(angle), which is 0 at the widest angle, without cancelling there.
    along = 2 * t * np.sin((widest + angle) / 2) * np.sin((widest - angle) / 2)
    log_area = (
        math.log(math.pi) / 2 + scipy.special.gammaln((d - 1) / 2) - scipy.special.gammaln(d / 2)
    )
    density = np.exp((d - 2) * np.log(np.sin(angle)) - log_area) * weights * widest / 2
    below = (density * scipy.special.gammaincc(d, (t * t - loss * loss) / (2 * along))).sum(1)
    p = np.diff(np.concatenate([[0.0], below, [1.0]]))
    return Experiment(np.maximum(p - ROUNDING, 0.0), p[::-1] + ROUNDING, t)


def _band(part: Piecewise | SquareWave, share: float) -> Experiment:
    """One coordinate: reports in one band only, in the other only, in both or in neither."""
    own = (1 - part.miss) * share
    other = own * math.exp(-part.coordinate_epsilon)
    return _outcomes([own, other, 1 - own - other], [1, 0, 2])


def _outcomes(p: Iterable[float], swapped: list[int]) -> Experiment:
    """Of a channel in which the other record swaps outcomes: ``swapped`` are their places."""
    found = np.array([*p])
    possible = found > 0.0  # a third category, where there are but two, is not
    p, q = found[possible], found[swapped][possible]
    return Experiment(p, q, float(np.log(p / q).max()))


def _edges(t: float, epsilon: float) -> np.ndarray:
    """Ends of cells of the loss from -t to t, ``epsilon`` among them.

    One half is the other's mirror image to the last bit: probabilities under the other record are
    read off backwards.
    """
    inner = [epsilon] if epsilon < t else []
    upper = np.unique([*np.linspace(0.0, t, CELLS // 2 + 1), *inner])
    return np.concatenate([-upper[:0:-1], upper])


def _cells(
    loss: np.ndarray, low: float, high: float, cells: int
) -> tuple[np.ndarray, float, float]:
    """The cell of each loss among equal ones from ``low`` to ``high``; the outer ones go on."""
    high = max(high, low + 1e-12)
    place = (np.clip(loss, low, high) - low) * (cells / (high - low))
    return np.minimum(place.astype(int), cells - 1), low, high
