"""The hardened path: what it pays, what it refuses, and that its noise is the mechanism's."""

import inspect
import math
import sys
from fractions import Fraction

import mpmath
import numpy as np
import pytest
import torch
from scipy import stats

import privgan as pg
from privgan.artifact import data
from privgan.mechanisms import Budget, gaussian_epsilon
from privgan.reports.exact import GridNoise, Spent, _ones

DELTA = 1e-5
BOXES = [pg.Box(0.0, 1.0, dim=1), pg.Box((-3.0, 0.0), (5.0, 0.5)), pg.Box(0.0, 1.0, dim=50)]


def records(bounds, n=4, seed=0):
    low, high = torch.tensor(bounds.low), torch.tensor(bounds.high)
    fraction = torch.rand((n, bounds.dim), generator=torch.Generator().manual_seed(seed))
    return low + (high - low) * fraction


@pytest.mark.parametrize("epsilon", [0.5, 1.0, 8.0])
@pytest.mark.parametrize("bounds", BOXES, ids=lambda b: f"d{b.dim}")
def test_rounding_costs_next_to_nothing_and_is_stated(bounds, epsilon):
    x = records(bounds)
    laplace = pg.Laplace.calibrate(epsilon=epsilon, bounds=bounds)
    gaussian = pg.Gaussian.calibrate(epsilon=epsilon, delta=DELTA, bounds=bounds)
    for mechanism, delta in ((laplace, 0.0), (gaussian, DELTA)):
        reports = pg.release(x, mechanism, delta=delta)
        assert mechanism.epsilon(delta) < reports.epsilon < mechanism.epsilon(delta) * (1 + 1e-5)
        assert reports.delta == delta


@pytest.mark.parametrize(
    ("mechanism", "law"),
    [
        (pg.Laplace(0.7, bounds=BOXES[1]), stats.laplace(scale=0.7)),
        (pg.Gaussian(0.4, bounds=BOXES[1]), stats.norm(scale=0.4)),
    ],
)
def test_noise_is_the_mechanisms_on_a_grid(mechanism, law):
    x = records(BOXES[1], n=1500)
    values = pg.release(x, mechanism, delta=0.5).values
    assert values.dtype == torch.float64
    assert torch.equal((values * 2.0**23).round(), values * 2.0**23)  # 2^-22 is the finer grid
    # No seed: a threshold that chance meets once in a million runs.
    assert stats.kstest((values - x.double()).ravel().numpy(), law.cdf).pvalue > 1e-6


def test_there_is_no_seed_and_no_two_releases_agree():
    x, mechanism = torch.rand(3, 1), pg.Laplace(1.0, bounds=BOXES[0])
    assert not {"seed", "generator"} & set(inspect.signature(pg.release).parameters)
    assert not torch.equal(pg.release(x, mechanism).values, pg.release(x, mechanism).values)


def discrete_delta(epsilon, steps, shifts, reach=12.0):
    """The exact delta of discrete Gaussians on grids ``steps`` (in sigmas), by summation."""
    losses, masses = np.zeros(1), np.ones(1)
    for step, shift in zip(steps, shifts, strict=True):
        z = np.arange(-round(reach / step), round(reach / step) + 1) * step
        mass = np.exp(-z * z / 2) / np.exp(-z * z / 2).sum()
        move = round(shift / step) * step
        loss = ((z + move) ** 2 - z * z) / 2
        losses = (losses[:, None] + loss).ravel()
        masses = (masses[:, None] * mass).ravel()
    return (masses * -np.expm1(np.minimum(epsilon - losses, 0.0))).sum()


@pytest.mark.parametrize("delta", [1e-2, 1e-5])
@pytest.mark.parametrize(("steps", "shifts"), [((0.02,), (1.0,)), ((0.1, 0.05), (0.8, 1.5))])
def test_the_slack_covers_the_exact_discrete_noise(delta, steps, shifts):
    """On grids coarse enough to sum over, two blocks with grids of their own among them."""
    pairs = zip(steps, shifts, strict=True)
    spent = sum((Spent(grids=(GridNoise(1, step, mu),)) for step, mu in pairs), Spent())
    epsilon = spent.epsilon(delta)
    assert discrete_delta(epsilon, steps, shifts) <= delta
    continuous = gaussian_epsilon(delta, math.hypot(*shifts))
    assert continuous < epsilon < continuous + 0.3
    # On the grid of a release the two agree.
    fine = Spent(grids=(GridNoise(784, 2.0**-20, 2.0),))
    assert fine.epsilon(delta) == pytest.approx(gaussian_epsilon(delta, 2.0), rel=1e-6)


