"""A setting that no mechanism can be made or asked with is named, and so is the cure."""

import math
from functools import partial

import numpy as np
import pytest

import privgan as pg
from privgan.mechanisms import Blocks

BOX = pg.Box(0.0, 1.0, dim=2)
GAUSSIAN, LAPLACE = pg.Gaussian(1.0), pg.Laplace(1.0, bounds=BOX)
ONE = slice(0, 1), partial(pg.Laplace.calibrate, sensitivity=1.0)
TWO = slice(1, 2), partial(pg.Laplace.calibrate, sensitivity=1.0)
UNITS = "change the units of the records$"

BAD = [
    (
        lambda: pg.Gaussian(1e200),
        ValueError,
        f"^sigma is 1e.200, .* hold the budget and .*; {UNITS}",
    ),
    (
        lambda: pg.Gaussian(1e-200),
        ValueError,
        f"^sigma is 1e-200, .* hold the budget and .*; {UNITS}",
    ),
    (
        lambda: pg.Gaussian.calibrate(epsilon=1, delta=1e-5, sensitivity=1e300),
        ValueError,
        "^sigma is 3.731e.300",
    ),
    (
        lambda: pg.Laplace.calibrate(epsilon=1e-320, sensitivity=1e10),
        ValueError,
        "^epsilon is .* for records 1e.10 apart, .*; change epsilon, or the units of the records$",
    ),
    (
        lambda: pg.Laplace.calibrate(epsilon=1e300, sensitivity=1e-100),
        ValueError,
        "^epsilon is 1e.300 for records 1e-100 apart",
    ),
    (
        lambda: pg.EuclideanLaplace.calibrate(epsilon=1e-320, sensitivity=1e10),
        ValueError,
        "^epsilon is",
    ),
    (
        lambda: pg.RandomizedResponse.calibrate(epsilon=1e-20, k=3),
        ValueError,
        "^keep must exceed .*; raise epsilon$",
    ),
    (
        lambda: pg.UnaryEncoding.calibrate(epsilon=1e-20, k=3),
        ValueError,
        "^flip must be below keep, .*; raise epsilon$",
    ),
    (
        lambda: pg.UnaryEncoding.calibrate(epsilon=1.0, k=3, symmetric="yes"),
        TypeError,
        "^symmetric must be True or False, got 'yes'$",
    ),
    (lambda: pg.Product.calibrate(epsilon=1.0), ValueError, "^a Product needs at least one block"),
    (
        lambda: pg.Product.calibrate(ONE, epsilon=1.0, shares=3),
        TypeError,
        "^shares must be a number for each block, got 3$",
    ),
    (
        lambda: pg.Product.calibrate(ONE, TWO, epsilon=1.0, shares=[1e308, 1e308]),
        ValueError,
        "^the sum of shares must be positive and finite",
    ),
    (lambda: Blocks(), ValueError, "^Blocks needs at least one mechanism$"),
    (lambda: Blocks(LAPLACE, "Laplace"), TypeError, r"^mechanisms\[1\] must be a Mechanism"),
    (lambda: Blocks(GAUSSIAN), ValueError, "one number of columns; pass dim"),
    (lambda: Blocks(LAPLACE, dim=3), ValueError, r"one number of columns; these say \[2, 3\]$"),
    (lambda: Blocks(GAUSSIAN, dim=[2]), TypeError, "^dim must be an integer"),
    (lambda: GAUSSIAN.describe(delta="a"), TypeError, "^delta must be a number, got 'a'$"),
    (lambda: LAPLACE.describe(delta=None), TypeError, "^delta must be a number, got None$"),
    (lambda: LAPLACE.describe(delta=2), ValueError, r"^delta is a fraction in \[0, 1\), got 2$"),
    (lambda: LAPLACE.privatize(np.ones((3, 2)), clip="no"), TypeError, "^clip must be True or Fal"),
    (lambda: LAPLACE.grid(0), ValueError, "^bins must be at least 1, got 0$"),
    (
        lambda: pg.RandomizedResponse(3, 0.9).unbiased(np.ones(3)),
        ValueError,
        r"^y has shape \(3,\)",
    ),
]


@pytest.mark.parametrize(("call", "error", "message"), BAD)
def test_a_bad_setting_is_named(call, error, message):
    with pytest.raises(error, match=message):
        call()


@pytest.mark.parametrize("sigma", [1e-150, 1e-9, 1e9, 1e150])
def test_noise_of_any_size_has_a_density(sigma):
    found = pg.Gaussian(sigma).log_density(np.zeros((1, 1)), np.zeros((1, 1))).item()
    assert found == pytest.approx(-math.log(sigma) - math.log(2 * math.pi) / 2)


@pytest.mark.parametrize("symmetric", [False, True])
def test_beyond_float64_an_encoding_spends_less_than_it_may(symmetric):
    found = pg.UnaryEncoding.calibrate(epsilon=1e3, k=3, symmetric=symmetric).epsilon()
    assert 70.0 < found < 90.0


def test_unbiased_rows_of_an_array_are_an_array():
    rows = pg.RandomizedResponse(3, 0.9).unbiased(np.eye(3))
    assert isinstance(rows, np.ndarray)
    assert np.allclose(rows.sum(1), 1.0)
