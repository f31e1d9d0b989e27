"""Every closed form against a computation that knows nothing of its derivation."""

import math

import numpy as np
import oracles
import ot
import pytest
from scipy.optimize import minimize


def entropic_loss(parameters, s, reg, k):
    """E|X - Y|^2 + reg I(X; Y) for Y ~ N(0, diag s), X = L u, u = M Y + V e: any Gaussian coupling
    of Y with any law on k directions; L (d, k), M (k, d), V (k, k) lower triangular.
    """
    d = len(s)
    left, channel, rest = np.split(parameters, [d * k, 2 * d * k])
    left, channel = left.reshape(d, k), channel.reshape(k, d)
    noise = np.zeros((k, k))
    noise[np.tril_indices(k)] = rest
    within = noise @ noise.T + 1e-12 * np.eye(k)
    u = channel @ np.diag(s) @ channel.T + within
    miss = np.diag(s) - 2 * left @ channel @ np.diag(s) + left @ u @ left.T
    information = (np.linalg.slogdet(u)[1] - np.linalg.slogdet(within)[1]) / 2
    return np.trace(miss) + reg * information


@pytest.mark.parametrize("k", [3, 2, 1])
@pytest.mark.parametrize("reg", [0.3, 1.1, 2.6, 5.0])
def test_the_linear_gaussian_minimiser_is_the_least_over_all_gaussian_couplings(reg, k):
    s = np.array([1.0, 3.0, 1.7])  # unsorted; the directions collapse at reg 2, 6 and 3.4
    rng, best = np.random.default_rng(0), None
    for _ in range(4):
        start = rng.normal(size=6 * k + k * (k + 1) // 2) / 2
        found = minimize(entropic_loss, start, (s, reg, k), method="BFGS", options={"gtol": 1e-7})
        best = found if best is None or found.fun < best.fun else best
    left, channel, rest = np.split(best.x, [3 * k, 6 * k])
    noise = np.zeros((k, k))
    noise[np.tril_indices(k)] = rest
    u = channel.reshape(k, 3) @ np.diag(s) @ channel.reshape(k, 3).T + noise @ noise.T
    covariance = left.reshape(3, k) @ u @ left.reshape(3, k).T
    variances = oracles.linear_gaussian_minimiser(s, reg, k)
    assert np.allclose(covariance, np.diag(variances), atol=2e-3)
    miss = s.sum() - variances.sum()
    information = oracles.linear_gaussian_information(s, reg, k)
    assert math.isclose(best.fun, miss + reg * information, abs_tol=1e-5)


def test_the_matched_minimiser_is_the_raw_covariance():
    raw, sigma = np.array([2.0, 0.5, 0.0]), 0.7
    found = oracles.linear_gaussian_minimiser(raw + sigma**2, 2 * sigma**2)
    assert np.allclose(found, raw, atol=1e-15)


def test_the_information_is_that_of_the_gaussian_channel_when_matched():
    raw, sigma = np.array([2.0, 0.5, 0.0]), 0.7
    capacity = 0.5 * np.log(1 + raw / sigma**2).sum()
    found = oracles.linear_gaussian_information(raw + sigma**2, 2 * sigma**2)
    assert math.isclose(found, capacity, rel_tol=1e-12)


def test_w2_between_gaussians_is_the_cost_of_their_monge_map():
    rng = np.random.default_rng(1)
    roots = rng.normal(size=(2, 3, 3))
    a, b = roots @ roots.transpose(0, 2, 1)
    values, vectors = np.linalg.eigh(a)
    half, inverse = ((vectors * values**p) @ vectors.T for p in (0.5, -0.5))
    inner = np.linalg.eigh(half @ b @ half)
    monge = inverse @ (inner[1] * np.sqrt(inner[0])) @ inner[1].T @ inverse
    assert np.allclose(monge @ a @ monge, b)  # it pushes one to the other, and is a gradient
    shift = np.eye(3) - monge
    expected = np.sqrt(np.trace(shift @ a @ shift.T))
    assert math.isclose(oracles.gaussian_w2(a, b), expected, rel_tol=1e-9)
    zero = np.zeros(3)
    assert math.isclose(expected, ot.gaussian.bures_wasserstein_distance(zero, zero, a, b))
    assert oracles.gaussian_w2(a, a) < 1e-6


def test_w2_to_a_collapsed_gaussian():
    assert math.isclose(
        oracles.gaussian_w2(np.diag([4.0, 0.0]), np.diag([1.0, 9.0])), math.sqrt(10)
    )


def test_the_likeliest_law_solves_its_own_score_equations():
    """At the likeliest p, the mean of k_ij / (p k)_j is 1 where p > 0, and at most 1 elsewhere."""
    rng = np.random.default_rng(2)
    channel, frequencies = rng.random((4, 9)), rng.random(9)
    channel[3] /= 5  # unlikely: its weight goes to zero
    channel /= channel.sum(1, keepdims=True)
    p = oracles.maximum_likelihood(channel, frequencies / frequencies.sum())
    score = channel @ (frequencies / frequencies.sum() / (p @ channel))
    assert np.all(score <= 1 + 1e-6)
    assert np.allclose(score[p > 1e-6], 1, atol=1e-6)
