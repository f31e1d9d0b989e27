"""A training does not depend on the units and the origin of the reports."""

import pytest
import torch
from trainings import REPORTS, fit, model

import privgan as pg


def learned(centre, scale, make, raw, noise, **settings):
    """What a training in other units has learned, in standard ones."""
    reports = noise(scale).privatize(centre + scale * raw, seed=3)
    generator = make()
    fit(generator, reports, pg.EntropicLoss.matched(noise(scale)), **settings)
    made = generator.sample(2000, seed=1)
    assert made.dtype == reports.dtype
    return (made.double() - centre) / scale


NUMBERS = torch.randn(3000, 1, generator=torch.Generator().manual_seed(5)).double()
LONG = {"steps": 300, "batch_size": 200, "lr": 5e-3}


@pytest.mark.parametrize(
    ("centre", "scale", "dtype"),
    [
        (50_000.0, 15_000.0, torch.float32),  # an income
        (1.7e9, 3600.0, torch.float64),  # hours, in seconds since 1970
        (0.0, 1e-9, torch.float32),
        (-3e9, 1e9, torch.float32),
    ],
)
def test_numbers_train_alike_in_all_units(centre, scale, dtype):
    def make():
        return pg.MLP(2, 1, hidden=(16,))

    def noise(unit):
        return pg.Laplace(0.3 * unit)

    raw = NUMBERS.to(dtype)
    standard = learned(0.0, 1.0, make, raw, noise, **LONG)
    other = learned(centre, scale, make, raw, noise, **LONG)
    assert abs(standard.mean()) < 0.1
    assert 0.9 < standard.std() < 1.1
    # The same law; single points drift apart, as rounding differs from step to step.
    assert (other.sort(0).values - standard.sort(0).values).abs().mean() < 2e-2


def test_a_product_of_incomes_and_categories_trains_alike_in_all_units():
    kinds = pg.mechanisms.one_hot((NUMBERS[:, 0] > 0).long(), 2).double()
    means = {}
    for centre, scale in ((0.0, 1.0), (50_000.0, 15_000.0)):
        mech = pg.Product(
            (slice(0, 1), pg.Laplace(0.3 * scale)),
            (slice(1, 3), pg.RandomizedResponse.calibrate(epsilon=3.0, k=2)),
        )
        records = torch.cat([centre + scale * NUMBERS, kinds], 1)
        generator = pg.MLP(3, 3, hidden=(32,), categories=[slice(1, 3)])
        fit(generator, pg.simulate(records, mech, seed=3), None, **LONG)
        made = generator.sample(4000, seed=1)
        high = made[:, 1] < made[:, 2]
        means[scale] = [
            (made[high, 0].mean().item() - centre) / scale,
            (made[~high, 0].mean().item() - centre) / scale,
            high.double().mean().item(),
        ]
    assert means[1.0] == pytest.approx([0.8, -0.8, 0.5], abs=0.2)
    assert means[15_000.0] == pytest.approx(means[1.0], abs=0.05)


def test_a_public_linear_map_trains_alike_in_all_units():
    turn = torch.tensor([[0.8, 0.6], [-0.6, 0.8]]).double()
    plane = torch.cat([NUMBERS, 0.3 * NUMBERS.flip(0)], 1)
    covariances = []
    for scale in (1.0, 1e5):
        features = pg.Gaussian(0.4 * scale, bounds=pg.Box(-9 * scale, 9 * scale, dim=2))
        mech = pg.LinearMap(turn, features)
        generator = pg.Linear(2, 2)
        fit(generator, pg.simulate(scale * plane, mech, seed=3), None, **LONG | {"lr": 2e-2})
        covariances.append(torch.cov(generator.sample(4000, seed=1).T / scale))
    assert torch.allclose(covariances[0], torch.diag(torch.tensor([1.0, 0.09])).double(), atol=0.12)
    assert torch.allclose(covariances[1], covariances[0], atol=1e-2)


def test_double_reports_that_single_precision_would_round_are_trained_on_in_double():
    class Steep(pg.sinkhorn.Cost):
        """Not invariant under shifts, as far as anyone knows."""

        def matrix(self, x, y):
            return (x[:, None, 0] - y[None, :, 0]).abs()

    seen = []

    class Loss(pg.EntropicLoss):
        def between(self, x, y, a=None):
            seen.append((x.dtype, y.dtype))
            return super().between(x, y, a)

    reports = pg.Laplace(0.3).privatize(1.7e9 + NUMBERS, seed=3)
    fit(pg.MLP(2, 1), reports, Loss(Steep(), 0.3), steps=1)
    assert seen == [(torch.float64, torch.float64)]


@pytest.mark.parametrize("bad", [{"batch_size": 600}, {"holdout": 0.0, "keep_best": True}])
def test_a_training_that_is_refused_leaves_the_generators_units_alone(bad):
    generator = model()
    before = {name: value.clone() for name, value in generator.state_dict().items()}
    with pytest.raises(ValueError, match=r"batch_size is 600|keep_best needs"):
        fit(generator, 1e4 * REPORTS, **bad)
    assert all(torch.equal(value, before[name]) for name, value in generator.state_dict().items())
