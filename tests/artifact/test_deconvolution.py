"""Deconvolution by a mixture: every round makes reports likelier; modes come back."""

import pytest
import torch

import privgan as pg
from privgan.artifact import deconvolution
from privgan.artifact.deconvolution import deconvolve

NOISE = pg.Gaussian(0.6)


def two_modes(n=20_000, seed=0):
    rng = torch.Generator().manual_seed(seed)
    sign = torch.randint(0, 2, (n, 1), generator=rng) * 2.0 - 1.0
    x = torch.randn(n, 2, generator=rng) * torch.tensor([0.2, 1.0])
    return x + 1.5 * sign * torch.tensor([1.0, 0.0])


def test_modes_that_one_normal_cannot_show_come_back():
    y = NOISE.privatize(two_modes(), seed=1)
    made = deconvolve(y, NOISE, components=2, rounds=300).sample(20_000, seed=2)
    single = pg.closed_form(y, NOISE).sample(20_000, seed=2)
    inside = (made[:, 0].abs() < 0.7).double().mean()
    assert inside < 0.01  # raw: 4 standard deviations away
    assert (single[:, 0].abs() < 0.7).double().mean() > 0.2
    assert made[:, 0].abs().std() == pytest.approx(0.2, abs=0.06)
    assert made[:, 1].std() == pytest.approx(1.0, abs=0.05)


def test_every_round_makes_the_reports_likelier():
    y = NOISE.privatize(two_modes(4000), seed=1)
    models = [deconvolve(y, NOISE, components=3, rounds=r) for r in (0, 2, 30)]
    nll = [pg.report_nll(model.sample(4000, seed=5), y, NOISE) for model in models]
    assert nll[0] > nll[1] > nll[2]


def test_classes_have_mixtures_of_their_own():
    x = two_modes()
    label = (x[:, 1] > 0).long()
    answer = pg.RandomizedResponse.calibrate(epsilon=2.0, k=2)
    mech = pg.Product((slice(0, 2), NOISE), (slice(2, 4), answer))
    raw = torch.cat([x, pg.mechanisms.one_hot(label, 2)], 1)
    model = deconvolve(mech.privatize(raw, seed=1), mech, components=3, rounds=300)
    upper, lower = (model.sample_class(c, 5000, seed=0) for c in (1, 0))
    assert upper[:, 1].mean() == pytest.approx(0.8, abs=0.15)
    assert lower[:, 1].mean() == pytest.approx(-0.8, abs=0.15)
    for made in (upper, lower):
        assert (made[:, 0].abs() < 0.7).double().mean() < 0.1


def test_a_direction_is_refused():
    unit = pg.PrivUnit.calibrate(epsilon=3.0, bounds=pg.Sphere(2))
    y = unit.privatize(torch.tensor([[1.0, 0.0]]).repeat(50, 1), seed=0)
    with pytest.raises(TypeError, match="additive noise"):
        deconvolution.deconvolve(y, unit)
