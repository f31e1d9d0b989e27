"""Every closed form against a computation that knows nothing of its derivation."""

import math
import tracemalloc

import mpmath
import numpy as np
import ot
import pytest
from scipy.linalg import sqrtm
from scipy.optimize import linear_sum_assignment, minimize
from scipy.special import logsumexp
from scipy.stats import binomtest, multivariate_normal, norm

from privgan.artifact import oracles


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


def covariance(d, seed):
    root = np.random.default_rng(seed).normal(size=(d, d))
    return root @ root.T / d + 0.2 * np.eye(d)


def grid(variance, points=401, width=7.0):
    x = np.sqrt(variance) * np.linspace(-width, width, points)
    weights = norm.pdf(x, scale=np.sqrt(variance))
    return x, weights / weights.sum()


@pytest.mark.parametrize(("a", "b", "reg"), [(1.0, 2.0, 2.0), (0.5, 1.5, 0.7), (1.0, 1.0, 5.0)])
def test_gaussian_value_is_that_of_a_fine_grid(a, b, reg):
    (x, p), (y, q) = grid(a, 301), grid(b, 301)
    cost = (x[:, None] - y[None, :]) ** 2
    f, g = oracles.log_domain_sinkhorn(cost, reg, p, q, tol=1e-10)
    value = oracles.gaussian_entropic_value(np.array([[a]]), np.array([[b]]), reg)
    assert p @ f + q @ g == pytest.approx(value, abs=1e-8)


@pytest.mark.parametrize("reg", [0.1, 1.0, 10.0])
def test_gaussian_value_is_the_best_cross_covariance(reg):
    a, b = covariance(3, 1), covariance(3, 2)
    root_a, root_b = np.real(sqrtm(a)), np.real(sqrtm(b))

    def value(flat):
        m = flat.reshape(3, 3)  # any matrix; divided below, its singular values are below one
        m = m @ np.linalg.inv(np.real(sqrtm(np.eye(3) + m.T @ m)))
        information = -np.linalg.slogdet(np.eye(3) - m.T @ m)[1] / 2
        return np.trace(a + b) - 2 * np.trace(root_a @ m @ root_b) + reg * information

    best = minimize(value, np.eye(3).ravel(), tol=1e-12).fun
    assert oracles.gaussian_entropic_value(a, b, reg) == pytest.approx(best, abs=1e-6)


def test_gaussian_value_at_the_matched_pair_is_noise_energy_and_information():
    a, sigma = covariance(4, 3), 0.8
    b = a + sigma**2 * np.eye(4)
    information = np.linalg.slogdet(b / sigma**2)[1] / 2
    expected = 4 * sigma**2 + 2 * sigma**2 * information
    assert oracles.gaussian_entropic_value(a, b, 2 * sigma**2) == pytest.approx(expected)
    own = oracles.gaussian_information(2.0, sigma, 4)
    assert own == pytest.approx(np.linalg.slogdet((2.0 + sigma**2) / sigma**2 * np.eye(4))[1] / 2)


def test_gaussian_value_without_regularisation_is_bures():
    a, b = covariance(3, 4), covariance(3, 5)
    root = np.real(sqrtm(a))
    bures = np.trace(a + b) - 2 * np.trace(np.real(sqrtm(root @ b @ root)))
    assert oracles.gaussian_entropic_value(a, b, 1e-6) == pytest.approx(bures, abs=1e-4)
    assert oracles.gaussian_entropic_value(np.zeros((3, 3)), b, 0.5) == pytest.approx(np.trace(b))


@pytest.mark.parametrize("sigma", [0.7, 1.5])
def test_bias_is_the_sum_over_the_singular_values_of_the_plan(sigma):
    (x, p), (y, _) = grid(1.0, 801, 12.0), grid(1.0 + sigma**2, 801, 12.0)
    joint = p[:, None] * oracles.gaussian_channel(x, y, sigma)
    density = joint / np.sqrt(np.outer(p, joint.sum(0)))
    rho = np.linalg.svd(density, compute_uv=False)[1:]
    expected = 2 * sigma**2 * (rho**2 / (1 - rho**2)).sum()
    assert oracles.matched_bias(1.0, sigma, 1) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("dim", [1, 3, 20])
@pytest.mark.parametrize("ratio", [1e-12, 0.3, 1.0, 50.0])
def test_bias_is_the_sum_over_correlations(ratio, dim):
    """Hermite polynomials of degree m have the squared correlation r^m, in so many directions."""
    r = mpmath.mpf(ratio) / (1 + mpmath.mpf(ratio))
    copies = (mpmath.binomial(m + dim - 1, m) * r**m / (1 - r**m) for m in range(1, 4000))
    expected = float(2 * mpmath.fsum(copies))
    assert oracles.matched_bias(ratio, 1.0, dim) == pytest.approx(expected, rel=1e-12)


def test_bias_takes_the_memory_of_a_block_however_long_its_series():
    tracemalloc.start()
    found = oracles.matched_bias(1.0, 2e-3, 20)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2**25  # a list of its ten million terms takes more
    assert found == pytest.approx(2 * 4e-6 * 4e-6**-20.0, rel=1e-3)  # its first term


