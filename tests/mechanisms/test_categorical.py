import math

import numpy as np
import pytest
import torch

import privgan as pg
from privgan.artifact import oracles
from privgan.mechanisms import one_hot
from privgan.sinkhorn import solve

F64 = torch.float64


def test_probabilities_are_the_textbook_ones():
    e = math.exp(1.5)
    response = pg.RandomizedResponse.calibrate(epsilon=1.5, k=7)
    assert response.keep == pytest.approx(e / (e + 6))
    assert response.log_density(torch.eye(7), torch.eye(7))[0, 1].exp() == pytest.approx(
        1 / (e + 6)
    )
    symmetric = pg.UnaryEncoding.calibrate(epsilon=1.5, k=7, symmetric=True)
    assert symmetric.keep == pytest.approx(math.exp(0.75) / (1 + math.exp(0.75)))
    assert symmetric.flip == pytest.approx(1 - symmetric.keep)
    optimised = pg.UnaryEncoding.calibrate(epsilon=1.5, k=7)
    assert (optimised.keep, optimised.flip) == (0.5, pytest.approx(1 / (e + 1)))


@pytest.mark.parametrize("epsilon", [1e-4, 0.1, 0.5, 1.0, 2.0, 4.0, 8.0, 20.0])
@pytest.mark.parametrize("k", [2, 10, 1000])
def test_calibration_spends_what_was_asked_and_no_more(epsilon, k):
    for mech in (
        pg.RandomizedResponse.calibrate(epsilon=epsilon, k=k),
        pg.UnaryEncoding.calibrate(epsilon=epsilon, k=k),
        pg.UnaryEncoding.calibrate(epsilon=epsilon, k=k, symmetric=True),
    ):
        assert mech.epsilon() <= epsilon
        assert mech.epsilon() == pytest.approx(epsilon, rel=1e-7)
        assert mech.epsilon(1e-5) == mech.epsilon()


def test_an_epsilon_beyond_float64_is_still_safe():
    assert pg.RandomizedResponse.calibrate(epsilon=800.0, k=3).epsilon() < 40.0


def test_the_channel_is_linear_in_probabilities():
    for mech in (pg.RandomizedResponse(5, 0.4), pg.UnaryEncoding(5, 0.6, 0.2)):
        p = torch.tensor([[0.1, 0.2, 0.3, 0.4, 0.0]], dtype=F64)
        y = mech.privatize(torch.eye(5, dtype=F64), seed=0)
        mixture = p @ mech.log_density(torch.eye(5, dtype=F64), y).exp()
        assert torch.allclose(mech.log_density(p, y).exp(), mixture)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_randomized_response_reaches_maximum_likelihood(seed):
    """10 categories at epsilon 1 from 100 000 reports: within 1.2 of the exact MLE's distance."""
    rng = np.random.default_rng(seed)
    raw = rng.dirichlet(np.full(10, 0.5 if seed % 2 else 2.0))  # some categories all but absent
    mech = pg.RandomizedResponse.calibrate(epsilon=1.0, k=10)
    reports = mech.privatize(one_hot(rng.choice(10, 100_000, p=raw), 10), seed=seed)
    channel = mech.log_density(torch.eye(10), torch.eye(10)).exp().double().numpy()
    best = oracles.maximum_likelihood(channel, reports.double().mean(0).numpy())
    generator = pg.Atoms(torch.eye(10))
    pg.fit(
        generator,
        reports,
        pg.EntropicLoss.matched(mech, tol=1e-3),
        steps=1000,
        batch_size=10_000,
        lr=0.3,
        holdout=0.0,
        progress=False,
    )
    learned = generator.weights.detach().double().numpy()
    assert abs(learned - raw).sum() <= 1.2 * abs(best - raw).sum()


def test_the_least_transport_value_over_weights_is_at_the_maximum_likelihood():
    """At the border of the simplex too, where no law gives exactly these reports."""
    mech = pg.RandomizedResponse(3, 0.5)
    reports = np.array([0.1, 0.4, 0.5])  # 0.1 is less than any law would give
    channel = mech.log_density(torch.eye(3), torch.eye(3)).exp().double()
    best = torch.from_numpy(oracles.maximum_likelihood(channel.numpy(), reports))
    assert best[0] < 1e-9
    b = torch.from_numpy(reports)

    def value(a):
        return solve(-channel.log(), 1.0, a, b, tol=1e-11, max_iter=100_000).value

    g = torch.Generator().manual_seed(0)
    others = torch.rand(20, 3, generator=g, dtype=F64).softmax(1)
    assert all(value(0.9 * best + 0.1 * other) > value(best) for other in others)


