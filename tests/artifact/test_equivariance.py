"""No number depends on where the origin lies, what the unit is, or in which order rows come."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import privgan as pg
from privgan.artifact import contrast, metrics, npmle, oracles, rates
from privgan.sinkhorn import L1, Euclidean, SquaredL2

few = settings(max_examples=25, deadline=None, derandomize=True)
units = st.sampled_from([2.0**-30, 1e-9, 1e-3, 1.0, 1e4, 1e9, 2.0**30])
places = st.sampled_from([0.0, 1e4, -1e6, 1.7e9])  # in units
seeds = st.integers(0, 10**6)
METRICS = {
    "w2": (metrics.w2, 1),
    "w2_draws": (lambda x, y: metrics.w2_draws(x, y, 5).mean(), 1),
    "frechet": (metrics.frechet, 2),
    "precision": (lambda x, y: metrics.precision_recall(x, y)[0], 0),
    "recall": (lambda x, y: metrics.precision_recall(x, y)[1], 0),
}
each_metric = pytest.mark.parametrize(("metric", "degree"), METRICS.values(), ids=list(METRICS))


def samples(seed, d=None, n=(14, 11)):
    """Two samples whose coordinates have few bits, so that moving them is exact in float64."""
    rng = np.random.default_rng(seed)
    d = d or int(rng.integers(1, 12))
    drawn = (rng.normal(size=(k, d)) for k in n)
    return [torch.from_numpy(np.round(x * 2**20) / 2**20) for x in drawn]


def moved(x, place, unit):
    return (x + round(place)) * unit


@each_metric
@few
@given(seeds, places, units)
def test_metrics_keep_their_value_under_shifts_and_scales(metric, degree, seed, place, unit):
    x, y = samples(seed)
    # A unit that is no power of two rounds what it moves: by a part in 1e16 of the place.
    rounding = 0.0 if math.frexp(unit)[0] == 0.5 else 2e-16 * (1 + abs(place))
    found = metric(*(moved(v, place, unit) for v in (x, y))) / unit**degree
    assert found == pytest.approx(metric(x, y), rel=1e-9, abs=20 * rounding)


@each_metric
@few
@given(seeds, places)
def test_metrics_of_float32_are_those_of_the_same_numbers_in_float64(metric, degree, seed, place):
    x, y = (moved(v, place, 1e-3).float() for v in samples(seed))
    assert metric(x, y) == metric(x.double(), y.numpy().astype(np.float64))
    assert metric(x, y.double()) == metric(x, y)


@pytest.mark.parametrize("name", ["w2", "frechet", "precision", "recall"])
@few
@given(seeds)
def test_metrics_do_not_see_the_order_of_rows_or_columns(name, seed):
    metric, _ = METRICS[name]
    x, y = samples(seed)
    g = torch.Generator().manual_seed(seed)
    columns = torch.randperm(x.shape[1], generator=g)
    other = (v[torch.randperm(len(v), generator=g)][:, columns] for v in (x, y))
    assert metric(*other) == pytest.approx(metric(x, y), rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("name", ["w2", "frechet"])
@few
@given(seeds)
def test_distances_are_symmetric_and_zero_from_a_sample_to_itself(name, seed):
    metric, _ = METRICS[name]
    x, y = samples(seed)
    assert metric(x, y) == pytest.approx(metric(y, x), rel=1e-9)
    assert metric(x, x) == 0.0


@pytest.mark.parametrize(
    "make", [contrast.ExactLoss, lambda cost: contrast.SinkhornDivergence(cost, 1.0, tol=1e-6)]
)
@pytest.mark.parametrize(("cost", "degree"), [(SquaredL2(), 2), (L1(), 1), (Euclidean(), 1)])
@settings(few, max_examples=6)
@given(seeds, places, units)
def test_contrasts_keep_value_and_gradient_under_shifts_and_scales(
    make, cost, degree, seed, place, unit
):
    unit = 2.0 ** round(math.log2(unit))

    def solved(place, unit):
        x, y = (moved(v, place, unit) for v in samples(seed, n=(8, 7)))
        loss = make(cost)
        if isinstance(loss, contrast.SinkhornDivergence):
            loss = loss.heated(unit**degree)
        value = loss(x.requires_grad_(), y)
        value.backward()
        return value.item() / unit**degree, x.grad.numpy() / unit ** (degree - 1)

    (found, gradient), (expected, slope) = solved(place, unit), solved(0.0, 1.0)
    assert found == pytest.approx(expected, rel=1e-5, abs=1e-5)
    assert np.allclose(gradient, slope, atol=1e-4)


@settings(few, max_examples=8)
@given(seeds, places, units, st.sampled_from([torch.float32, torch.float64]))
def test_the_likeliest_law_moves_with_the_reports(seed, place, unit, dtype):
    place, unit = round(place / 2**10) * 2.0**10, 2.0 ** round(math.log2(unit))
    _, y = samples(seed, d=2, n=(1, 40))
    y = (y * 2**5).round() / 2**5
    axes = torch.linspace(-2, 2, 5, dtype=torch.float64), torch.linspace(-1, 1, 3).double()
    if dtype is torch.float32:
        place = min(max(place, -(2.0**14)), 2.0**14)  # which float32 holds to the last bit

    def law(y, axes, mechanism, place, unit):
        y, *axes = (moved(v, place, unit).to(dtype) for v in (y, *axes))
        return npmle.nonparametric_mle(y, mechanism, axes, iterations=20)

    expected = law(y, axes, pg.Gaussian(0.5), 0.0, 1.0)
    found = law(y, axes, pg.Gaussian(0.5 * unit), place, unit)
    assert found.points.dtype == dtype
    assert torch.equal(found.points.double(), moved(expected.points.double(), place, unit))
    assert torch.allclose(found.weights, expected.weights, atol=1e-6)
    turned = law(y.flip(0, 1), axes[::-1], pg.Gaussian(0.5), 0.0, 1.0)
    assert torch.allclose(turned.weights.reshape(3, 5), expected.weights.reshape(5, 3).T, atol=1e-6)


@few
@given(seeds, units)
def test_a_rate_does_not_see_the_unit_of_the_errors(seed, unit):
    rng = np.random.default_rng(seed)
    errors = {n: torch.from_numpy(rng.normal(size=6) / n) for n in (10, 30, 100)}
    own = rates.rate(errors)
    found = rates.rate({n: unit * e for n, e in errors.items()})
    backwards = rates.rate(dict(reversed(errors.items())))
    assert vars(found) == pytest.approx(vars(own), rel=1e-9)
    assert backwards.slope == pytest.approx(own.slope, rel=1e-9)


def covariances(seed, d=3):
    roots = np.random.default_rng(seed).normal(size=(2, d, d))
    return roots @ roots.transpose(0, 2, 1)


def closed_forms(seed, place, unit):
    """Every oracle in a unit and at a place, divided by its own unit."""
    a, b = covariances(seed) * unit**2
    rng = np.random.default_rng(seed)
    x, y = ((np.round(rng.normal(size=9) * 2**10) / 2**10 + place) * unit for _ in range(2))
    points = (np.round(rng.normal(size=(9, 2)) * 2**10) / 2**10 + place) * unit
    cost = (x[:, None] - y[None, :]) ** 2
    reg, sigma, s = 2 * unit**2, unit, np.array([0.5, 2.0, 3.0]) * unit**2
    uniform = np.full(9, 1 / 9)
    f, g = oracles.log_domain_sinkhorn(cost, reg, uniform, uniform)
    mean, covariance = oracles.fitted_gaussian(points, sigma)
    return {
        "two_point_plan": oracles.two_point_plan(unit, 0.7 * unit),
        "potentials": (f[:, None] + g[None, :]) / unit**2,
        "regularised_value": oracles.regularised_value(
            np.outer(uniform, uniform), cost, reg
        ) / unit**2,
        "gaussian_channel": oracles.gaussian_channel(x, y, sigma),
        "minimiser": oracles.linear_gaussian_minimiser(s, reg, 2) / unit**2,
        "information": oracles.linear_gaussian_information(s, reg),
        "gaussian_w2": oracles.gaussian_w2(a, b) / unit,
        "product_eigenvalues": oracles.product_eigenvalues(a, b) / unit**4,
        "gaussian_entropic_value": oracles.gaussian_entropic_value(a, b, reg) / unit**2,
        "gaussian_information": oracles.gaussian_information(unit**2, sigma, 3),
        "matched_fluctuation": oracles.matched_fluctuation(sigma, 3) / unit**2,
        "matched_bias": oracles.matched_bias(unit**2, sigma, 2) / unit**2,
        "gaussian_excess": oracles.gaussian_excess(
            np.full(3, unit), a, b, sigma
        ) / unit**2,
        "fitted mean": mean / unit - place,
        "fitted covariance": covariance / unit**2,
        "gaussian_fit_excess": oracles.gaussian_fit_excess(unit**2, sigma, 3) / unit**2,
        "sorted_transport": oracles.sorted_transport(x, y) / unit**2,
    }  # fmt: skip


@settings(few, max_examples=10)
@given(seeds, places, units)
def test_closed_forms_keep_their_value_under_shifts_and_scales(seed, place, unit):
    unit = 2.0 ** round(math.log2(unit))
    found, expected = closed_forms(seed, round(place), unit), closed_forms(seed, 0.0, 1.0)
    for name, value in expected.items():
        assert np.allclose(found[name], value, rtol=1e-9, atol=1e-6 if "mean" in name else 1e-12), (
            name
        )