def test_bias_grows_like_the_exponential_of_twice_the_information():
    bound = np.expm1(2 * oracles.gaussian_information(1.0, 1.0, 32))
    assert 1.0 < oracles.matched_bias(1.0, 1.0, 32) / (2 * bound) < 1.1


def test_bias_and_fluctuation_are_those_of_repeated_solves():
    rng, n, repeats, sigma = np.random.default_rng(1), 60, 400, 1.0
    uniform = np.full(n, 1 / n)
    values = []
    for _ in range(repeats):
        x, y = rng.normal(size=(n, 1)), rng.normal(size=(n, 1)) * np.sqrt(1 + sigma**2)
        f, g = oracles.log_domain_sinkhorn((x - y.T) ** 2, 2 * sigma**2, uniform, uniform, 1e-6)
        values.append(f.mean() + g.mean())
    value = oracles.gaussian_entropic_value(np.eye(1), (1 + sigma**2) * np.eye(1), 2 * sigma**2)
    spread = oracles.matched_fluctuation(sigma, 1) / np.sqrt(n)
    bias = oracles.matched_bias(1.0, sigma, 1) / n
    assert np.std(values) == pytest.approx(spread, rel=0.15)
    assert np.mean(values) - value == pytest.approx(bias, abs=3 * spread / np.sqrt(repeats))


@pytest.mark.parametrize("sigma", [0.5, 2.0])
def test_excess_of_a_fitted_gaussian_is_that_of_simulated_fits(sigma):
    rng = np.random.default_rng(7)
    d, n, repeats = 2, 4000, 400
    excess = []
    for _ in range(repeats):
        y = rng.normal(size=(n, d)) * np.sqrt(1 + sigma**2)
        excess.append(oracles.gaussian_excess(*oracles.fitted_gaussian(y, sigma), np.eye(d), sigma))
    predicted = oracles.gaussian_fit_excess(1.0, sigma, d) / n
    assert np.mean(excess) == pytest.approx(predicted, rel=0.15)


def test_excess_is_least_at_the_truth_and_a_shift_adds_its_square():
    truth, sigma = covariance(3, 6), 0.7
    zero, shift = np.zeros(3), np.array([0.3, -0.2, 0.1])
    assert oracles.gaussian_excess(zero, truth, truth, sigma) == 0
    for seed in range(5):
        near = truth + 0.05 * covariance(3, seed)
        assert oracles.gaussian_excess(zero, near, truth, sigma) > 0
    x, p = grid(1.0, 301)
    y, q = grid(2.0, 301)
    moved = [
        oracles.log_domain_sinkhorn((x[:, None] + s - y) ** 2, 2.0, p, q, tol=1e-10)
        for s in (0.0, 0.5)
    ]
    values = [p @ f + q @ g for f, g in moved]
    assert values[1] - values[0] == pytest.approx(0.25, abs=1e-8)
    assert oracles.gaussian_excess(shift, truth, truth, sigma) == pytest.approx(shift @ shift)


def test_fitted_gaussian_is_the_likeliest():
    rng = np.random.default_rng(8)
    y, sigma = rng.normal(size=(200, 2)) * [1.5, 0.6] + [0.5, 0.0], 0.8

    def nll(flat):
        root = flat[2:].reshape(2, 2)
        b = root @ root.T + sigma**2 * np.eye(2)
        return -multivariate_normal(flat[:2], b).logpdf(y).mean()

    best = minimize(nll, [0, 0, 1, 0, 0, 1], tol=1e-10).x
    mean, covariance = oracles.fitted_gaussian(y, sigma)
    root = best[2:].reshape(2, 2)
    assert mean == pytest.approx(best[:2], abs=1e-3)
    assert covariance == pytest.approx(root @ root.T, abs=2e-3)


def test_sorting_solves_the_assignment_on_a_line():
    rng = np.random.default_rng(9)
    x, y = rng.normal(size=40), rng.normal(size=40) + 1
    cost = (x[:, None] - y[None, :]) ** 2
    rows, columns = linear_sum_assignment(cost)
    assert oracles.sorted_transport(x, y) == pytest.approx(cost[rows, columns].mean())


@pytest.mark.parametrize("ratio", [1e-9, 1e-3, 1.0, 1e3, 1e6, 1e9])
def test_closed_forms_keep_their_digits_at_any_regularisation(ratio):
    """Against 60 digits, where the difference of two large numbers costs nothing."""
    with mpmath.workdps(60):
        s, reg = mpmath.mpf(3), mpmath.mpf(ratio)
        c = mpmath.sqrt(s + reg**2 / 16) - reg / 4
        less = -2 * c + reg / 2 * mpmath.log1p(2 * c / reg)
        exact = float(4 + less)
        away = float(1 / (1 + mpmath.exp(reg)) / 2)
    found = oracles.gaussian_entropic_value(np.array([[1.0]]), np.array([[3.0]]), ratio)
    assert found == pytest.approx(exact, rel=1e-14)
    assert oracles.two_point_plan(ratio, 1.0)[0, 1] == pytest.approx(away, rel=1e-14)
    kept = oracles.linear_gaussian_information(np.array([1.0 + 2**-40]), 2.0)
    assert kept == pytest.approx(0.5 * 2**-40, rel=1e-11)
    assert oracles.matched_bias(ratio, ratio**0.5, 1) == pytest.approx(
        ratio * oracles.matched_bias(1.0, 1.0, 1), rel=1e-12
    )


