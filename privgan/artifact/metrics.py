"""How close is a generator to the raw law? Measured against raw data, which a curator never has."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from scipy.spatial.distance import cdist
from torch import Tensor

from privgan import checks
from privgan.artifact import oracles
from privgan.artifact.transport import best_plan

BLOCK = 2**24  # distances held at a time where all of them would be too many


def _points(name_x: str, x: Any, name_y: str, y: Any) -> tuple[np.ndarray, np.ndarray]:
    """Two samples in one space, as float64 on the CPU whatever they were."""
    given = ((name_x, x), (name_y, y))
    x, y = (checks.as_records(name, v).detach().double().cpu() for name, v in given)
    x, y = checks.as_pair(name_x, x, name_y, y)
    return x.numpy(), y.numpy()


def w2(x: Tensor | np.ndarray, y: Tensor | np.ndarray) -> float:
    """Exact Wasserstein-2 distance between two samples (n, d), (m, d), in data units (POT)."""
    points = _points("x", x, "y", y)
    # Sums of squared differences do not cancel, however far from the origin the points lie.
    costs = cdist(*points, "sqeuclidean")
    if not np.isfinite(costs).all():
        raise ValueError("x and y lie too far apart: squared distances overflow; rescale both")
    return math.sqrt((best_plan(costs).masses * costs).sum())


def w2_draws(x: Tensor | np.ndarray, y: Tensor | np.ndarray, n: int) -> np.ndarray:
    """`w2` of the first ``n`` points of each sample, of the next ``n``, and so on, (draws,).

    One W2 depends on the luck of its points; these give a mean and its standard error. What is
    left over at the end of either sample is not used.
    """
    n = checks.positive_int("n", n)
    x, y = _points("x", x, "y", y)
    if min(len(x), len(y)) < n:
        raise ValueError(f"x has {len(x)} rows and y has {len(y)}; each draw needs n = {n}")
    draws = min(len(x), len(y)) // n
    return np.array([w2(x[k * n : (k + 1) * n], y[k * n : (k + 1) * n]) for k in range(draws)])


def w2_floor(draw: Callable[..., Tensor], n: int, *, repeats: int = 3, seed: int = 0) -> float:
    """Mean W2 between two independent samples of one law: what a perfect generator scores.

    draw: a sampler ``draw(n, seed=...)``, as in `privgan.artifact.data`.
    """
    repeats = checks.positive_int("repeats", repeats)
    checks.function("draw", draw, "privgan.artifact.data.circle")
    seed = checks.integer("seed", seed)
    pairs = range(seed, seed + 2 * repeats, 2)
    return sum(w2(draw(n, seed=s), draw(n, seed=s + 1)) for s in pairs) / repeats


def support_distance(x: Tensor | np.ndarray, raw: Tensor | np.ndarray) -> float:
    """Mean distance of points ``x`` (n, d) to the nearest of many raw points (m, d).

    W2 also counts how the mass is spread along the support; this counts only strays off it. Between
    raw points there are gaps, so raw points themselves score above 0.
    """
    from scipy.spatial import cKDTree

    points, others = _points("x", x, "raw", raw)
    return float(cKDTree(others).query(points)[0].mean())


def frechet(u: Tensor | np.ndarray, v: Tensor | np.ndarray) -> float:
    """Squared W2 between the Gaussians with the means and covariances of two samples.

    u, v: features, (n, d), (m, d), with n, m >= 2. In the features of Inception this is the FID;
    in others it is not, and values compare within one feature space only. Heusel et al. 2017.
    """
    points = _points("u", u, "v", v)
    if min(len(u), len(v)) < 2:
        raise ValueError(f"u has {len(u)} rows and v has {len(v)}; covariances need 2 of each")
    if np.array_equal(*points):
        return 0.0
    left, right = (sample - points[0].mean(0) for sample in points)  # or means would be rounded
    shift = float(np.square(left.mean(0) - right.mean(0)).sum())
    return shift + oracles.root_distance(_root(left), _root(right))


def _root(sample: np.ndarray) -> np.ndarray:
    """A square matrix (d, d) whose product with its transpose is the sample's covariance."""
    n, d = sample.shape
    triangle = np.linalg.qr(sample - sample.mean(0)).R
    root = np.zeros((d, d))
    root[:, : min(n, d)] = triangle.T / math.sqrt(n - 1)
    return root


def precision_recall(
    real: Tensor | np.ndarray, generated: Tensor | np.ndarray, *, k: int = 3
) -> tuple[float, float]:
    """How many generated records lie among real ones, and how many real ones among generated.

    A record lies among a sample if it is no further from one of its points than that point's
    k-th nearest neighbour in the sample. real, generated: features (n, d), (m, d). Kynkaanniemi
    et al., "Improved precision and recall metric", 2019.
    """
    k = checks.positive_int("k", k)
    real, generated = _points("real", real, "generated", generated)
    if min(len(real), len(generated)) <= k:
        raise ValueError(
            f"k is {k}, but real has {len(real)} rows and generated {len(generated)}; each needs "
            "more than k"
        )
    return _share_within(generated, real, k), _share_within(real, generated, k)


def _share_within(x: np.ndarray, sample: np.ndarray, k: int) -> float:
    # Squared differences, not a product of matrices: points that coincide are at distance zero.
    within = np.zeros(len(x), bool)
    rows = max(1, BLOCK // max(len(sample), len(x)))
    for first in range(0, len(sample), rows):
        own = sample[first : first + rows]
        # The nearest neighbour of a point in its own sample is the point itself.
        distances = cdist(own, sample, "sqeuclidean")
        distances.partition(k, axis=1)
        radius = distances[:, k, None].copy()
        del distances  # one block at a time
        within |= (cdist(own, x, "sqeuclidean") <= radius).any(0)
    return float(within.mean())
