"""What mechanisms have in common: how they are made, the grid of their bounds, named arguments."""

import pytest
import torch

import privgan as pg

F64 = torch.float64
BOX = pg.Box([0.0, -1.0], [1.0, 2.0])


def test_the_grid_is_cells_middles_across_the_widest_column():
    grid = pg.Gaussian(1.0, bounds=BOX).grid(3)
    expected = torch.tensor([[0.5, -0.5], [0.5, 0.5], [0.5, 1.5]], dtype=F64)
    assert grid.dtype == F64
    assert torch.allclose(grid, expected, rtol=1e-15)
    far = pg.Laplace(1.0, bounds=pg.Box(1.7e9, 1.7e9 + 1, dim=1)).grid(4)
    assert (far[:, 0] - 1.7e9).tolist() == [0.125, 0.375, 0.625, 0.875]
    assert torch.equal(pg.RandomizedResponse(3, 0.8).grid(100), torch.eye(3, dtype=F64))
    with pytest.raises(ValueError, match="has no bounds to lay a grid over"):
        pg.Gaussian(1.0).grid(3)


@pytest.mark.parametrize(
    "make", [pg.Gaussian, pg.Laplace, pg.EuclideanLaplace, pg.Piecewise, pg.SquareWave]
)
def test_bounds_are_given_by_name(make):
    with pytest.raises(TypeError, match="positional argument"):
        make(1.0, BOX)


@pytest.mark.parametrize(
    ("name", "call"),
    [
        ("sigma", lambda bad: pg.Gaussian(bad)),
        ("scale", lambda bad: pg.Laplace(bad)),
        ("scale", lambda bad: pg.EuclideanLaplace(bad)),
        ("coordinate_epsilon", lambda bad: pg.SquareWave(bad, bounds=BOX)),
        ("epsilon", lambda bad: pg.SquareWave.calibrate(epsilon=bad, bounds=BOX)),
        ("epsilon", lambda bad: pg.Laplace.calibrate(epsilon=bad, bounds=BOX)),
        ("epsilon", lambda bad: pg.RandomizedResponse.calibrate(epsilon=bad, k=3)),
        ("epsilon", lambda bad: pg.UnaryEncoding.calibrate(epsilon=bad, k=3)),
        ("epsilon", lambda bad: pg.Product.calibrate(epsilon=bad)),
        ("sensitivity", lambda bad: pg.Laplace(1.0).budget(bad)),
        ("sensitivity", lambda bad: pg.Laplace.calibrate(epsilon=1.0, sensitivity=bad)),
        ("keep", lambda bad: pg.RandomizedResponse(3, bad)),
        ("keep", lambda bad: pg.UnaryEncoding(3, bad, 0.1)),
        ("flip", lambda bad: pg.UnaryEncoding(3, 0.9, bad)),
        ("radius", lambda bad: pg.Ball(bad, dim=2)),
    ],
)
def test_a_setting_that_is_not_positive_is_named(name, call):
    with pytest.raises(ValueError, match=rf"^{name} must be positive"):
        call(-1.0)
    with pytest.raises(TypeError, match=rf"^{name} must be a"):
        call(torch.zeros(2) if name in ("sensitivity", "radius") else "1")


@pytest.mark.parametrize(
    ("name", "call"),
    [
        ("x", lambda bad, good: pg.Gaussian(1.0).privatize(bad)),
        ("reports", lambda bad, good: pg.Gaussian(1.0).location(bad)),
        ("x", lambda bad, good: pg.Gaussian(1.0).log_density(bad, good)),
        ("y", lambda bad, good: pg.Gaussian(1.0).log_density(good, bad)),
        ("matrix", lambda bad, good: pg.LinearMap(bad, pg.Laplace(1.0, bounds=BOX))),
    ],
)
def test_rows_that_are_not_finite_are_named_as_the_argument_is(name, call):
    good = torch.ones(2, 2)
    bad = good.clone()
    bad[1, 0] = torch.nan
    with pytest.raises(ValueError, match=rf"^{name} has 1 non-finite row, the first at row 1"):
        call(bad, good)


def test_a_sigma_whose_square_is_no_number_is_refused():
    with pytest.raises(ValueError, match=r"^sigma is 1e-170, and float64 does not hold the budget"):
        pg.Gaussian(1e-170)


def test_records_that_clipping_left_outside_are_not_reported(monkeypatch):
    """The budget rests on it, whatever becomes of the clipping."""
    mech = pg.Laplace(1.0, bounds=BOX)
    x = torch.tensor([[0.5, 0.0], [0.5, 5.0]])
    assert mech.privatize(x, seed=0, clip=True).shape == (2, 2)
    monkeypatch.setattr(pg.Box, "clip", lambda self, x: x)
    with pytest.raises(ValueError, match=r"x has 1 row outside Box.* row 1"):
        mech.privatize(x, seed=0, clip=True)