def test_categories_keep_their_chances():
    mechanism = pg.RandomizedResponse.calibrate(epsilon=2.0, k=3)
    x = torch.eye(3)[torch.zeros(3000, dtype=torch.long)]
    reports = pg.release(x, mechanism)
    assert reports.epsilon == pytest.approx(2.0, rel=1e-9)
    assert (reports.values.sum(1) == 1).all()
    expected = mechanism.log_density(torch.eye(3)[:1].double(), torch.eye(3).double())
    counts = reports.values.sum(0).numpy()
    assert stats.chisquare(counts, 3000 * expected[0].exp().numpy()).pvalue > 1e-6


@pytest.mark.parametrize("chance", [0.5, 1 / 3, 2.0**-70, 5e-324, 1 - 2.0**-53])
@pytest.mark.parametrize("short", [0, 1, 3])
def test_a_bit_is_one_exactly_below_its_chance(monkeypatch, chance, short):
    """Uniform digits agree with the chance's for some words, and lie beside them in the next."""
    numerator, denominator = chance.as_integer_ratio()
    words = []
    for _ in range(4):
        word, numerator = divmod(numerator << 64, denominator)
        words.append(word)
    last = [max(words[short] - 1, 0), words[short], min(words[short] + 1, 2**64 - 1)]
    drawn = iter([[word] * 3 for word in words[:short]] + [last])
    spent = []

    def urandom(size):
        spent.append(size)
        digits = next(drawn, [0] * 3)
        return np.array(digits, np.uint64).tobytes()[:size]

    monkeypatch.setattr("privgan.reports.exact.os.urandom", urandom)
    bits = _ones(chance, 3)
    value = [sum(w << (64 * (short - k)) for k, w in enumerate([*words[:short], e])) for e in last]
    # Below, equal in what was drawn so far (zeros follow), above.
    scale = 2 ** (64 * (short + 1))
    expected = [Fraction(v, scale) < Fraction(chance) for v in value]
    if numerator == 0 or short < 3:
        assert bits.tolist() == expected
    assert spent[0] == 24


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("epsilon", [1e-3, 1.0, 20.0])
def test_bits_are_released_at_their_own_chances_and_price(symmetric, epsilon):
    mechanism = pg.UnaryEncoding.calibrate(epsilon=epsilon, k=3, symmetric=symmetric)
    x = torch.eye(3)[torch.zeros(4000, dtype=torch.long)]
    reports = pg.release(x, mechanism)
    ones = reports.values.sum(0).tolist()
    for count, chance in zip(ones, (mechanism.keep, mechanism.flip, mechanism.flip), strict=True):
        assert stats.binomtest(int(count), 4000, chance).pvalue > 1e-6
    keep, flip = Fraction(mechanism.keep), Fraction(mechanism.flip)
    ratio = keep * (1 - flip) / ((1 - keep) * flip)
    exact = mpmath.log(mpmath.mpf(ratio.numerator) / ratio.denominator)
    assert exact <= reports.epsilon <= exact + 4e-12


def test_bits_of_one_release_are_their_own():
    mechanism = pg.UnaryEncoding(6, 0.5, 0.25)
    values = pg.release(torch.eye(6).repeat(500, 1), mechanism).values
    flips = values[torch.eye(6).repeat(500, 1) == 0].reshape(3000, 5).numpy()
    together = np.corrcoef(flips.T) - np.eye(5)
    assert abs(together).max() < 0.1
    again = pg.release(torch.eye(6).repeat(500, 1), mechanism).values
    assert not torch.equal(values, again)


@pytest.mark.parametrize("times", [1, 3])
def test_several_reports_of_a_record_compose(times):
    box = BOXES[1]
    x = records(box)
    laplace = pg.release(x, pg.Laplace(2.0, bounds=box), times=times)
    assert laplace.times == times
    assert len(laplace) == 4 * times
    assert laplace.epsilon == pytest.approx(times * pg.Laplace(2.0, bounds=box).epsilon(), rel=1e-5)
    gaussian = pg.Gaussian(2.0, bounds=box)
    tight = Budget(mu=times**0.5 * gaussian.budget().mu).epsilon(DELTA)
    released = pg.release(x, gaussian, delta=DELTA, times=times).epsilon
    assert tight < released < tight * (1 + 1e-5)
    narrow = pg.release(x, pg.Laplace(1e-4, bounds=box), times=times).values
    assert torch.allclose(narrow, x.double().repeat(times, 1), atol=0.01)
    assert len({tuple(row) for row in narrow.tolist()}) == 4 * times


