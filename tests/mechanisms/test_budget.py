import itertools
import math

import mpmath
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from privgan.mechanisms import Budget, gaussian_delta, gaussian_epsilon, gaussian_mu
from privgan.mechanisms.budget import _log_delta

EPSILONS = [1e-4, 1e-2, 0.5, 1.0, 8.0, 100.0, 800.0]
DELTAS = [1e-15, 1e-10, 1e-5, 1e-3]
PAIRS = list(itertools.product(EPSILONS, DELTAS))


def exact_delta(epsilon, mu, digits=60):
    """Balle and Wang 2018."""
    with mpmath.workdps(digits):
        epsilon, mu = mpmath.mpf(epsilon), mpmath.mpf(mu)
        first = mpmath.ncdf(mu / 2 - epsilon / mu)
        return first - mpmath.exp(epsilon) * mpmath.ncdf(-mu / 2 - epsilon / mu)


@pytest.mark.parametrize(("epsilon", "delta"), PAIRS)
def test_calibration_is_exact_to_1e_9_and_safe(epsilon, delta):
    mu = gaussian_mu(epsilon, delta)
    assert exact_delta(epsilon, mu) <= delta
    assert exact_delta(epsilon, mu * (1 + 1e-9)) > delta


@pytest.mark.parametrize(("epsilon", "delta"), PAIRS)
def test_epsilon_is_the_inverse_and_safe(epsilon, delta):
    mu = gaussian_mu(epsilon, delta)
    found = gaussian_epsilon(delta, mu)
    assert found <= epsilon
    assert found == pytest.approx(epsilon, rel=1e-6)
    assert exact_delta(found, mu) <= delta


@given(st.floats(1e-12, 1e3), st.floats(1e-8, 1e2))
@settings(max_examples=200, deadline=None)
def test_delta_agrees_with_60_digits(epsilon, mu):
    exact = float(exact_delta(epsilon, mu))
    # exp(-s^2 / 2) magnifies the rounding of s.
    s = mu / 2 - epsilon / mu
    assert gaussian_delta(epsilon, mu) == pytest.approx(exact, rel=1e-11 + 1e-15 * s * s)


@pytest.mark.parametrize("mu", [2.001, 4.0, 12.0, 16.0, 19.9, 20.1, 40.0, 74.0])
@pytest.mark.parametrize("epsilon", [0.0, 1e-6, 0.5])
def test_what_delta_lacks_to_one_keeps_its_digits(mu, epsilon):
    """Near 1 the logarithm is what is left, down to 1e-300; no delta is above 1."""
    with mpmath.workdps(400):
        exact = float(mpmath.log(exact_delta(epsilon, mu, 400)))
    found = _log_delta(epsilon, mu)
    assert found == pytest.approx(exact, rel=1e-12)
    assert found < 0.0
    assert gaussian_delta(epsilon, mu) <= 1.0


def test_delta_at_no_epsilon_is_the_total_variation():
    assert gaussian_delta(0.0, 0.7) == pytest.approx(math.erf(0.35 / math.sqrt(2)))


def test_epsilon_is_zero_where_delta_alone_covers_everything():
    assert gaussian_epsilon(0.5, 1e-3) == 0.0


def test_the_classical_formula_breaks_its_promise_at_large_epsilon():
    classical = math.sqrt(2 * math.log(1.25 / 1e-3)) / 8.0
    assert gaussian_delta(8.0, 1 / classical) == pytest.approx(1.3e-3, rel=0.05)


def test_known_value():
    assert 1 / gaussian_mu(1.0, 1e-5) == pytest.approx(3.7306, abs=1e-4)


@given(st.floats(1e-3, 50.0), st.floats(1e-3, 50.0))
@settings(max_examples=50, deadline=None)
def test_budgets_add(first, second):
    pure = Budget(pure=first) + Budget(pure=second)
    assert pure.epsilon() == pytest.approx(first + second)
    gaussian = Budget(mu=first) + Budget(mu=second)
    assert gaussian.mu == pytest.approx(np.hypot(first, second))
    mixed = Budget(pure=first) + Budget(mu=second)
    assert mixed.epsilon(1e-5) == pytest.approx(first + gaussian_epsilon(1e-5, second))


