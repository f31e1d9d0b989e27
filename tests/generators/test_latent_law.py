"""A mixture as the law of a generator's latents: moments of its draws, and what they take."""

import math

import pytest
import torch

from privgan.generators.latents import NormalMixture
from privgan.streams import stream
from privgan.training.latent_law import affordable, candidates, fit_mixture, fit_mixtures, weigh


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


def coded(classes, draws=32):
    """Records of one latent: near -2 in class 0, near 1 or 3 in class 1. Reports with noise of std
    1 and a class that is true in 19 of 20; codes of a rough encoder; and their scores."""
    rng = torch.Generator().manual_seed(5)
    n = 4000
    truth = (torch.rand(n, generator=rng) < 0.5).long()
    place = torch.where(torch.rand(n, generator=rng) < 0.5, 1.0, 3.0)
    x = torch.where(truth == 1, place, -2.0) + 0.3 * torch.randn(n, generator=rng)
    y = x + torch.randn(n, generator=rng)
    told = torch.where(torch.rand(n, generator=rng) < 0.95, truth, 1 - truth)
    u = y[:, None] + 0.5 + 1.5 * torch.randn(n, draws, generator=rng)  # biased, and too wide
    label = (torch.rand(n, draws, generator=rng) < 0.5).long()  # by guess
    log_q = -0.5 * ((u - y[:, None] - 0.5) / 1.5) ** 2
    score = -0.5 * (y[:, None] - u) ** 2 - log_q
    if classes == 2:
        score = score + torch.where(label == told[:, None], 0.95, 0.05).log()
    return u[..., None], label if classes == 2 else torch.zeros_like(label), score


def test_weights_find_the_law_behind_reports_from_a_rough_encoder():
    u, label, score = coded(2)
    plain = fit_mixture(u[:, 0], label[:, 0], classes=2, components=2, seed=0)
    law = fit_mixtures(u, label, score, 2, [2], 0)[-1]
    for k, mean, std in ((0, -2.0, 0.3), (1, 2.0, math.hypot(1.0, 0.3))):
        z = law.draw(torch.randn(50_000, 1), stream(0, "z"), torch.full((50_000,), k))
        rough = plain.draw(torch.randn(50_000, 1), stream(0, "z"), torch.full((50_000,), k))
        assert abs(z.mean().item() - mean) < 0.25 < abs(rough.mean().item() - mean)
        assert abs(z.std().item() - std) < 0.5 < abs(rough.std().item() - std)


def test_without_classes_every_size_of_law_is_moved():
    u, label, score = coded(1)
    laws = fit_mixtures(u, label, score, 1, candidates(3), 0)
    assert [law.weights.shape for law in laws] == [(1, 1), (1, 3)]
    for law in laws:
        z = law.draw(torch.randn(50_000, 1), stream(0, "z"), torch.zeros(50_000, dtype=torch.long))
        assert abs(z.mean().item()) < 0.15  # that of the codes is 0.5 too high
        assert abs(z.std().item() - math.sqrt(4 + 0.5 + 0.09)) < 0.25


def test_a_component_that_few_reports_belong_to_is_given_up():
    u, label, score = coded(2)
    far = NormalMixture(
        torch.full((2, 2), 0.5),
        torch.tensor([[[-2.0], [60.0]], [[2.0], [60.0]]]),
        torch.ones(2, 2, 1, 1),
    )
    found = weigh(far, u, label, score, rounds=2)
    assert found.weights.tolist() == [[1.0, 0.0], [1.0, 0.0]]
    assert found.means[:, 0, 0].tolist() == pytest.approx([-2.0, 2.0], abs=0.4)
    assert found.factors.isfinite().all()


def test_a_class_that_hardly_any_report_belongs_to_stays_as_it_was():
    u, label, score = coded(2)
    law = fit_mixture(u[:, 0], label[:, 0], classes=2, components=2, seed=0)
    found = weigh(law, u, torch.zeros_like(label), score)
    assert torch.equal(found.means[1], law.means[1])
    assert not torch.equal(found.means[0], law.means[0])


def test_a_report_that_no_draw_explains_counts_for_nothing():
    u, label, score = coded(2)
    law = fit_mixture(u[:, 0], label[:, 0], classes=2, components=2, seed=0)
    score[:100] = -math.inf
    found, expected = (weigh(law, u[k:], label[k:], score[k:]) for k in (0, 100))
    assert torch.allclose(found.weights, expected.weights, atol=1e-3)  # the ridge differs
    assert torch.allclose(found.means, expected.means, atol=1e-3)


def test_no_more_is_drawn_than_the_training_visited_or_than_can_be_weighed_in_seconds():
    assert affordable(0, 1000, 2, [1]) == 1
    assert affordable(7, 1000, 2, [1]) == 7
    assert affordable(1000, 20_000, 12, candidates(10)) == 32
    assert affordable(1000, 20_000, 100, candidates(30)) == 1
