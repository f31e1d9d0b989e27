"""The law of a trained generator's latents, fitted where the reports put them.

An encoder is imperfect: the mean of q(z | y) over the reports is not quite the standard normal, and
what is drawn from that falls where no report ever taught the generator anything. A mixture of
normals fitted to latents of reports mends it: at first to a draw of q for each, then, with several
draws weighted by what the channel says of them, towards the law of greatest likelihood. Reports are
all it needs: it is post-processing.
"""

import math
from collections.abc import Callable, Sequence

import numpy as np
import scipy
import torch
from torch import Tensor, nn

from privgan.generators import Generator
from privgan.generators.latents import NormalMixture, invert, log_components
from privgan.streams import stream

ROUNDS = 60  # of expectation and maximisation
WEIGHTED = 20  # further rounds, with importance weights
SIZES = (1, 3, 10, 30)  # numbers of components that are tried, up to the largest allowed
DRAWS = 32  # for each report, at most, that these are fitted to
WORK = 1.3e9  # draws of all reports, times components, times latents squared, at most
RIDGE = 1e-3  # of a class's mean variance, on the diagonal of every covariance


def candidates(components: int) -> list[int]:
    """Sizes of laws that are tried, up to ``components``."""
    return [size for size in SIZES if size < components] + [components]


def affordable(visits: int, n: int, dim: int, sizes: Sequence[int]) -> int:
    """Draws for each of ``n`` reports of ``dim`` latents: no more work than the training was, where
    it was at each of them ``visits`` times, and no more than `WORK`."""
    return max(1, min(visits, DRAWS, int(WORK / (n * dim**2 * sum(sizes)))))


def fit_mixtures(
    u: Tensor, label: Tensor, score: Tensor, classes: int, sizes: Sequence[int], seed: int
) -> list[NormalMixture]:
    """A law of each of ``sizes``, by `fit_mixture` and then `weigh`."""
    first = u[:, 0], label[:, 0]
    laws = [fit_mixture(*first, classes=classes, components=c, seed=seed).to(u) for c in sizes]
    return [weigh(law, u, label, score) for law in laws]


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
        weights[:used], means[:used], factors[:used] = _maximised(u, shares, ridge)
        scores = log_components(u, weights[:used], means[:used], factors[:used])
        shares = scores.softmax(1)
    return weights / weights.sum(), means, factors


def _maximised(u: Tensor, shares: Tensor, ridge: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Normals (c) of latents ``u`` (n, l) that belong to them by ``shares`` (n, c)."""
    mass = shares.sum(0)
    floor = mass.clamp_min(1e-9)
    means = (shares.T @ u) / floor[:, None]
    factors = []
    for c in range(len(mass)):
        away = u - means[c]
        covariance = (shares[:, c, None] * away).T @ away / floor[c] + ridge
        factors.append(torch.linalg.cholesky(covariance))
    return mass / mass.sum(), means, torch.stack(factors)


def weigh(
    law: NormalMixture, u: Tensor, label: Tensor, score: Tensor, rounds: int = WEIGHTED
) -> NormalMixture:
    """``law`` after rounds of expectation and maximisation with several latents for each report.

    u: (n, K, l) and label: (n, K), drawn by an encoder. score: (n, K), the log of the channel's
    density times the class's probability, over the encoder's density. A latent counts by its score
    and its density under the law, and those of one report count as one together; so the law climbs
    the likelihood, whatever the encoder is, as the draws become many. A component that fewer than
    2 l reports belong to is given up, unless a class has no other: that class stays as it was.
    Levine, Casella, "Implementations of the Monte Carlo EM algorithm", 2001.
    """
    device, dtype = law.means.device, law.means.dtype
    dim, classes = u.shape[-1], label.flatten().cpu()
    rows = [(classes == k).nonzero().squeeze(1) for k in range(law.classes)]
    groups = [u.flatten(0, 1).cpu()[own].double() for own in rows]
    weights, means, factors = (
        part.double().cpu().clone() for part in (law.weights, law.means, law.factors)
    )
    known, density = score.double().cpu(), torch.empty(label.numel(), dtype=torch.float64)
    for _ in range(rounds):
        found = [
            log_components(group, weights[k], means[k], factors[k])
            for k, group in enumerate(groups)
        ]
        for own, scores in zip(rows, found, strict=True):
            density[own] = scores.logsumexp(1)
        # A report that no draw explains is NaN here, and counts for nothing.
        counts = (known + density.view_as(known)).softmax(1).nan_to_num(0.0).flatten()
        for k, (own, group, scores) in enumerate(zip(rows, groups, found, strict=True)):
            shares = scores.softmax(1) * counts[own, None]
            used = (weights[k] > 0) & (shares.sum(0) >= 2 * dim)
            if used.any():
                ridge = RIDGE * group.var(0).mean() * torch.eye(dim, dtype=torch.float64)
                normals = _maximised(group, shares[:, used], ridge)
                weights[k] = torch.zeros_like(weights[k])
                weights[k, used], means[k, used], factors[k, used] = normals
    return NormalMixture(*(part.to(device, dtype) for part in (weights, means, factors)))


def likeliest(
    laws: Sequence[NormalMixture], generator: Generator, told: Callable[[], Tensor]
) -> NormalMixture:
    """The law under which ``generator`` makes reports likeliest: ``told`` gives their logs."""
    if len(laws) == 1:
        return laws[0]
    before, found = generator.law, list[float]()
    try:
        for law in laws:
            generator.law = law
            found.append(told().double().mean().item())
    finally:
        generator.law = before
    return laws[found.index(max(found))]


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
