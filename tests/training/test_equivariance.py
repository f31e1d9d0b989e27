"""Units, origins and the order of rows are no part of what reports say."""

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from trainings import REPORTS

import privgan as pg

NUMBERS = REPORTS[:300].double()
exponents = st.floats(-9, 9)
offsets = st.tuples(st.sampled_from([-1, 1]), st.floats(4, 9)).map(lambda t: t[0] * 10 ** t[1])


def learned(reports, noise, **others):
    generator = pg.MLP(2, 2, hidden=(8,)).double()
    pg.fit(generator, reports, pg.EntropicLoss.matched(noise), steps=8, batch_size=64, **others)
    return generator.sample(100, seed=0)


@pytest.fixture(scope="module")
def standard():
    return {noise: learned(NUMBERS, noise(0.3)) for noise in (pg.Gaussian, pg.Laplace)}


@settings(max_examples=8, deadline=None)
@example(noise=pg.Laplace, exponent=-9.0)
@example(noise=pg.Gaussian, exponent=9.0)
@given(noise=st.sampled_from([pg.Gaussian, pg.Laplace]), exponent=exponents)
def test_a_training_is_the_same_in_any_unit(noise, exponent, standard):
    unit = 10**exponent
    found = learned(unit * NUMBERS, noise(0.3 * unit))
    assert torch.allclose(found / unit, standard[noise], atol=1e-6)


@settings(max_examples=8, deadline=None)
@example(noise=pg.Laplace, offset=1e9)
@given(noise=st.sampled_from([pg.Gaussian, pg.Laplace]), offset=offsets)
def test_a_training_is_the_same_from_any_origin(noise, offset, standard):
    found = learned(offset + NUMBERS, noise(0.3))
    # Doubles lie abs(offset) * 2e-16 apart, and so do the reports that are handed over.
    assert torch.allclose(found - offset, standard[noise], atol=1e-6 + 1e-13 * abs(offset))


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32))
def test_likelihoods_follow_their_rows(seed):
    mechanism, x, y = pg.Laplace(0.3), NUMBERS[:40], NUMBERS[40:90]
    generator = torch.Generator().manual_seed(seed)
    rows, columns = torch.randperm(40, generator=generator), torch.randperm(50, generator=generator)
    whole = pg.training.report_log_likelihood(x, y, mechanism)
    found = pg.training.report_log_likelihood(x[rows], y[columns], mechanism)
    assert torch.allclose(found, whole[columns])
    assert pg.report_nll(x[rows], y[columns], mechanism) == pytest.approx(
        pg.report_nll(x, y, mechanism)
    )


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32), exponents)
def test_a_scale_is_decided_by_pairs_of_likelihoods_alone(seed, exponent):
    """In any unit the log-likelihoods of all laws move by the same number."""
    generator = torch.Generator().manual_seed(seed)
    ll = torch.randn((3, 60), dtype=torch.float64, generator=generator)
    scales = torch.tensor([1.0, 2.0, 3.0]).double()
    one = pg.training.largest_allowed_scale(scales, ll)
    order = torch.randperm(60, generator=generator)
    other = pg.training.largest_allowed_scale(10**exponent * scales, (ll - exponent)[:, order])
    assert other.upper == pytest.approx(10**exponent * one.upper)
    assert other.score[1:] == pytest.approx(one.score[1:], rel=1e-6, abs=1e-9)
