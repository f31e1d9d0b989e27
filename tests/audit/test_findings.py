"""Every mechanism passes its audit, and every mutant fails the checks that are for it."""

import math

import numpy as np
import pytest
import torch
from scipy.stats import norm

import privgan as pg
from privgan.audit import audit
from privgan.audit.attack import certified, epsilon_figure, mu_figure
from privgan.audit.goodness import count_p_value, line_p_value, survives_extreme_uniforms
from privgan.mechanisms import gaussian_delta

DELTA = 1e-5
SQUARE = pg.Box(0.0, 1.0, dim=2)
DISC = pg.Ball(1.0, dim=2)


def failed(audit):
    return {finding.check for finding in audit.findings if not finding.passed}


# Honest mechanisms


def honest(epsilon):
    line, category = pg.Box(-1.0, 3.0, dim=1), pg.RandomizedResponse.calibrate
    normal = pg.Gaussian.calibrate(epsilon=epsilon / 2, delta=DELTA, bounds=DISC)
    half = {"epsilon": epsilon / 2}
    yield pg.Laplace.calibrate(epsilon=epsilon, bounds=SQUARE), 0.0
    yield pg.Laplace.calibrate(epsilon=epsilon, bounds=line), 0.0
    yield pg.EuclideanLaplace.calibrate(epsilon=epsilon, bounds=DISC), 0.0
    yield pg.Gaussian.calibrate(epsilon=epsilon, delta=DELTA, bounds=DISC), DELTA
    yield pg.Piecewise.calibrate(epsilon=epsilon, bounds=line), 0.0
    yield pg.SquareWave.calibrate(epsilon=epsilon, bounds=SQUARE), 0.0
    yield category(epsilon=epsilon, k=5), 0.0
    yield pg.UnaryEncoding.calibrate(epsilon=epsilon, k=4), 0.0
    yield pg.UnaryEncoding.calibrate(epsilon=epsilon, k=4, symmetric=True), 0.0
    yield pg.LinearMap.dct(4, 1, pg.Laplace.calibrate(epsilon=epsilon, bounds=line)), 0.0
    numbers = slice(0, 2), pg.Laplace.calibrate(bounds=SQUARE, **half)
    yield pg.Product(numbers, (slice(2, 5), category(k=3, **half))), 0.0
    yield pg.Product((slice(0, 2), normal), (slice(2, 5), category(k=3, **half))), DELTA


def mixture_delta(normal, response, epsilon):
    """Of numbers and a category in one record, both of which are another in another record.

    Summed over the categories that may be reported, each of which shifts the epsilon that is left
    for the numbers by its own log likelihood ratio: of the record's own category half of epsilon,
    of the other record's as much less, of a third none.
    """
    (keep, lie), mu = response.rates, normal.budget().mu
    half = response.epsilon()
    third = (response.k - 2) * lie * gaussian_delta(epsilon, mu)
    own, other = gaussian_delta(epsilon - half, mu), gaussian_delta(epsilon + half, mu)
    return keep * own + lie * other + third


@pytest.mark.parametrize("epsilon", [0.5, 1.0, 2.0, 4.0, 8.0])
def test_every_mechanism_passes_its_own_audit(epsilon):
    for mechanism, delta in honest(epsilon):
        audit = pg.audit.audit(mechanism, epsilon, delta, seed=1)
        assert audit.passed, audit.describe()
        # An audit that proved nothing would pass as well.
        checks = {finding.check: finding.found for finding in audit.findings}
        if isinstance(mechanism, pg.Product) and delta:  # its budget is sound, and not tight
            expected = mixture_delta(*(part for _, part in mechanism.blocks), epsilon)
            assert checks["hockey stick"] == pytest.approx(expected, rel=1e-6)
            continue
        tight = checks["hockey stick"] / delta if delta else checks["oscillation"] / epsilon
        assert tight == pytest.approx(1.0, rel=1e-6), audit.describe()
        assert max(checks["likelihood ratio"], checks.get("mu", 0.0)) > 0.35 * epsilon


