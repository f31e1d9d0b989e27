"""Bayes' rule on the closed form."""

import pytest
import torch

import privgan as pg
from privgan.artifact.readers import classify

ANSWER = pg.RandomizedResponse.calibrate(epsilon=2.0, k=2)
MECH = pg.Product((slice(0, 2), pg.Gaussian(0.2)), (slice(2, 4), ANSWER))


def raw(n=100_000, seed=0):
    """One centre, two spreads: only a quadratic rule tells the classes apart."""
    rng = torch.Generator().manual_seed(seed)
    label = torch.randint(0, 2, (n,), generator=rng)
    x = torch.randn(n, 2, generator=rng) * torch.tensor([0.3, 2.0])[label][:, None]
    return x, label


def test_the_quadratic_rule_sees_spreads_and_the_linear_one_does_not():
    x, label = raw()
    y = MECH.privatize(torch.cat([x, pg.mechanisms.one_hot(label, 2)], 1), seed=1)
    later, truth = raw(seed=5)
    right = {}
    for own in (0.0, 1.0):
        found = classify(pg.closed_form(y, MECH, own=own), later)
        right[own] = (found == truth).double().mean().item()
    # Bayes' rule of the raw law itself: the likelier of two centred normals.
    best = -later.square().sum(1) / 2 * (1 / 0.09 - 1 / 4) - 2 * torch.log(torch.tensor(0.3 / 2))
    ceiling = ((best < 0).long() == truth).double().mean().item()
    assert right[1.0] == pytest.approx(ceiling, abs=0.02)
    assert right[0.0] < 0.6


def test_what_is_no_closed_form_is_refused():
    with pytest.raises(ValueError, match="law of latents"):
        classify(pg.Labelled(pg.Linear(3, 2), 2), torch.zeros(1, 2))
    with pytest.raises(ValueError, match="is not linear"):
        classify(pg.Labelled(pg.MLP(3, 2), 2), torch.zeros(1, 2))
