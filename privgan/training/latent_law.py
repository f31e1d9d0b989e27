"""The law of a trained generator's latents, fitted where the reports put them.

An encoder is imperfect: the mean of q(z | y) over the reports is not quite the standard normal, and
what is drawn from that falls where no report ever taught the generator anything. A mixture of
normals fitted to latents of reports mends it. Reports are all it needs: it is post-processing.
"""

import math

import numpy as np
import scipy
import torch
from torch import Tensor, nn

from privgan.generators import Generator
from privgan.generators.latents import NormalMixture, invert, log_components
from privgan.streams import stream

ROUNDS = 60  # of expectation and maximisation
RIDGE = 1e-3  # of a class's mean variance, on the diagonal of every covariance


def fit_mixture(
    u: Tensor, label: Tensor, *, classes: int = 1, components: int = 10, seed: int = 0
) -> NormalMixture:
    """Expectation maximisation on latents ``u`` (n, l) of classes ``label`` (n,), class by class.

    A component has a full covariance, and at least 2 l latents to find it from: a class with fewer
    latents gets fewer components. Dempster, Laird, Rubin, "Maximum likelihood from incomplete data
    via the EM algorithm", 1977.
    """
    u, label = u.detach().double().cpu(), label.cpu()
    rng = np.random.default_rng(int(torch.randint(2**62, (1,), generator=stream(seed, "mixture"))))
    found = [_one_class(u[label == k], components, rng) for k in range(classes)]
    weights, means, factors = (torch.stack(part) for part in zip(*found, strict=True))
    return NormalMixture(weights, means, factors)


def _one_class(
    u: Tensor, components: int, rng: np.random.Generator
) -> tuple[Tensor, Tensor, Tensor]:
    """Weights (c,), means (c, l) and factors (c, l, l); components that are not used weigh 0."""
    n, dim = u.shape
    weights = torch.zeros(components, dtype=torch.float64)
    means = torch.zeros(components, dim, dtype=torch.float64)
    factors = torch.eye(dim, dtype=torch.float64).repeat(components, 1, 1)
    used = min(components, n // (2 * dim))
    if not used:  # too few to tell more than a place: the standard normal is as good
        weights[0] = 1.0
        return weights, means, factors
    ridge = RIDGE * u.var(0).mean() * torch.eye(dim, dtype=torch.float64)
    _, nearest = scipy.cluster.vq.kmeans2(u.numpy(), used, minit="++", rng=rng)
    shares = torch.nn.functional.one_hot(torch.from_numpy(nearest).long(), used).double()
    for _ in range(ROUNDS):
        mass = shares.sum(0).clamp_min(1e-9)
        weights[:used] = mass / n
        means[:used] = (shares.T @ u) / mass[:, None]
        for c in range(used):
            away = u - means[c]
            covariance = (shares[:, c, None] * away).T @ away / mass[c] + ridge
            factors[c] = torch.linalg.cholesky(covariance)
        scores = log_components(u, weights[:used], means[:used], factors[:used])
        shares = scores.softmax(1)
    return weights / weights.sum(), means, factors


def with_class(generator: Generator, u: Tensor, label: Tensor | None) -> Tensor:
    """Normal latents (n, l), with the one-hot class beside them where there are classes."""
    if not generator.classes or label is None:
        return u
    one_hot = nn.functional.one_hot(label, generator.classes).to(u)
    return torch.cat([u, one_hot.repeat(len(u) // len(label), 1)], 1)


def log_law(generator: Generator, u: Tensor, label: Tensor | None) -> Tensor:
    """Log-density of latents (K, m, l) where the generator draws them from, (K, m)."""
    if generator.law is None:
        return log_normal(u).sum(2)
    again = None if label is None else label.repeat(len(u))
    return generator.law.log_density(u.flatten(0, 1), again).view(u.shape[:2])


def log_normal(z: Tensor) -> Tensor:
    return -0.5 * (z.square() + math.log(2 * math.pi))


def drawn_index(p: Tensor, rng: torch.Generator) -> Tensor:
    """An index drawn from each row of weights (n, k), with a CPU generator: (n,)."""
    u = torch.rand((len(p), 1), dtype=torch.float64, generator=rng).to(p.device)
    return invert(p.double(), u).squeeze(1)
