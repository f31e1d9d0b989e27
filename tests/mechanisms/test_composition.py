"""Budgets under every order of adding, and audits of every budget: properties, not cases."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import privgan as pg
from privgan.audit import audit
from privgan.mechanisms import Budget, gaussian_delta, gaussian_epsilon, gaussian_mu

parts = st.floats(0.0, 1e3)
budgets = st.builds(Budget, parts, parts)
epsilons = st.floats(0.05, 50.0)
deltas = st.floats(1e-12, 1e-2)


def same(first, second):
    return first.pure == pytest.approx(second.pure, rel=1e-12) and first.mu == pytest.approx(
        second.mu, rel=1e-12
    )


@given(budgets, budgets, budgets)
def test_the_order_of_reports_does_not_matter_nor_how_they_are_grouped(a, b, c):
    assert same(a + b, b + a)
    assert same((a + b) + c, a + (b + c))
    assert same(sum([a, b, c]), sum([c, a, b]))
    assert same(a + Budget(), a)


@given(budgets, st.integers(0, 30), st.integers(0, 30))
def test_reports_of_one_kind_are_counted(a, m, n):
    assert same(m * a + n * a, (m + n) * a)
    assert same(sum([a] * n, Budget()), n * a)


@given(budgets, budgets, deltas)
def test_more_reports_never_cost_less_and_never_more_than_their_sum(a, b, delta):
    both = (a + b).epsilon(delta)
    assert both >= max(a.epsilon(delta), b.epsilon(delta)) * (1 - 1e-9)
    assert both <= (a.epsilon(delta / 2) + b.epsilon(delta / 2)) * (1 + 1e-9)


@given(budgets, deltas, st.floats(1.0, 1e3))
def test_a_larger_delta_never_costs_more(a, delta, times):
    larger = min(0.5, delta * times)
    assert a.epsilon(larger) <= a.epsilon(delta) * (1 + 1e-9)


@given(epsilons, deltas)
def test_mu_epsilon_and_delta_are_one_curve(epsilon, delta):
    mu = gaussian_mu(epsilon, delta)
    assert gaussian_delta(epsilon, mu) <= delta
    assert gaussian_epsilon(delta, mu) <= epsilon
    assert gaussian_epsilon(delta, mu * 1.001) > epsilon * (1 - 1e-6)


@given(epsilons, st.floats(1e-3, 1e3), st.integers(1, 6))
def test_calibrated_noise_spends_what_it_was_given_whatever_the_units(epsilon, width, dim):
    box = pg.Box(-width, width, dim=dim)
    for mech in (
        pg.Laplace.calibrate(epsilon=epsilon, bounds=box),
        pg.EuclideanLaplace.calibrate(epsilon=epsilon, bounds=box),
        pg.RandomizedResponse.calibrate(epsilon=min(epsilon, 20.0), k=dim + 1),
        pg.PrivUnit.calibrate(epsilon=min(epsilon, 12.0), bounds=pg.Sphere(dim + 2)),
    ):
        asked = epsilon if mech.bounds is box else min(epsilon, 20.0)
        asked = min(epsilon, 12.0) if isinstance(mech, pg.PrivUnit) else asked
        assert mech.epsilon() <= asked * (1 + 1e-12)
        assert mech.epsilon() == pytest.approx(asked, rel=1e-6)
    normal = pg.Gaussian.calibrate(epsilon=epsilon, delta=1e-5, bounds=box)
    scaled = pg.Gaussian.calibrate(epsilon=epsilon, delta=1e-5, bounds=pg.Box(-1, 1, dim=dim))
    assert normal.sigma == pytest.approx(width * scaled.sigma)


@settings(max_examples=5, deadline=None)
@given(st.floats(0.3, 4.0), st.sampled_from(["laplace", "response", "product", "unit"]))
def test_an_audit_passes_what_is_spent_and_refutes_less(epsilon, kind):
    box = pg.Box(0.0, 1.0, dim=1)
    noise = pg.Laplace.calibrate(epsilon=epsilon, bounds=box)
    answer = pg.RandomizedResponse.calibrate(epsilon=epsilon, k=3)
    mech = {
        "laplace": noise,
        "response": answer,
        "product": pg.Product((slice(0, 1), noise), (slice(1, 4), answer)),
        "unit": pg.PrivUnit.calibrate(epsilon=epsilon, bounds=pg.Sphere(3)),
    }[kind]
    assert audit(mech, mech.epsilon(), reports=2000).passed
    assert not audit(mech, 0.98 * mech.epsilon(), reports=2000).passed


@given(st.permutations(range(4)))
def test_a_product_is_what_its_blocks_are_in_any_order(order):
    blocks = [(slice(k, k + 1), pg.Laplace(0.5 + k, bounds=pg.Box(0, 1, dim=1))) for k in range(4)]
    first, other = pg.Product(*blocks), pg.Product(*(blocks[k] for k in order))
    assert first == other
    assert other.epsilon() == pytest.approx(math.fsum(1 / (0.5 + k) for k in range(4)))
    x = torch.full((3, 4), 0.5, dtype=torch.float64)
    assert torch.equal(first.privatize(x, seed=0), other.privatize(x, seed=0))