@given(st.floats(1e-6, 1e150))
@settings(max_examples=50, deadline=None)
def test_epsilon_of_hardly_any_noise_is_half_a_square(mu):
    assert gaussian_epsilon(1e-5, 1e3 + mu) == pytest.approx((1e3 + mu) ** 2 / 2, rel=0.02)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: gaussian_mu(0.0, 1e-5), ValueError, "epsilon must be positive"),
        (lambda: gaussian_mu(-1.0, 1e-5), ValueError, "epsilon must be positive"),
        (lambda: gaussian_mu(1.0, 0.0), ValueError, "delta must be positive"),
        (
            lambda: gaussian_mu(1.0, 1.0),
            ValueError,
            r"delta must lie in \(0, 1\), got 1.0",
        ),
        (lambda: gaussian_mu(1.0, "1e-5"), TypeError, "delta must be a number"),
        (
            lambda: gaussian_epsilon(2.0, 1.0),
            ValueError,
            r"delta must lie in \(0, 1\)",
        ),
        (lambda: gaussian_delta(-1.0, 1.0), ValueError, "epsilon must be positive"),
        (lambda: gaussian_delta(1.0, math.nan), ValueError, "mu must be positive"),
        (lambda: gaussian_epsilon(1e-5, 1e200), ValueError, r"^mu is 1e\+200, .* add more noise$"),
        (lambda: Budget(mu=1e200).epsilon(1e-5), ValueError, r"^mu is 1e\+200"),
        (lambda: Budget(pure=-1), ValueError, "^pure must be at least 0 and finite, got -1.0$"),
        (lambda: Budget(mu=math.nan), ValueError, "^mu must be at least 0 and finite, got nan$"),
        (lambda: Budget(pure="1"), TypeError, "^pure must be a number, got '1'$"),
        (lambda: Budget(pure=False), TypeError, "^pure must be a number, got False$"),
        (lambda: Budget(mu=np.ones(2)), TypeError, "^mu must be a number, got a ndarray$"),
        (lambda: 10**400 * Budget(1.0), ValueError, "^times must be finite"),
        (lambda: Budget(mu=1.0).epsilon(), ValueError, "no epsilon at delta = 0"),
        (
            lambda: Budget(pure=1.0).epsilon(1.5),
            ValueError,
            r"delta must lie in \(0, 1\)",
        ),
    ],
)
def test_bad_input_is_named(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_several_reports_of_one_kind_cost_their_sum():
    one = Budget(pure=0.5, mu=1.5)
    thrice = 3 * one
    assert thrice == one * 3 == np.int64(3) * one
    assert thrice.pure == 1.5
    assert thrice.mu == pytest.approx(1.5 * math.sqrt(3), rel=1e-15)
    added = sum([one, one, one])
    assert (added.pure, added.mu) == (1.5, pytest.approx(thrice.mu, rel=1e-15))
    assert 1 * one == one
    assert 0 * one == Budget()
    assert sum([]) + one == one


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda one: -1 * one, ValueError, "^times must be at least 0, got -1"),
        (lambda one: 1.5 * one, TypeError, "^times must be an integer"),
        (lambda one: one * one, TypeError, "unsupported operand"),
        (lambda one: one + 1.0, TypeError, "unsupported operand"),
        (lambda one: 1 + one, TypeError, "unsupported operand"),
        (lambda one: Budget(pure=-1.0), ValueError, "^pure must be at least 0"),
        (lambda one: Budget(mu=math.inf), ValueError, "^mu must be at least 0 and finite"),
        (lambda one: gaussian_epsilon(1e-5, 0.0), ValueError, "^mu must be positive"),
    ],
)
def test_what_is_no_number_of_reports_or_no_budget_is_refused(call, error, message):
    with pytest.raises(error, match=message):
        call(Budget(pure=1.0))


@pytest.mark.parametrize("mu", [1e-3, 1.0001e-3, 5e-4])
@pytest.mark.parametrize("ratio", [0.0, 0.5, 1.0, 2.0, 4.0])
def test_small_mu_costs_no_digits_where_one_expansion_takes_over_from_another(mu, ratio):
    exact = float(exact_delta(ratio * mu, mu))
    assert gaussian_delta(ratio * mu, mu) == pytest.approx(
        exact, rel=2e-14 if mu <= 1e-3 else 2e-12
    )
