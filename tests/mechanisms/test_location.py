"""Where the records lie, roughly, by their reports: in any units, whatever an outlier says."""

import numpy as np
import pytest
import torch

import privgan as pg
from privgan.mechanisms import Mechanism
from privgan.mechanisms.location import ROWS, some_rows, winsorised

F64 = torch.float64
ADDITIVE = [pg.Gaussian, pg.Laplace, pg.EuclideanLaplace]
additive = pytest.mark.parametrize("make", ADDITIVE, ids=lambda make: make.__name__)
# An offset in float64 must leave the digits of what is added to it.
UNITS = [(1e-9, 0.0), (1e-9, -1e-3), (1.0, 1.7e9), (4500.0, 5e4), (1e9, 0.0), (1e9, 1e9)]
units = pytest.mark.parametrize(("scale", "offset"), UNITS)


def records(n=5000, seed=0):
    """Two columns: mean 1 and -2, standard deviations 1 and 1 / sqrt(3)."""
    g = torch.Generator().manual_seed(seed)
    normal = torch.randn(n, 1, generator=g, dtype=F64) + 1.0
    return torch.cat([normal, 2 * torch.rand(n, 1, generator=g, dtype=F64) - 3.0], 1)


def moved(found, located, scale, offset):
    """Whether ``found`` is where ``located`` goes, but for digits that the offset itself rounds."""
    (centre, spread), lost = located, 4 * torch.finfo(F64).eps * torch.as_tensor(offset).abs()
    off = (found[0] - offset - scale * centre).abs()
    return (off <= 1e-6 * scale + lost).all() and torch.allclose(
        found[1], scale * spread, rtol=1e-6, atol=0.0
    )


@additive
@pytest.mark.parametrize("noise", [0.01, 0.3, 1.0])
def test_noise_is_taken_off(make, noise):
    """To a tenth, and a fifth where noise is as large as what it is added to."""
    mech = make(noise)
    centre, spread = mech.location(mech.privatize(records(50_000), seed=0))
    assert centre.dtype == spread.dtype == F64
    assert torch.allclose(centre, torch.tensor([1.0, -2.0], dtype=F64), atol=0.1)
    raw = torch.tensor([1.0, 3**-0.5], dtype=F64)
    assert torch.allclose(spread, raw, rtol=0.2 if noise == 1.0 else 0.1)


@additive
@units
def test_numbers_are_located_in_any_units(make, scale, offset):
    y = make(0.5).privatize(records(), seed=0)
    found = make(0.5 * scale).location(offset + scale * y)
    assert moved(found, make(0.5).location(y), scale, offset)


@units
def test_a_table_with_categories_is_located_in_any_units(scale, offset):
    label = slice(2, 5), pg.RandomizedResponse(3, 0.6)

    def table(unit):
        return pg.Product((slice(0, 2), pg.Laplace(0.5 * unit)), label)

    labels = torch.eye(3, dtype=F64)[torch.arange(5000) % 3]
    y = table(1.0).privatize(torch.cat([records(), labels], 1), seed=0)
    centre, spread = table(1.0).location(y)
    y[:, :2] = offset + scale * y[:, :2]
    found = table(scale).location(y)
    numbers = (found[0][:2], found[1][:2])
    assert moved(numbers, (centre[:2], spread[:2]), scale, offset)
    assert torch.equal(found[0][2:], torch.zeros(3, dtype=F64))
    assert torch.equal(found[1][2:], torch.ones(3, dtype=F64))


@units
def test_a_map_is_located_in_any_units(scale, offset):
    """The third column is seen by no feature."""
    matrix = torch.tensor([[2.0, 0.0, 0.0, 1.0], [0.0, 1.0, 0.0, -1.0]], dtype=F64)

    def mapped(unit, shift):
        low, high = shift - 40.0 * unit, shift + 40.0 * unit
        return pg.LinearMap(matrix, pg.Laplace(0.5 * unit, bounds=pg.Box(low, high, dim=2)))

    x = torch.cat([records(), records(seed=1)], 1)
    y = mapped(1.0, 0.0).privatize(x, seed=0)
    centre, spread = mapped(1.0, 0.0).location(y)
    found = mapped(scale, offset).location(offset + scale * y)
    shift = torch.linalg.pinv(matrix) @ torch.full((2,), offset, dtype=F64)
    assert moved(found, (centre, spread), scale, shift)
    assert torch.allclose(matrix @ centre, y.mean(0), atol=0.05)
    assert spread[2] == spread[[0, 1, 3]].median()
    assert (spread > 0).all()


def test_a_map_that_sees_nothing_still_spreads():
    mech = pg.LinearMap(torch.zeros(1, 2), pg.Laplace(1.0, bounds=pg.Box(-1.0, 1.0, dim=1)))
    centre, spread = mech.location(torch.randn(100, 1))
    assert torch.equal(centre, torch.zeros(2, dtype=F64))
    assert (spread > 0).all()


