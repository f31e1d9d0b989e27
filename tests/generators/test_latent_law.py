"""A mixture as the law of a generator's latents: moments of its draws, and what they take."""

import torch

from privgan.generators.latents import NormalMixture
from privgan.streams import stream


def mixture(classes, components, dim):
    rng = torch.Generator().manual_seed(0)
    factors = torch.randn(classes, components, dim, dim, generator=rng).tril() / dim**0.5
    factors.diagonal(dim1=2, dim2=3).abs_().add_(0.5)
    means = 3 * torch.randn(classes, components, dim, generator=rng)
    weights = torch.rand(classes, components, generator=rng).add_(0.2)
    return NormalMixture(weights / weights.sum(1, keepdim=True), means, factors)


def test_draws_have_the_moments_of_their_class():
    law = mixture(2, 3, 4)
    label = torch.tensor([0, 1]).repeat(100_000)
    z = law.draw(torch.randn(200_000, 4, generator=stream(0, "a")), stream(0, "b"), label)
    for k in range(2):
        mean = law.weights[k] @ law.means[k]
        away = law.means[k] - mean
        spread = law.factors[k] @ law.factors[k].mT + away[:, :, None] * away[:, None]
        spread = torch.einsum("c,cij->ij", law.weights[k], spread)
        found = z[label == k]
        assert torch.allclose(found.mean(0), mean, atol=0.05)
        assert torch.allclose(found.T.cov(), spread, atol=0.02 * spread.diagonal().max())


def test_a_draw_does_not_depend_on_the_others():
    law = mixture(3, 2, 5)
    label = torch.arange(30) % 3
    normals = torch.randn(30, 5, generator=stream(0, "a"))
    whole = law.draw(normals, stream(0, "b"), label)
    few = law.draw(normals[:7], stream(0, "b"), label[:7])
    assert torch.allclose(whole[:7], few, atol=1e-6)


def test_many_latents_take_little_more_than_their_own_memory():
    law, n = mixture(10, 2, 100), 200_000  # a factor for each would take 8 GB
    normals, label = torch.randn(n, 100), torch.arange(n) % 10
    with torch.profiler.profile(profile_memory=True) as seen:
        law.draw(normals, stream(0, "b"), label)
    most = max(event.self_cpu_memory_usage for event in seen.events())
    assert most < 3 * normals.numel() * 4
