"""The strongest guess at who sent a report, and what its success proves about the budget.

By the Neyman-Pearson lemma nothing tells record x from x' better than the likelihood ratio of the
report. If a set S of reports has probability p under x and q under x', then any (epsilon, delta)
that holds has e^epsilon >= (p - delta) / q, so counting how often reports fall into S bounds
epsilon from below. The set is chosen on one half of the reports and counted on the other; both
rates are replaced by exact (Clopper-Pearson) confidence bounds.
"""

from collections.abc import Callable

import numpy as np
import scipy
import torch
from torch import Tensor

from privgan.mechanisms import Mechanism
from privgan.streams import stream

CANDIDATES = 512  # thresholds tried on the first half
ENTRIES = 2**23  # numbers in a batch of simulated reports

Figure = Callable[[np.ndarray, np.ndarray], np.ndarray]


def own_seeds(seed: int, purpose: str, count: int) -> list[int]:
    """Seeds of 63 bits for what is simulated for one ``purpose``: no other purpose shares them."""
    drawn = torch.randint(2**63 - 1, (count,), generator=stream(seed, f"audit: {purpose}"))
    return drawn.tolist()


def draw(mechanism: Mechanism, x: Tensor, n: int, seed: int, purpose: str) -> list[Tensor]:
    """``n`` reports of one record ``x`` (d,), in batches of at most `ENTRIES` numbers."""
    size = max(1, min(n, ENTRIES // len(x)))
    counts = [size] * (n // size) + [n % size] * (n % size > 0)
    return [
        mechanism.privatize(x.expand(count, -1).clone(), seed=own)
        for count, own in zip(counts, own_seeds(seed, purpose, len(counts)), strict=True)
    ]


def likelihood_ratios(
    mechanism: Mechanism, x: Tensor, other: Tensor, n: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """``log k(y|x) - log k(y|other)`` for ``n`` reports of ``x``, and for ``n`` of ``other``."""

    def ratio(y: Tensor) -> Tensor:
        whole = y.isfinite().all(1)
        score = y.new_zeros(len(y))  # what cannot be scored counts for neither
        log_x, log_other = mechanism.log_density(torch.stack([x, other]), y[whole])
        # Rounded, for where the ratio saturates its exact ties must stay ties.
        score[whole] = (log_x - log_other).nan_to_num(0.0, torch.inf, -torch.inf).round(decimals=9)
        return score

    def ratios(record: Tensor, name: str) -> np.ndarray:
        reports = draw(mechanism, record, n, seed, f"attack, {name} record")
        return torch.cat([ratio(y) for y in reports]).numpy()

    return ratios(x, "first"), ratios(other, "second")


def certified(scores: tuple[np.ndarray, np.ndarray], figure: Figure, alpha: float) -> float:
    """``figure(true positive rate, false positive rate)``, bounded from below.

    scores: likelihood ratios of reports of x and of x'. Holds with probability 1 - ``alpha``
    over the reports; -inf if they prove nothing.
    """
    halves = [np.array_split(s, 2) for s in scores]
    # Reports of x score high; those of x' score low: either tail may be the telling one.
    tails = [(halves[0], halves[1]), ([-s for s in halves[1]], [-s for s in halves[0]])]
    best, choice = -np.inf, None
    for positive, negative in tails:
        pool = np.unique(np.concatenate([positive[0], negative[0]]))
        thresholds = pool[np.linspace(0, len(pool) - 1, CANDIDATES).astype(int)]
        found = figure(*_bounds(positive[0], negative[0], thresholds, alpha))
        if found.max() > best:
            best = found.max()
            choice = positive[1], negative[1], thresholds[[found.argmax()]]
    return -np.inf if choice is None else float(figure(*_bounds(*choice, alpha))[0])


def epsilon_figure(delta: float) -> Figure:
    """Epsilon, nats, that the two rates force at ``delta``."""

    def figure(tpr: np.ndarray, fpr: np.ndarray) -> np.ndarray:
        above = np.maximum(tpr - delta, 0.0)
        with np.errstate(divide="ignore"):
            return np.asarray(np.log(above) - np.log(fpr))

    return figure


def mu_figure(tpr: np.ndarray, fpr: np.ndarray) -> np.ndarray:
    """The mean difference, in standard deviations, at which a Gaussian has these two rates."""
    return np.asarray(scipy.special.ndtri(tpr) - scipy.special.ndtri(fpr))


def _bounds(
    positive: np.ndarray, negative: np.ndarray, thresholds: np.ndarray, alpha: float
) -> tuple[np.ndarray, np.ndarray]:
    """Clopper-Pearson at alpha/2 a side for the rates of scores at or above each threshold."""
    n, m = len(positive), len(negative)
    hits = n - np.searchsorted(np.sort(positive), thresholds)
    false = m - np.searchsorted(np.sort(negative), thresholds)
    low = np.where(
        hits > 0, scipy.special.betaincinv(np.maximum(hits, 1), n - hits + 1, alpha / 2), 0.0
    )
    high = np.where(
        false < m, scipy.special.betaincinv(false + 1, np.maximum(m - false, 1), 1 - alpha / 2), 1.0
    )
    return low, high
