"""What reports say about the noise's scale, with maximum likelihood on a grid as the judge."""

import numpy as np
import pytest
import torch
from scipy.stats import ks_2samp, norm, ttest_1samp

import privgan as pg
from privgan.artifact import data
from privgan.artifact.oracles import maximum_likelihood_weights
from privgan.training import scale

SCALES = (0.2, 0.3, 0.4, 0.5, 0.6, 0.8)
LAWS = {
    "lattice": lambda rng, n: rng.integers(-1, 2, n).astype(float),
    "interval": lambda rng, n: rng.uniform(-1.0, 1.0, n),
    "normal": lambda rng, n: rng.normal(size=n),
}


def under_the_likeliest_law(channel, std, training, heldout):
    atoms = torch.linspace(float(training.min()), float(training.max()), 150).double()[:, None]
    mechanism = channel(std)
    density = mechanism.log_density(atoms, training).exp().numpy()
    judged = mechanism.log_density(atoms, heldout).exp().numpy()
    return np.log(maximum_likelihood_weights(density) @ judged)


def oracle(channel, law, true_scale=0.4, n=8000):
    raw = LAWS[law](np.random.default_rng(0), n)[:, None]
    reports = torch.as_tensor(channel(true_scale).privatize(raw, seed=1))
    training, heldout = reports[: n // 2], reports[n // 2 :]
    fitted = [under_the_likeliest_law(channel, s, training, heldout) for s in SCALES]
    return pg.training.largest_allowed_scale(SCALES, np.stack(fitted))


@pytest.mark.parametrize("channel", [pg.Gaussian, pg.Laplace])
@pytest.mark.parametrize("law", ["lattice", "interval"])
def test_the_bound_is_the_scale_when_the_law_has_no_noise_of_its_own(channel, law):
    estimate = oracle(channel, law)
    assert 0.4 <= estimate.upper <= 0.5
    assert estimate.bounded
    assert "at most" in estimate.describe()


def test_a_gaussian_law_hides_the_gaussian_scale():
    estimate = oracle(pg.Gaussian, "normal")
    assert not estimate.bounded
    assert "not identifiable" in estimate.describe()


@pytest.mark.parametrize("channel", [pg.Gaussian, pg.Laplace])
def test_smaller_scales_are_never_excluded_by_the_likelihood(channel):
    """Reports at scale 0.4 are reports of a blurred law at 0.2, to the last digit."""
    ratio = (0.2 / 0.4) ** 2
    rng = np.random.default_rng(0)
    n = 4000
    blur = rng.laplace(scale=0.4, size=n) * (rng.random(n) > ratio)
    if channel is pg.Gaussian:
        blur = rng.normal(scale=np.sqrt(0.4**2 - 0.2**2), size=n)
    twice = channel(0.2).privatize(blur[:, None], seed=0)[:, 0]
    once = channel(0.4).privatize(np.zeros((n, 1)), seed=1)[:, 0]
    assert ks_2samp(twice, once).pvalue > 0.01


def test_a_trained_generator_finds_the_scale_on_the_circle():
    reports = pg.Gaussian(0.3).privatize(data.circle(6000, seed=0), seed=1)
    estimate = pg.training.estimate_scale(
        reports,
        pg.Gaussian,
        (0.2, 0.3, 0.4),
        lambda: pg.MLP(2, 2, hidden=(64, 64)),
        steps=300,
        batch_size=400,
        lr=3e-3,
    )
    assert estimate.upper == 0.3
    assert estimate.score[2] > 5


def test_chance_alone_rejects_nothing_and_a_shift_rejects():
    noise = np.random.default_rng(0).normal(size=(3, 1000))
    assert pg.training.largest_allowed_scale((1, 2, 3), noise).upper == 3.0
    worse = noise - np.array([[0.0], [0.0], [0.5]])
    estimate = pg.training.largest_allowed_scale((1, 2, 3), worse)
    assert estimate.upper == 2.0
    assert estimate.score[2] > estimate.threshold


def test_equal_likelihoods_are_flat():
    estimate = pg.training.largest_allowed_scale((1, 2), np.ones((2, 5)))
    assert estimate.score[1] == 0.0
    assert estimate.upper == 2.0


@pytest.mark.parametrize(
    ("error", "message", "scales", "values"),
    [
        (ValueError, "at least two, ascending", (1.0,), np.zeros((1, 5))),
        (ValueError, "at least two, ascending", (2.0, 1.0), np.zeros((2, 5))),
        (ValueError, r"scales\[0\] must be positive", (0.0, 1.0), np.zeros((2, 5))),
        (ValueError, r"shape \(3, 5\); it is \(2 scales", (1.0, 2.0), np.zeros((3, 5))),
        (ValueError, "not finite at scale 2", (1.0, 2.0), np.array([[0.0, 0], [0, -np.inf]])),
    ],
)
def test_bad_input_is_named(error, message, scales, values):
    with pytest.raises(error, match=message):
        pg.training.largest_allowed_scale(scales, values)


def test_too_few_reports_to_judge_by():
    with pytest.raises(ValueError, match=r"holdout 0\.2 of 5 reports leaves 1 to judge by"):
        pg.training.estimate_scale(torch.zeros(5, 1), pg.Gaussian, (1, 2), lambda: pg.MLP(1, 1))


def test_the_decision_is_a_paired_test_shared_among_the_smaller_scales():
    ll = np.random.default_rng(1).normal(size=(4, 50))
    estimate = pg.training.largest_allowed_scale((1, 2, 3, 4), ll, level=0.03)
    assert estimate.scales == (1.0, 2.0, 3.0, 4.0)
    assert estimate.nll == pytest.approx(-ll.mean(1))
    assert estimate.threshold == pytest.approx(norm.isf(0.03 / 3))
    worst = [max(ttest_1samp(ll[j] - ll[i], 0.0).statistic for j in range(i)) for i in range(1, 4)]
    assert estimate.score == pytest.approx((-np.inf, *worst))
    assert pg.training.largest_allowed_scale((1, 2), ll[:2]).threshold == pytest.approx(
        norm.isf(0.05)
    )


def test_every_scale_is_judged_by_reports_that_trained_none(monkeypatch):
    seen, judged = [], []
    reports = torch.arange(50, dtype=torch.float32)[:, None]

    def fit(generator, rest, loss, **settings):
        seen.append((generator, rest, loss, settings))

    def likelihood(x, heldout, mechanism):
        judged.append((x, heldout, mechanism))
        return torch.zeros(len(heldout))

    monkeypatch.setattr(scale, "fit", fit)
    monkeypatch.setattr(scale, "report_log_likelihood", likelihood)
    estimate = pg.training.estimate_scale(
        reports, pg.Gaussian, (1, 2), lambda: pg.Linear(1, 1), seed=3, steps=7
    )
    assert estimate.upper == 2.0
    kept, rest = judged[0][1].tensor(), seen[0][1].tensor()
    assert (len(kept), len(rest)) == (10, 40)
    assert torch.equal(torch.cat([kept, rest]).sort(0).values, reports)
    assert not torch.equal(kept, kept.sort(0).values)  # drawn, not the first
    assert all(torch.equal(own[1].tensor(), kept) for own in judged)
    assert all(torch.equal(own[1].tensor(), rest) for own in seen)
    assert seen[0][0] is not seen[1][0]
    assert [own[2].mechanism for own in seen] == [pg.Gaussian(1.0), pg.Gaussian(2.0)]
    assert [own[2] for own in judged] == [pg.Gaussian(1.0), pg.Gaussian(2.0)]
    assert seen[0][3] == {"holdout": 0.0, "seed": 3, "steps": 7}
    x = judged[0][0]
    assert x.shape == (scale.POINTS, 1)
    assert torch.equal(x, seen[0][0].sample(scale.POINTS, seed=3).double())
