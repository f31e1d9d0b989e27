"""How close is a generator to the raw law? Measured against raw data, which a curator never has."""

import math
from collections.abc import Callable

import numpy as np
import ot
import scipy.linalg
import torch
from torch import Tensor

from privgan import checks


def w2(x: Tensor, y: Tensor) -> float:
    """Exact Wasserstein-2 distance between two samples (n, d), (m, d), in data units (POT)."""
    x, y = (checks.as_records(name, v).detach().double().cpu() for name, v in (("x", x), ("y", y)))
    points = [v.numpy() for v in checks.as_pair("x", x, "y", y)]
    weights = [np.full(len(v), 1.0 / len(v)) for v in points]
    return math.sqrt(max(ot.emd2(*weights, ot.dist(*points), numItermax=5_000_000), 0.0))


def w2_draws(x: Tensor, y: Tensor, n: int) -> np.ndarray:
    """`w2` of the first ``n`` points of each sample, of the next ``n``, and so on, (draws,).

    One W2 depends on the luck of its points; these give a mean and its standard error. What is
    left over at the end of either sample is not used.
    """
    n = checks.positive_int("n", n)
    if min(len(x), len(y)) < n:
        raise ValueError(f"x has {len(x)} rows and y has {len(y)}; each draw needs n = {n}")
    draws = min(len(x), len(y)) // n
    return np.array([w2(x[k * n : (k + 1) * n], y[k * n : (k + 1) * n]) for k in range(draws)])


def w2_floor(draw: Callable[..., Tensor], n: int, *, repeats: int = 3, seed: int = 0) -> float:
    """Mean W2 between two independent samples of one law: what a perfect generator scores.

    draw: a sampler ``draw(n, seed=...)``, as in `privgan.data`.
    """
    pairs = range(seed, seed + 2 * repeats, 2)
    return sum(w2(draw(n, seed=s), draw(n, seed=s + 1)) for s in pairs) / repeats


def frechet(u: Tensor, v: Tensor) -> float:
    """Squared W2 between the Gaussians with the means and covariances of two samples.

    u, v: features, (n, d), (m, d), with n, m >= 2. In the features of Inception this is the FID;
    in others it is not, and values compare within one feature space only. Heusel et al. 2017.
    """
    u, v = checks.as_pair("u", checks.as_records("u", u), "v", checks.as_records("v", v))
    if min(len(u), len(v)) < 2:
        raise ValueError(f"u has {len(u)} rows and v has {len(v)}; covariances need 2 of each")
    u, v = u.detach().double().cpu(), v.detach().double().cpu()
    # tr (A B)^(1/2) from the eigenvalues of a symmetric matrix: A may be singular.
    values, vectors = np.linalg.eigh(torch.atleast_2d(torch.cov(u.T)).numpy())
    root = (vectors * np.sqrt(values.clip(0))) @ vectors.T
    b = torch.atleast_2d(torch.cov(v.T)).numpy()
    cross = np.sqrt(scipy.linalg.eigvalsh(root @ b @ root).clip(0)).sum()
    distance = (u.mean(0) - v.mean(0)).square().sum().item()
    return max(distance + values.sum() + np.trace(b) - 2 * cross, 0.0)


def precision_recall(real: Tensor, generated: Tensor, *, k: int = 3) -> tuple[float, float]:
    """How many generated records lie among real ones, and how many real ones among generated.

    A record lies among a sample if it is no further from one of its points than that point's
    k-th nearest neighbour in the sample. real, generated: features (n, d), (m, d). Kynkaanniemi
    et al., "Improved precision and recall metric", 2019.
    """
    real, generated = checks.as_pair("real", real, "generated", generated)
    k = checks.positive_int("k", k)
    if min(len(real), len(generated)) <= k:
        raise ValueError(
            f"k is {k}, but real has {len(real)} rows and generated {len(generated)}; each needs "
            "more than k"
        )

    def share_within(x: Tensor, sample: Tensor) -> float:
        # The nearest neighbour of a point in its own sample is the point itself.
        radius = torch.cdist(sample, sample).kthvalue(k + 1, dim=1).values
        return (torch.cdist(x, sample) <= radius).any(1).double().mean().item()

    return share_within(generated, real), share_within(real, generated)
