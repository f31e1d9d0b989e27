"""The least delta between two records, against closed forms and integrals of other kinds."""

import itertools
import math

import numpy as np
import pytest
import torch
from scipy import integrate, stats

import privgan as pg
from privgan.audit.experiments import (
    CELLS,
    NOTHING,
    euclidean_laplace,
    experiments,
    laplace,
    together,
)
from privgan.mechanisms import gaussian_delta

F64 = torch.float64


@pytest.mark.parametrize(
    ("t", "epsilon"), [*itertools.product([1e-6, 0.1, 1.0, 30.0], [0.0, 0.5, 1.0])]
)
def test_one_laplace_coordinate_is_the_closed_form(t, epsilon):
    epsilon *= t
    expected = -math.expm1((epsilon - t) / 2)
    assert laplace(t, epsilon).delta(epsilon) == pytest.approx(expected, rel=1e-9, abs=1e-16)


def laplace_delta(epsilon, t):
    """Of one coordinate, at any epsilon."""
    if epsilon <= -t:
        return -math.expm1(epsilon)
    return max(0.0, -math.expm1((epsilon - t) / 2))


@pytest.mark.parametrize(
    ("first", "second", "epsilon"), [(1, 1, 0.5), (1, 0.3, 1.2), (5, 3, 4.0), (0.1, 0.1, 0.15)]
)
def test_two_coordinates_are_the_integral_over_one(first, second, epsilon):
    def rest(loss):
        return math.exp(-(first - loss) / 2) / 4 * laplace_delta(epsilon - loss, second)

    ends = [-first, *sorted({epsilon - second, epsilon + second}), first]
    ends = [e for e in ends if -first <= e <= first]
    inner = sum(integrate.quad(rest, a, b, epsabs=1e-14)[0] for a, b in itertools.pairwise(ends))
    atoms = laplace_delta(epsilon - first, second) / 2
    atoms += math.exp(-first) / 2 * laplace_delta(epsilon + first, second)
    found = together([(laplace(first, epsilon), 1), (laplace(second, epsilon), 1)]).delta(epsilon)
    assert found <= (inner + atoms) * (1 + 1e-12)
    assert found == pytest.approx(inner + atoms, rel=1e-6)


@pytest.mark.parametrize(("t", "d", "epsilon"), [(1.0, 2, 0.5), (4.0, 2, 3.0), (2.0, 3, 1.9)])
def test_euclidean_laplace_is_the_integral_over_radius_and_angle(t, d, epsilon):
    r = np.linspace(0, 60, 40_001)[1:, None]
    angle = (np.arange(400) + 0.5) * math.pi / 400
    loss = np.sqrt(r * r + t * t - 2 * r * t * np.cos(angle)) - r
    weight = np.sin(angle) ** (d - 2)
    mean = (weight * -np.expm1(np.minimum(epsilon - loss, 0.0))).sum(1) / weight.sum()
    expected = integrate.trapezoid(mean * stats.gamma(d).pdf(r[:, 0]), r[:, 0])
    found = euclidean_laplace(t, d, epsilon)
    assert found.delta(epsilon) == pytest.approx(expected, rel=1e-3)
    assert found.p.sum() == pytest.approx(1.0, abs=1e-10)
    assert found.q.sum() == pytest.approx(1.0, abs=1e-10)
    # Every cell's ratio lies between its ends, so that p is q turned round.
    assert np.abs(found.loss).max() <= t * (1 + 1e-6)


CATEGORIES = [pg.RandomizedResponse(4, 0.5), pg.UnaryEncoding(4, 0.6, 0.2)]