def test_the_oscillation_is_exact_for_noise_along_coordinates():
    bounds = pg.Box((0.0, -2.0, 1.0), (1.0, 2.0, 1.5))
    audit = pg.audit.audit(pg.Laplace(0.7, bounds=bounds), 10.0, reports=100)
    assert audit["oscillation"].found == pytest.approx(5.5 / 0.7, rel=1e-12)


@pytest.mark.parametrize("epsilon", [0.5, 1.0, 8.0])
def test_the_hockey_stick_is_the_closed_form(epsilon):
    audit = pg.audit.audit(pg.Gaussian(1.3, bounds=DISC), epsilon, 0.5, reports=100)
    expected = gaussian_delta(epsilon, 2.0 / 1.3)
    assert audit["hockey stick"].found == pytest.approx(expected, rel=1e-6)


def test_the_classical_formula_is_refuted_at_large_epsilon():
    epsilon, delta = 8.0, 1e-3
    sigma = 2.0 * math.sqrt(2 * math.log(1.25 / delta)) / epsilon
    audit = pg.audit.audit(pg.Gaussian(sigma, bounds=DISC), epsilon, delta, reports=100)
    assert failed(audit) == {"hockey stick"}
    assert audit["hockey stick"].found == pytest.approx(1.3e-3, rel=0.05)


def test_the_seed_repeats_an_audit():
    mechanism = pg.Laplace.calibrate(epsilon=1.0, bounds=SQUARE)
    first, again, other = (audit(mechanism, 1.0, reports=1000, seed=s) for s in (3, 3, 4))
    assert first.findings == again.findings
    assert first.findings != other.findings


def test_an_audit_says_that_it_proves_nothing():
    mechanism = pg.Laplace.calibrate(epsilon=1.0, bounds=SQUARE)
    words = audit(mechanism, 1.0, reports=1000).describe()
    assert "can falsify, never certify" in words
    assert "passed  oscillation" in words
    words = audit(mechanism, 0.9, reports=1000).describe()
    assert "FAILED  oscillation" in words
    assert "does not hold" in words


# Mutants


class HalvedLaplace(pg.Laplace):
    def _noise(self, shape, dtype, generator):
        return super()._noise(shape, dtype, generator) / 2


class HalvedGaussian(pg.Gaussian):
    def _noise(self, shape, dtype, generator):
        return super()._noise(shape, dtype, generator) / 2


@pytest.mark.parametrize("epsilon", [0.5, 2.0, 8.0])
def test_noise_halved_behind_an_honest_density(epsilon):
    mutant = HalvedLaplace.calibrate(epsilon=epsilon, bounds=SQUARE)
    assert failed(audit(mutant, epsilon)) == {"goodness of fit", "likelihood ratio"}
    mutant = HalvedGaussian.calibrate(epsilon=epsilon, delta=DELTA, bounds=DISC)
    assert {"goodness of fit", "mu"} <= failed(audit(mutant, epsilon, DELTA))


@pytest.mark.parametrize("epsilon", [0.5, 2.0, 8.0])
def test_noise_halved_openly(epsilon):
    scale = pg.Laplace.calibrate(epsilon=epsilon, bounds=SQUARE).scale / 2
    mutant = pg.Laplace(scale, bounds=SQUARE)
    assert failed(audit(mutant, epsilon)) == {"oscillation", "likelihood ratio"}
    sigma = pg.Gaussian.calibrate(epsilon=epsilon, delta=DELTA, bounds=DISC).sigma / 2
    mutant = pg.Gaussian(sigma, bounds=DISC)
    assert {"hockey stick", "mu"} <= failed(audit(mutant, epsilon, DELTA))


