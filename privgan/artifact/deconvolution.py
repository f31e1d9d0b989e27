r"""A mixture of normals fitted through the noise: the statistician's generator.

Unbiased reports u = x + noise of covariance S, with x of class c from a mixture of normals
(w_cj, m_cj, V_cj) and the label through its channel. Expectation maximisation takes the noise off
exactly: given u, class and component, x is normal with mean b and covariance B,

    T = V + S,    b = m + V T^-1 (u - m),    B = V - V T^-1 V,

and each step raises the likelihood of the reports. Bovy, Hogg and Roweis, "Extreme deconvolution:
inferring complete distribution functions from noisy, heterogeneous and incomplete observations",
2011. Noise that is not normal is taken for normal noise of its covariance.
"""

import torch
from numpy.typing import ArrayLike
from torch import Tensor

from privgan import checks
from privgan.generators import Generator, Labelled, Linear
from privgan.generators.latents import NormalMixture, log_components
from privgan.mechanisms import Mechanism
from privgan.mechanisms.moments import noise_of, parts
from privgan.reports import Reports
from privgan.reports.collection import values_of
from privgan.streams import stream
from privgan.surroundings import usual
from privgan.training import closed_form

APART = 0.7  # of a class's spread: how far components start from its mean
RIDGE = 1e-4  # of a latent's variance, which no covariance falls below


@usual(grad=False)
def deconvolve(
    reports: ArrayLike | Reports,
    mechanism: Mechanism,
    *,
    components: int = 5,
    rounds: int = 100,
    rank: int | None = None,
    seed: int = 0,
) -> Generator:
    """As `privgan.closed_form`, from which it starts, with ``components`` normals for each class.

    mechanism: additive noise, alone or beside a category, its class. rounds: of expectation and
    maximisation. Raises TypeError for other mechanisms.
    """
    components = checks.positive_int("components", components)
    model = closed_form(reports, mechanism, rank=rank, seed=seed)
    y = values_of("reports", reports).to("cpu", torch.float64)
    numbers, label = parts(mechanism, y.shape[1])
    features = torch.cat([n.mechanism.unbiased(y[:, n.reports]) for n in numbers], 1)
    noise, movable = noise_of(numbers, features.shape[1])
    if not movable.all():
        raise TypeError("deconvolve needs additive noise; a direction's depends on the record")
    decoder, start = model.decoder if isinstance(model, Labelled) else model, model.law
    assert isinstance(decoder, Linear)  # what closed_form makes
    assert start is not None
    latents = start.means.shape[-1]
    columns = decoder.matrix[:, :latents].double()  # orthogonal, in units of their spreads
    back = torch.linalg.pinv(columns)
    z = (features - decoder.offset.double()) @ back.T
    added = back @ noise.added @ back.T
    log_k = z.new_zeros(len(z), 1)
    if label is not None:
        answers, k = y[:, label.reports], len(start.means)
        log_k = label.mechanism.log_density(torch.eye(k).to(y), answers).T
    law = _started(start.double(), components, seed)
    prior = model.log_prior().exp().double() if label is not None else z.new_ones(1)
    for _ in range(rounds):
        prior, law = _improved(z, log_k, prior, law, added)
    if isinstance(model, Labelled):
        model.prior.copy_(prior)
    model.law = law.to(decoder.matrix.dtype)
    return model


def _started(law: NormalMixture, components: int, seed: int) -> NormalMixture:
    """Components about each class's mean, by draws of its own normal; narrower than it."""
    rng = stream(seed, "deconvolution")
    k, _, dim = law.means.shape
    draws = torch.randn((k, components, dim), generator=rng, dtype=torch.float64)
    means = law.means + APART * (law.factors @ draws[..., None]).squeeze(-1)
    weights = torch.full((k, components), 1.0 / components, dtype=torch.float64)
    return NormalMixture(weights, means, law.factors.expand(-1, components, -1, -1).clone())


def _improved(
    z: Tensor, log_k: Tensor, prior: Tensor, law: NormalMixture, added: Tensor
) -> tuple[Tensor, NormalMixture]:
    """One round: every report is shared out among classes and components, then these are refit."""
    (k, c), dim = law.weights.shape, z.shape[1]
    weights = (prior[:, None] * law.weights).clamp_min(1e-300).flatten()
    means, factors = law.means.flatten(0, 1), law.factors.flatten(0, 1)
    covariances = factors @ factors.mT
    total = covariances + added
    scores = log_components(z, weights, means, torch.linalg.cholesky(total))
    scores = scores + log_k.repeat_interleave(c, 1)
    shares = scores.softmax(1)
    mass = shares.sum(0)
    pull = torch.linalg.solve(total, covariances).mT  # V T^-1
    left = covariances - pull @ covariances
    ridge = RIDGE * torch.eye(dim, dtype=z.dtype)
    new_means, new_factors = torch.empty_like(means), torch.empty_like(factors)
    for j in range(k * c):
        if mass[j] < 2 * dim:  # too few to tell a covariance from: it stays as it was
            new_means[j], new_factors[j] = means[j], factors[j]
            continue
        b = means[j] + (z - means[j]) @ pull[j].T
        new_means[j] = shares[:, j] @ b / mass[j]
        away = b - new_means[j]
        covariance = (shares[:, j, None] * away).T @ away / mass[j] + left[j]
        new_factors[j] = torch.linalg.cholesky((covariance + covariance.T) / 2 + ridge)
    by_class = mass.view(k, c)
    weights = by_class / by_class.sum(1, keepdim=True)
    shape = (k, c, dim)
    law = NormalMixture(weights, new_means.view(shape), new_factors.view(*shape, dim))
    return by_class.sum(1) / mass.sum(), law
