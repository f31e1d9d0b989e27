"""The hockey stick between two records, against sums and integrals done another way."""

import itertools
import math

import numpy as np
import pytest
import torch
from scipy.integrate import quad

import privgan as pg
from privgan.audit.experiments import experiments, together
from privgan.audit.extremes import extreme_records
from privgan.audit.findings import audit
from privgan.mechanisms import gaussian_delta

LINE = pg.Box(0.0, 1.0, dim=1)


def told(mechanism, epsilon):
    first, second = extreme_records(mechanism)[:2]
    return together(experiments(mechanism, first, second, epsilon))


def laplace_delta(epsilon, t):
    """One coordinate, records t scales apart."""
    return -math.expm1((epsilon - t) / 2)


def discrete(mechanism, epsilon, reports):
    """By every report: sum (p - e^epsilon q)_+."""
    first, second = extreme_records(mechanism)[:2]
    y = torch.tensor(reports, dtype=torch.float64)
    log = mechanism.log_density(torch.stack([first, second]), y)
    return float((log[0].exp() - math.exp(epsilon) * log[1].exp()).clamp(min=0).sum())


def test_a_laplace_promise_with_a_delta_that_holds_is_not_refuted():
    mechanism = pg.Laplace(1.0, bounds=LINE)
    assert told(mechanism, 0.9).delta(0.9) == pytest.approx(-math.expm1(-0.05), rel=1e-12)
    assert audit(mechanism, 0.9, 0.06, reports=2000).passed
    found = audit(mechanism, 0.9, -math.expm1(-0.05) / 1.2, reports=2000)["hockey stick"]
    assert not found.passed


@pytest.mark.parametrize("epsilon", [0.3, 1.0, 2.5])
def test_laplace_noise_on_several_coordinates(epsilon):
    """Of the most telling of two coordinates the other one is integrated over."""
    t = 1.5
    found = told(pg.Laplace(1 / t, bounds=pg.Box(0.0, 1.0, dim=2)), epsilon).delta(epsilon)

    def left(loss):
        over = epsilon - loss
        if over >= t:
            return 0.0
        return laplace_delta(over, t) if over > -t else 1 - math.exp(over)

    def middle(loss):  # its density between the atoms is exp((loss - t) / 2) / 4
        return math.exp((loss - t) / 2) / 4 * left(loss)

    kink = [epsilon - t] if -t < epsilon - t < t else None
    exact = 0.5 * left(t) + 0.5 * math.exp(-t) * left(-t)
    exact += quad(middle, -t, t, points=kink, epsabs=1e-12)[0]
    assert found <= exact * (1 + 1e-9)
    assert found == pytest.approx(exact, rel=5e-3)


@pytest.mark.parametrize(("epsilon", "t"), [(0.5, 1.0), (2.0, 3.0), (0.1, 4.0)])
def test_euclidean_laplace_noise_in_three_dimensions(epsilon, t):
    """By integrals over a bipolar pair of distances: dy = 2 pi r s dr ds / t."""
    mechanism = pg.EuclideanLaplace(2 / t, bounds=pg.Ball(1.0, dim=3))
    found = told(mechanism, epsilon).delta(epsilon)

    def over(r):  # the other distance runs from r + epsilon to r + t
        low, high = max(r + epsilon, abs(t - r)), r + t
        first = math.exp(-r) * (high**2 - low**2) / 2
        second = math.exp(epsilon) * (math.exp(-low) * (low + 1) - math.exp(-high) * (high + 1))
        return r * max(first - second, 0.0)

    parts = [(0.0, (t - epsilon) / 2), ((t - epsilon) / 2, 60.0)]
    exact = sum(quad(over, *ends, epsabs=1e-12, limit=200)[0] for ends in parts) / (4 * t)
    assert found <= exact * (1 + 1e-9)
    assert found == pytest.approx(exact, rel=5e-3)


@pytest.mark.parametrize("epsilon", [0.01, 0.7, 1.9])
@pytest.mark.parametrize("k", [2, 4])
def test_channels_on_categories(epsilon, k):
    response = pg.RandomizedResponse.calibrate(epsilon=2.0, k=k)
    exact = discrete(response, epsilon, np.eye(k))
    assert told(response, epsilon).delta(epsilon) == pytest.approx(exact, rel=1e-9)
    for symmetric in (False, True):
        bits = pg.UnaryEncoding.calibrate(epsilon=2.0, k=k, symmetric=symmetric)
        exact = discrete(bits, epsilon, list(itertools.product([0.0, 1.0], repeat=k)))
        assert told(bits, epsilon).delta(epsilon) == pytest.approx(exact, rel=1e-9)


@pytest.mark.parametrize("channel", [pg.Piecewise, pg.SquareWave])
@pytest.mark.parametrize("epsilon", [0.2, 1.0])
def test_bands(channel, epsilon):
    mechanism = channel(1.5, bounds=LINE)
    first, second = extreme_records(mechanism)[:2]
    ends = (mechanism.reach + 1) / 2
    count = 400_000
    y = torch.linspace(0.5 - mechanism.reach / 2, ends, count + 1).double()
    y = (y[1:] + y[:-1])[:, None] / 2
    density = mechanism.log_density(torch.stack([first, second]), y).exp()
    exact = float((density[0] - math.exp(epsilon) * density[1]).clamp(min=0).mean())
    exact *= mechanism.reach
    assert told(mechanism, epsilon).delta(epsilon) == pytest.approx(exact, rel=1e-4)


def test_a_pure_part_beside_gaussian_noise():
    """Each category shifts the epsilon that is left for the noise."""
    response = pg.RandomizedResponse.calibrate(epsilon=1.0, k=2)
    keep, mu, epsilon = response.keep, 0.8, 1.7
    exact = keep * gaussian_delta(epsilon - 1.0, mu) + (1 - keep) * gaussian_delta(epsilon + 1, mu)
    assert told(response, epsilon).delta(epsilon, mu) == pytest.approx(exact, rel=1e-9)
    noise = pg.Gaussian(1 / mu, bounds=LINE)
    both = pg.Product((slice(0, 1), noise), (slice(1, 3), response))
    found = audit(both, epsilon, 0.9, reports=100)["hockey stick"].found
    assert found == pytest.approx(exact, rel=1e-6)
    assert not audit(both, epsilon, exact / 1.2, reports=100)["hockey stick"].passed
    assert audit(both, epsilon, exact * 1.01, reports=2000).passed


def test_a_product_of_pure_parts():
    first = pg.RandomizedResponse.calibrate(epsilon=1.0, k=3)
    second = pg.RandomizedResponse.calibrate(epsilon=0.6, k=2)
    both = pg.Product((slice(0, 3), first), (slice(3, 5), second))
    pairs = [[*a, *b] for a in np.eye(3) for b in np.eye(2)]
    exact = discrete(both, 0.8, pairs)
    found = audit(both, 0.8, 0.9, reports=100)["hockey stick"].found
    assert found == pytest.approx(exact, rel=1e-9)