def test_a_network_that_gives_probabilities_learns_frequencies():
    raw = torch.tensor([0.55, 0.25, 0.15, 0.05])
    labels = torch.multinomial(raw, 30_000, True, generator=torch.Generator().manual_seed(0))
    mech = pg.UnaryEncoding.calibrate(epsilon=3.0, k=4)
    reports = mech.privatize(one_hot(labels, 4), seed=1)
    generator = pg.MLP(2, 4, hidden=(16,), categories=[slice(0, 4)])
    pg.fit(generator, reports, pg.EntropicLoss.matched(mech), steps=200, lr=1e-2, progress=False)
    frequencies = generator.sample(20_000, seed=0).mean(0)
    assert (frequencies - raw).abs().sum() < 0.06


GOOD = torch.eye(3)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda m: m.privatize(torch.tensor([[1.0, 0, 0], [0.5, 0.5, 0]])),
            ValueError,
            r"x has 1 rows that are not one category, the first at row 1; a record is",
        ),
        (lambda m: m.privatize(torch.ones(1, 3)), ValueError, "not one category"),
        (lambda m: m.privatize(torch.zeros(1, 3)), ValueError, "not one category"),
        (lambda m: m.privatize(torch.eye(4)), ValueError, "4 columns, but .* alphabet of k = 3"),
        (lambda m: m.privatize(GOOD, clip=True), ValueError, "categories cannot be clipped"),
        (lambda m: m.privatize(GOOD * torch.nan), ValueError, "non-finite"),
        (lambda m: m.epsilon(sensitivity=1.0), ValueError, "leave sensitivity out"),
        (lambda m: m.epsilon(delta=1.0), ValueError, r"delta must lie in \(0, 1\)"),
        (
            lambda m: m.log_density(2 * GOOD, GOOD),
            ValueError,
            r"not probabilities, the first at row 0",
        ),
        (lambda m: m.log_density(GOOD, 2 * GOOD), ValueError, r"not bits, the first at row 0"),
        (lambda m: pg.RandomizedResponse(3, 1 / 3), ValueError, "keep must exceed 1/k"),
        (lambda m: pg.RandomizedResponse(1, 0.9), ValueError, "k must be at least 2"),
        (lambda m: pg.RandomizedResponse(3, 1.0), ValueError, r"keep must lie in \(0, 1\)"),
        (lambda m: pg.UnaryEncoding(3, 0.3, 0.3), ValueError, "flip must be below keep"),
        (
            lambda m: pg.UnaryEncoding.calibrate(epsilon=-1.0, k=3),
            ValueError,
            "epsilon must be pos",
        ),
        (lambda m: pg.RandomizedResponse.calibrate(epsilon=0, k=3), ValueError, "epsilon must be"),
        (
            lambda m: pg.RandomizedResponse.calibrate(epsilon=1, k=3.0),
            TypeError,
            "k must be an int",
        ),
        (
            lambda m: one_hot([0, 3, 1], 3),
            ValueError,
            r"labels\[1\] is outside the alph",
        ),
        (lambda m: one_hot([0, -1], 3), ValueError, r"labels\[1\] is outside"),
        (lambda m: one_hot([0.0], 3), TypeError, "categories are integers"),
    ],
)
@pytest.mark.parametrize("mech", [pg.RandomizedResponse(3, 0.5), pg.UnaryEncoding(3, 0.6, 0.1)])
def test_bad_input_is_named(mech, call, error, message):
    with pytest.raises(error, match=message):
        call(mech)


@pytest.mark.parametrize(
    "mech", [pg.RandomizedResponse(4, 0.4), pg.UnaryEncoding(4, 0.5, 0.2)], ids=repr
)
def test_unbiased_rows_average_to_the_record(mech):
    category = torch.arange(4).repeat(50_000)
    rows = mech.unbiased(mech.privatize(torch.eye(4)[category], seed=0))
    means = torch.stack([rows[category == c].mean(0) for c in range(4)])
    # std of a row's entry is below 0.5 / (0.5 - 0.2); of a mean of 50 000 of them, below 0.01
    assert (means - torch.eye(4)).abs().max() < 0.04
    with pytest.raises(ValueError, match="y has 3 columns"):
        mech.unbiased(torch.eye(3))
