"""Noise of any size: a budget that is right, or one error that says what to do."""

import math
from fractions import Fraction

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import privgan as pg
from privgan.mechanisms import Budget

UNIT = pg.Box(0.0, 1.0, dim=1)
CURES = "change the units|add more noise|raise epsilon|lower epsilon|fewer reports|pass float64"
powers = st.floats(-323.3, 308.2).map(lambda power: 10.0**power)


@given(powers, st.floats(-300.0, 299.0).map(lambda power: 10.0**power))
@settings(max_examples=300, deadline=None)
def test_a_pure_epsilon_is_right_or_refused(scale, width):
    for kind in (pg.Laplace, pg.EuclideanLaplace):
        exact = Fraction(width) / Fraction(scale)
        try:
            found = kind(scale, bounds=pg.Box(0.0, width, dim=1)).epsilon()
        except ValueError as error:
            said = str(error)
            assert not 1e-300 <= scale <= 1e300 or exact > 1e308
            assert said.endswith(("change the units of the records", "add more noise"))
            continue
        assert 0.0 < found < math.inf
        assert abs(Fraction(found) - exact) <= exact * Fraction(1, 2**52) + Fraction(5e-324)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: pg.Laplace(1e-320, bounds=UNIT), "^scale is 1e-320, "),
        (lambda: pg.Laplace(1e308), r"^scale is 1e\+308, "),
        (lambda: pg.EuclideanLaplace(5e-324), "^scale is 4.941e-324, "),
        (lambda: pg.Gaussian(1e-155), "^sigma is 1e-155, "),  # its square has lost its digits
        (lambda: pg.Gaussian(1e154), r"^sigma is 1e\+154, "),
        (lambda: pg.Gaussian(1e-140, bounds=pg.Box(0.0, 1e200, dim=1)).epsilon(1e-5), "^noise of"),
        (lambda: pg.Laplace(1e-200).epsilon(sensitivity=1e200), "^noise of scale 1e-200 hides"),
        (lambda: pg.Laplace.calibrate(epsilon=1e3, sensitivity=1e-300), "^scale is 1e-303, "),
        (lambda: pg.Piecewise(5e-324, bounds=UNIT), "^coordinate_epsilon is 4.941e-324, "),
        (lambda: pg.Piecewise(1e-290, bounds=pg.Box(0.0, 1e20, dim=1)), "^coordinate_epsilon is"),
        (lambda: pg.SquareWave(1e-320, bounds=UNIT), "^coordinate_epsilon is 1e-320, "),
        (lambda: Budget(1e308) + Budget(1e308), "^pure must be .* got inf; add more noise"),
        (lambda: 4 * Budget(mu=1.7e308), "^mu must be .* got inf; add more noise"),
    ],
)
def test_what_float64_does_not_hold_is_refused_with_a_cure(call, message):
    with pytest.raises(ValueError, match=message) as caught:
        call()
    assert caught.match(CURES)


def test_a_channel_of_hardly_any_epsilon_is_finite():
    for kind in (pg.Piecewise, pg.SquareWave):
        channel = kind(1e-290, bounds=UNIT)
        assert channel.epsilon() == 1e-290
        assert channel.privatize(torch.full((9, 1), 0.5).double(), seed=0).isfinite().all()


def test_a_gaussian_that_is_hardly_told_has_no_epsilon_at_a_delta():
    """mu is the least number above 0, and no logarithm on the way is of 0."""
    assert pg.Gaussian(1e149).budget(sensitivity=1e-300).mu == math.ulp(0.0)
    assert pg.Gaussian(1e149).epsilon(1e-5, sensitivity=1e-300) == 0.0


@pytest.mark.parametrize("mechanism", [pg.Laplace(1e-40), pg.EuclideanLaplace(1e34)], ids=repr)
def test_single_precision_refuses_noise_that_it_does_not_hold(mechanism):
    """It was 0 before, so that reports were the records, or infinite."""
    x = torch.zeros((2, 1))
    message = rf"^float32 does not hold the noise of {type(mechanism).__name__}"
    with pytest.raises(ValueError, match=message):
        mechanism.privatize(x, seed=0)
    with pytest.raises(ValueError, match=message):
        mechanism.log_density(x, x)
    reports = mechanism.privatize(x.double(), seed=0)
    assert (reports != 0.0).all()
    assert mechanism.log_density(x.double(), reports).isfinite().all()