@pytest.mark.parametrize("epsilon", [0.5, 2.0, 8.0])
def test_the_radius_of_a_ball_taken_for_its_diameter(epsilon):
    radius = DISC.radius
    scale = pg.EuclideanLaplace.calibrate(epsilon=epsilon, sensitivity=radius).scale
    audit = pg.audit.audit(pg.EuclideanLaplace(scale, bounds=DISC), epsilon)
    assert failed(audit) == {"oscillation", "likelihood ratio"}
    assert audit["oscillation"].found == pytest.approx(2 * epsilon)
    sigma = pg.Gaussian.calibrate(epsilon=epsilon, delta=DELTA, sensitivity=radius).sigma
    audit = pg.audit.audit(pg.Gaussian(sigma, bounds=DISC), epsilon, DELTA)
    assert {"hockey stick", "mu"} <= failed(audit)


@pytest.mark.parametrize("epsilon", [0.5, 2.0, 8.0])
def test_a_label_left_out_of_the_budget(epsilon):
    """Two numbers and a label, each in [0, 1], noised as if the numbers were the record."""
    scale = pg.Laplace.calibrate(epsilon=epsilon, bounds=SQUARE).scale
    audit = pg.audit.audit(pg.Laplace(scale, bounds=pg.Box(0.0, 1.0, dim=3)), epsilon)
    assert "oscillation" in failed(audit)
    assert audit["oscillation"].found == pytest.approx(1.5 * epsilon)


@pytest.mark.parametrize("epsilon", [0.5, 2.0, 8.0])
def test_a_category_left_out_of_the_budget(epsilon):
    numbers = pg.Laplace.calibrate(epsilon=epsilon, bounds=SQUARE)
    label = pg.RandomizedResponse.calibrate(epsilon=epsilon, k=10)
    audit = pg.audit.audit(pg.Product((slice(0, 2), numbers), (slice(2, 12), label)), epsilon)
    assert failed(audit) == {"oscillation", "likelihood ratio"}
    assert audit["oscillation"].found == pytest.approx(2 * epsilon)


class KeptBit(pg.RandomizedResponse):
    """Tells the truth more often than its density says."""

    def _draw(self, x, generator):
        return torch.where(
            torch.rand(len(x), 1, generator=generator) < 0.1, x, super()._draw(x, generator)
        )


def test_a_category_told_too_often():
    audit = pg.audit.audit(KeptBit.calibrate(epsilon=1.0, k=4), 1.0)
    assert {"goodness of fit", "likelihood ratio"} == failed(audit)


class AlikeRows(pg.Laplace):
    """Seeds anew for each row, with the same seed."""

    def _noise(self, shape, dtype, generator):
        return super()._noise((1, shape[1]), dtype, generator).expand(shape)


class OppositeRows(pg.Laplace):
    """Every second row undoes the noise of the one before it."""

    def _noise(self, shape, dtype, generator):
        noise = super()._noise(shape, dtype, generator)
        n = len(noise) // 2 * 2
        noise[1:n:2] = -noise[0:n:2]
        return noise


class AlikeColumns(pg.Laplace):
    def _noise(self, shape, dtype, generator):
        return super()._noise((shape[0], 1), dtype, generator).expand(shape)


@pytest.mark.parametrize("mutation", [AlikeRows, OppositeRows, AlikeColumns])
def test_noise_that_is_not_independent(mutation):
    audit = pg.audit.audit(mutation.calibrate(epsilon=1.0, bounds=SQUARE), 1.0)
    assert "goodness of fit" in failed(audit)


class InverseLaplace(pg.Laplace):
    """Inverts the distribution function at a uniform draw, which may be exactly zero."""

    def _noise(self, shape, dtype, generator):
        u = torch.rand(shape, dtype=dtype, generator=generator) - 0.5
        return -self.scale * u.sign() * torch.log1p(-2.0 * u.abs())


def test_the_infinity_of_a_zero_uniform():
    audit = pg.audit.audit(InverseLaplace.calibrate(epsilon=1.0, bounds=SQUARE), 1.0)
    assert failed(audit) == {"extreme draws"}


def test_an_infinity_that_does_come():
    class Infinite(pg.Laplace):
        def _noise(self, shape, dtype, generator):
            noise = super()._noise(shape, dtype, generator)
            noise[::100] = math.inf
            return noise

    audit = pg.audit.audit(Infinite.calibrate(epsilon=1.0, bounds=SQUARE), 1.0)
    assert {"extreme draws", "goodness of fit"} <= failed(audit)