def mixed():
    gaussian = pg.Gaussian.calibrate(epsilon=1.0, delta=DELTA, bounds=pg.Ball(1.0, dim=2))
    category = pg.RandomizedResponse.calibrate(epsilon=1.0, k=4)
    return pg.Product((slice(0, 2), gaussian), (slice(2, 6), category))


def features():
    laplace = pg.Laplace.calibrate(epsilon=2.0, bounds=pg.Box(0.0, 4.0, dim=4))
    return pg.LinearMap.dct(4, 2, laplace)


@pytest.mark.parametrize(
    ("mechanism", "x", "delta"),
    [
        (mixed(), torch.cat([torch.zeros(8, 2), torch.eye(4).repeat(2, 1)], 1), DELTA),
        (features(), torch.rand(8, 16), 0.0),
    ],
)
def test_a_curator_needs_nothing_but_the_file(tmp_path, mechanism, x, delta):
    pg.release(x, mechanism, delta=delta).save(tmp_path / "reports.npz")
    reports = pg.Reports.load(tmp_path / "reports.npz")
    assert reports.epsilon == pytest.approx(2.0, rel=1e-5)
    assert not reports.simulation
    assert "has spent epsilon 2.0000" in reports.describe()
    y = reports.values
    assert torch.equal(
        reports.mechanism.log_density(x.double(), y), mechanism.log_density(x.double(), y)
    )


def test_training_takes_released_reports():
    x = data.circle(200, seed=0)
    mechanism = pg.Laplace.calibrate(epsilon=10.0, bounds=pg.Box(-1.0, 1.0, dim=2))
    reports = pg.release(x, mechanism, clip=True)
    history = pg.fit(pg.MLP(2, 2, hidden=(8,)), reports, steps=3, batch_size=50)
    assert len(history.nll) > 0


def test_clipping_only_when_asked():
    x = torch.tensor([[0.5], [7.0]])
    mechanism = pg.Laplace(1e-3, bounds=BOXES[0])
    with pytest.raises(ValueError, match=r"x has 1 row outside .* row 1"):
        pg.release(x, mechanism)
    values = pg.release(x, mechanism, clip=True).values
    assert torch.allclose(values, torch.tensor([[0.5], [1.0]]).double(), atol=0.05)


class Quieter(pg.Laplace):
    """Its density is not its parent's, so its parent's sampler must not serve it."""


BOUNDED = pg.Laplace(1.0, bounds=BOXES[0])


@pytest.mark.parametrize(
    ("error", "message", "change"),
    [
        (ValueError, "x has 1 non-finite row", {"x": torch.tensor([[math.nan]])}),
        (ValueError, "x has 1 non-finite row", {"x": torch.tensor([[math.inf]])}),
        (ValueError, "has no bounds, so its noise promises", {"mechanism": pg.Laplace(1.0)}),
        (ValueError, "x has 2 columns", {"x": torch.zeros(1, 2)}),
        (ValueError, "at delta = 0", {"mechanism": pg.Gaussian(1.0, bounds=BOXES[0])}),
        (ValueError, "delta is a fraction", {"delta": 1.0}),
        (ValueError, "no exact sampler", {"mechanism": Quieter(1.0, bounds=BOXES[0])}),
        (
            ValueError,
            "no exact sampler",
            {"mechanism": pg.EuclideanLaplace(1.0, bounds=BOXES[0])},
        ),
        (ValueError, "times must be at least 1", {"times": 0}),
        (TypeError, "mechanism must be a Mechanism", {"mechanism": None}),
        (TypeError, "x has dtype int64", {"x": torch.zeros(1, 1, dtype=torch.int64)}),
    ],
)
def test_bad_input_releases_nothing(error, message, change):
    with pytest.raises(error, match=message):
        pg.release(**({"x": torch.zeros(1, 1), "mechanism": BOUNDED} | change))


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "opendp", None)
    monkeypatch.setitem(sys.modules, "opendp.prelude", None)
    with pytest.raises(ImportError, match="pip install opendp"):
        pg.release(torch.zeros(1, 1), BOUNDED)


@pytest.mark.parametrize("epsilon", [0.01, 1.0, 4.0])
def test_a_release_says_what_it_spent_to_the_last_digit_and_no_less(epsilon):
    mechanism = pg.mechanisms.SubsetSelection.calibrate(epsilon=epsilon, k=3)
    said = pg.release(torch.eye(3)[:1], mechanism).epsilon
    keep = Fraction(mechanism.keep)
    odds = keep * 2 / (1 - keep)
    with mpmath.workdps(90):
        spent = mpmath.log(mpmath.mpf(odds.numerator) / odds.denominator)
        assert spent <= said <= spent * (1 + mpmath.mpf(2) ** -52)
    assert said == pytest.approx(epsilon, rel=2e-14)