@pytest.mark.parametrize("mechanism", CATEGORIES, ids=repr)
@pytest.mark.parametrize("epsilon", [0.0, 0.3, 1.0])
def test_categories_are_the_sum_over_all_reports(mechanism, epsilon):
    rows = torch.eye(4, dtype=F64)
    every = torch.tensor(list(itertools.product((0.0, 1.0), repeat=4)), dtype=F64)
    reports = rows if isinstance(mechanism, pg.RandomizedResponse) else every
    p, q = mechanism.log_density(rows[:2], reports).exp()
    expected = (p - math.exp(epsilon) * q).clamp(min=0.0).sum().item()
    told = together(experiments(mechanism, rows[0], rows[1], epsilon))
    assert told.delta(epsilon) == pytest.approx(expected, rel=1e-12)
    assert told.largest == pytest.approx(mechanism.epsilon(), rel=1e-12)


@pytest.mark.parametrize("make", [pg.Piecewise, pg.SquareWave])
@pytest.mark.parametrize("ends", [(0.0, 1.0), (0.4, 0.6)])
def test_bands_are_the_sum_over_cells_of_reports(make, ends):
    mechanism = make(1.0, bounds=pg.Box(0.0, 1.0, dim=1))
    x = torch.tensor(ends, dtype=F64)[:, None]
    reach = mechanism.reach / 2
    y = 0.5 + reach * torch.linspace(-1, 1, 200_001, dtype=F64)[:, None]
    p, q = mechanism.log_density(x, y).exp()
    for epsilon in (0.0, 0.6):
        expected = (p - math.exp(epsilon) * q).clamp(min=0.0).sum().item() * 2 * reach / 200_000
        told = together(experiments(mechanism, x[0], x[1], epsilon))
        assert told.delta(epsilon) == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize(("epsilon", "mu"), [(0.0, 0.5), (1.0, 0.7), (8.0, 3.0), (2.0, 0.3)])
def test_gaussian_noise_beside_nothing_is_the_closed_form(epsilon, mu):
    assert NOTHING.delta(epsilon, mu) == pytest.approx(gaussian_delta(epsilon, mu), rel=1e-9)


def test_gaussian_noise_beside_a_category_mixes_its_curves():
    """P and Q are mixtures over the category: their deltas mix at epsilon less what it tells."""
    told = together(experiments(CATEGORIES[0], torch.eye(4)[0], torch.eye(4)[1], 1.0))
    loss = math.log(0.5 / (0.5 / 3))

    def curve(epsilon):  # also below 0, where delta is what is left over
        if epsilon >= 0.0:
            return gaussian_delta(epsilon, 0.8)
        return 1 - math.exp(epsilon) * (1 - gaussian_delta(-epsilon, 0.8))

    parts = [(0.5, 1.0 - loss), (0.5 / 3, 1.0 + loss), (1.0 / 3, 1.0)]
    expected = sum(p * curve(epsilon) for p, epsilon in parts)
    assert told.delta(1.0, 0.8) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("n", [2, 10, 784])
def test_many_coordinates_are_never_told_more_of_than_there_is(n):
    """Their sum of losses is nearly normal; and fewer, larger cells tell less."""
    t = 3.0 / n**0.5
    told = together([(laplace(t, 2.0), n)])
    assert len(told.p) <= CELLS
    assert told.p.sum() == pytest.approx(1.0, abs=1e-9)
    assert told.q.sum() == pytest.approx(1.0, abs=1e-9)
    assert told.delta(2.0) <= gaussian_delta(2.0, 3.0) * (1 + 1e-12)
    if n == 784:
        losses = np.random.default_rng(0).laplace(size=(20_000, n))
        losses = (np.abs(losses - t) - np.abs(losses)).sum(1)
        drawn = -np.expm1(np.minimum(2.0 - losses, 0.0))
        assert told.delta(2.0) == pytest.approx(drawn.mean(), abs=4 * drawn.std() / 20_000**0.5)


def test_of_what_is_not_known_nothing_is_told():
    class Own(pg.Laplace):
        pass

    own = Own(1.0, bounds=pg.Box(0.0, 1.0, dim=1))
    assert experiments(own, torch.zeros(1), torch.ones(1), 1.0) == []