def test_w2_between_nearly_equal_gaussians_keeps_its_digits():
    a = covariance(4, 2)
    assert oracles.gaussian_w2(a, a * (1 + 1e-9) ** 2) == pytest.approx(
        1e-9 * np.sqrt(np.trace(a)), rel=1e-5
    )


def test_a_report_that_never_came_does_not_matter_even_an_impossible_one():
    channel = np.array([[0.7, 0.3, 0.0], [0.2, 0.8, 0.0]])
    with_it = oracles.maximum_likelihood(channel, np.array([0.4, 0.6, 0.0]))
    without = oracles.maximum_likelihood(channel[:, :2], np.array([0.4, 0.6]))
    assert np.allclose(with_it, without, atol=1e-12)


@pytest.mark.parametrize("epsilon", [0.5, 2.0, 6.0])
def test_certified_epsilon_is_what_simulated_attacks_find(epsilon):
    """The closed rates, against draws; the bounds, against scipy's exact binomial intervals."""
    tpr, fpr = oracles.laplace_rates(epsilon, 11)
    draws = np.random.default_rng(0).laplace(scale=1 / epsilon, size=400_000)
    t = np.linspace(0, 1, 11)
    assert np.abs([(1 + draws > s).mean() for s in t] - tpr).max() < 0.003
    assert np.abs([(draws > s).mean() for s in t] - fpr).max() < 0.003
    n, best = 1_000_000, []
    for p, q in zip(tpr, fpr, strict=True):
        low = binomtest(round(n * p), n).proportion_ci(0.99).low
        best.append(np.log(low / binomtest(round(n * q), n).proportion_ci(0.99).high))
    assert oracles.certified_epsilon(tpr, fpr, n) == pytest.approx(max(best), abs=2e-3)
    assert oracles.certified_epsilon(tpr, fpr, 10**12) == pytest.approx(epsilon, abs=1e-3)


@pytest.mark.parametrize("sigma", [0.1, 0.3, 0.8])
def test_the_blurred_circle_is_that_of_draws(sigma):
    """Radii by simulation; the density by a sum over points of the circle; W2 by assignment."""
    rng = np.random.default_rng(0)
    t = 2 * np.pi * np.arange(4000) / 4000
    for r in (0.2, 1.0, 1.7):
        away = (r - np.cos(t)) ** 2 + np.sin(t) ** 2
        by_sum = np.exp(-away / (2 * sigma**2)).mean() / (2 * np.pi * sigma**2)
        assert oracles.ring_log_density(r, sigma) == pytest.approx(np.log(by_sum), abs=1e-8)
    x, noise = np.stack([np.cos(t), np.sin(t)], 1), rng.normal(scale=sigma, size=(2, 4000, 2))
    radius = np.linalg.norm(x + noise[0], axis=1)
    assert oracles.ring_distance(sigma) == pytest.approx(
        np.sqrt(np.square(radius - 1).mean()), rel=0.05
    )
    lost = oracles.ring_log_density(radius, sigma) - multivariate_ring(radius, x, noise, sigma)
    four = 4 * lost.std() / np.sqrt(len(lost))  # standard errors
    assert oracles.ring_blurred_twice(sigma) == pytest.approx(lost.mean(), abs=four)


def multivariate_ring(radius, x, noise, sigma):
    """Log density of the circle blurred twice, at ``radius``: a mean over once-blurred points."""
    once = x + noise[1]
    away = np.square(radius[:, None] - once[:, 0]) + np.square(once[:, 1])
    return logsumexp(-away / (2 * sigma**2), axis=1) - np.log(len(x) * 2 * np.pi * sigma**2)


def test_the_likeliest_law_is_off_by_as_much_as_its_information_says():
    law = np.array([0.3, 0.25, 0.25, 0.2])
    channel = 0.15 + 0.4 * np.eye(4)
    rng, off = np.random.default_rng(0), []
    for _ in range(100):
        seen = rng.multinomial(20_000, law @ channel) / 20_000
        off.append(abs(oracles.maximum_likelihood(channel, seen) - law).sum() / 2)
    predicted = oracles.likelihood_variation(channel, law, 20_000)
    assert np.mean(off) == pytest.approx(predicted, rel=0.12)


def test_the_vertex_of_a_parabola_is_between_grid_points():
    x = [0.5, 0.7, 1.0, 1.4]
    for least in (0.6, 0.83, 1.1):
        y = np.square(np.array(x) - least) + 3
        assert oracles.vertex(x, y) == pytest.approx(least)