@additive
@pytest.mark.parametrize("n", [4, 100, 1000])
def test_one_outlier_changes_next_to_nothing(make, n):
    y = make(0.3).privatize(records(n), seed=0).float()
    centre, spread = make(0.3).location(y)
    y[n // 2] = 1e5
    found = make(0.3).location(y)
    assert ((found[0] - centre).abs() <= 2 * spread + 2).all()
    if n > 4:
        assert torch.allclose(found[0], centre, atol=0.1)
        assert torch.allclose(found[1], spread, rtol=0.15)


def test_a_sparse_column_keeps_its_tail():
    y = torch.zeros(10_000, 1, dtype=F64)
    y[::50] = 10.0  # 2% of them
    centre, spread = pg.Gaussian(1e-3).location(y)
    assert centre.item() == pytest.approx(0.2)
    assert spread.item() == pytest.approx(10.0 * (0.02 * 0.98) ** 0.5, rel=1e-3)


@additive
def test_spreads_are_positive_whatever_comes(make):
    for y in (torch.ones(1, 2), torch.ones(50, 2), torch.ones(3, 2) * 1e9, torch.zeros(2, 1)):
        _, spread = make(0.7).location(y)
        assert (spread > 0.1).all()
    noise = make(1.0).privatize(torch.zeros(20_000, 3, dtype=F64), seed=0)
    assert (make(1.0).location(noise)[1] >= 0.2 * winsorised(noise)[1].sqrt() * (1 - 1e-9)).all()


def test_bounds_bind():
    """Noise of a hundred intervals hides the records' spread, which their bounds tell."""
    box = pg.Box((0.0, 5.0), (1.0, 9.0))
    mech = pg.Laplace(100.0, bounds=box)
    centre, spread = mech.location(mech.privatize(box.clip(torch.rand(500, 2) * 9), seed=0))
    box.check(centre[None])
    assert (spread <= torch.tensor([0.5, 2.0])).all()
    for make in (pg.Piecewise, pg.SquareWave):
        centre, spread = make(1.0, bounds=box).location(torch.rand(500, 2))
        assert centre.tolist() == [0.5, 7.0]
        assert spread.tolist() == [0.5, 2.0]
    centre += 1.0  # the caller's own
    assert make(1.0, bounds=box).location(torch.rand(500, 2))[0].tolist() == [0.5, 7.0]


class Rounded(Mechanism):
    """Somebody's own, which says nothing of locations."""

    def __init__(self, dim=None, width=None):
        self.cost, self.reg, self.noise, self.recovery = pg.sinkhorn.L1(), 1.0, "", ""
        self.dim, self.width = dim, width

    def report_dim(self, d):
        return self.width or d

    def budget(self, sensitivity=None):
        return pg.mechanisms.Budget()

    def _draw(self, x, generator):
        return x.round()

    def _log_normaliser(self, y):
        return 0.0


def test_a_mechanism_of_ones_own_need_not_know_it():
    y = 100.0 + 10.0 * records()
    centre, spread = Rounded().location(y)
    assert torch.allclose(centre, y.mean(0), rtol=0.01)
    assert torch.allclose(spread, y.std(0), rtol=0.02)
    assert Rounded(3, width=2).location(y)[1].tolist() == [1.0] * 3
    assert Rounded().location(torch.ones(5, 1))[1].item() > 0


def test_rows_are_few_and_evenly_spread():
    y = torch.arange(3 * ROWS).reshape(-1, 1).float()
    assert torch.equal(some_rows(y), y[::3].double())
    assert 1000 <= len(some_rows(torch.zeros(12_000, 5000))) <= 2000
    assert len(some_rows(torch.zeros(7, 2))) == 7


def test_winsorised_moments_are_scipys():
    from scipy.stats.mstats import winsorize

    y = torch.randn(2001, 3, generator=torch.Generator().manual_seed(0), dtype=F64) ** 3
    clipped = np.asarray(winsorize(y.numpy(), limits=(0.005, 0.005), axis=0))
    mean, variance = winsorised(y)
    assert np.allclose(mean, clipped.mean(0))
    assert np.allclose(variance, clipped.var(0))


@pytest.mark.parametrize(
    ("mech", "reports", "message"),
    [
        (pg.Gaussian(1.0), torch.tensor([[np.nan]]), "reports has 1 non-finite row"),
        (pg.Gaussian(1.0), torch.zeros(3), "records are"),
        (pg.RandomizedResponse(3, 0.5), torch.zeros(3, 2), "reports has 2 columns, but .* 3"),
        (
            pg.LinearMap(np.ones((1, 2)), pg.Laplace(1.0, bounds=pg.Box(0.0, 1.0, dim=1))),
            torch.zeros(3, 2),
            "reports has 2 columns, but .* reports 1",
        ),
    ],
)
def test_bad_reports_are_named(mech, reports, message):
    with pytest.raises(ValueError, match=message):
        mech.location(reports)