# The statistics themselves


def test_certified_bounds_hold_as_often_as_they_say():
    """Two coins, whose log-likelihood ratio is all there is: 1 - alpha of bounds are true."""
    p, q, alpha = 0.6, 0.3, 0.1
    rng = np.random.default_rng(0)
    bounds = [
        certified(
            ((rng.random(400) < p) * 1.0, (rng.random(400) < q) * 1.0), epsilon_figure(0.0), alpha
        )
        for _ in range(300)
    ]
    truth = math.log(p / q)
    assert np.mean(np.array(bounds) <= truth) >= 1 - alpha
    assert np.median(bounds) > 0.5 * truth


def test_exact_rates_by_hand():
    """Ten of ten against none of ten in the half that counts."""
    scores = np.ones(20), np.zeros(20)
    low, high = 0.005**0.1, 1 - 0.005**0.1  # Clopper and Pearson's bounds at the ends
    found = certified(scores, epsilon_figure(0.0), 0.01)
    assert found == pytest.approx(math.log(low / high))
    assert certified(scores, mu_figure, 0.01) == pytest.approx(norm.ppf(low) - norm.ppf(high))


def test_nothing_is_proved_from_equal_scores_or_too_large_a_delta():
    same = np.zeros(100)
    assert certified((same, same), epsilon_figure(0.0), 0.01) <= 0.0
    assert certified((same + 1, same), epsilon_figure(0.999), 0.01) == -math.inf


@pytest.mark.parametrize("dim", [1, 2, 5])
@pytest.mark.parametrize("mechanism", [pg.Laplace(0.3), pg.Gaussian(2.0), pg.EuclideanLaplace(1.0)])
def test_p_values_of_an_honest_sampler_are_not_small(mechanism, dim):
    x = torch.full((dim,), 0.25).double()
    p = [
        line_p_value(mechanism, x, mechanism.privatize(x.expand(900, -1), seed=seed))
        for seed in range(6)
    ]
    assert min(p) > 1e-3
    assert max(p) > 0.1


class Coin(pg.Laplace):
    """Reports 0 with chance 1/4, else 1, whatever the record: a channel with few reports."""

    def log_density(self, x, y):
        return torch.where(y[:, 0] == 1.0, 0.75, 0.25).log().expand(len(x), -1)


def test_counts_are_held_against_their_chances():
    rng = np.random.default_rng(0)
    x, coin = torch.zeros(1).double(), Coin(1.0)

    def p_value(flips):
        return count_p_value(coin, x, torch.as_tensor(flips).double()[:, None])

    assert p_value(rng.random(4000) < 0.75) > 1e-3
    assert p_value(rng.random(4000) < 0.8) < 1e-6
    assert p_value(np.repeat(rng.random(2000) < 0.75, 2)) < 1e-6
    assert p_value(np.ones(4000)) < 1e-6


def test_the_uniform_zero_is_put_there_and_taken_away():
    x = torch.zeros(2).double()
    assert survives_extreme_uniforms(pg.Laplace(1.0), x)
    assert not survives_extreme_uniforms(InverseLaplace(1.0), x)
    assert torch.rand(100).max() > 0.5


# Bad input


@pytest.mark.parametrize(
    ("error", "message", "change"),
    [
        (TypeError, "mechanism must be a Mechanism", {"mechanism": 0.3}),
        (ValueError, "has no bounds, so any two records", {"mechanism": pg.Laplace(1.0)}),
        (ValueError, "epsilon must be positive", {"epsilon": 0.0}),
        (ValueError, "delta is a fraction", {"delta": 1.0}),
        (ValueError, "delta is a fraction", {"delta": -0.1}),
        (ValueError, "reports must be at least 1", {"reports": 0}),
    ],
)
def test_bad_input_is_named(error, message, change):
    honest = {"mechanism": pg.Laplace(1.0, bounds=SQUARE), "epsilon": 1.0}
    with pytest.raises(error, match=message):
        audit(**(honest | change))
