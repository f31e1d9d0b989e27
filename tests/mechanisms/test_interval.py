import math

import pytest
import torch

import privgan as pg

F64 = torch.float64
UNIT = pg.Box(0.0, 1.0, dim=1)


@pytest.mark.parametrize("epsilon", [0.001, 0.0099, 0.0101, 0.5, 1.0, 4.0, 8.0])
def test_the_square_wave_is_the_published_one(epsilon):
    e = math.exp(epsilon)
    b = (epsilon * e - e + 1) / (2 * e * (e - 1 - epsilon))
    mech = pg.SquareWave(epsilon, bounds=UNIT)
    assert mech.half / 2 == pytest.approx(b, rel=1e-8)
    x = torch.tensor([[0.3]], dtype=F64)
    y = torch.tensor([[0.3 + 0.99 * b], [0.3 + 1.01 * b], [1 + b]], dtype=F64)
    expected = [e / (2 * b * e + 1), 1 / (2 * b * e + 1), 1 / (2 * b * e + 1)]
    assert mech.log_density(x, y)[0].exp().tolist() == pytest.approx(expected, rel=1e-7)


@pytest.mark.parametrize("epsilon", [0.5, 1.0, 4.0, 8.0])
def test_piecewise_is_the_published_one(epsilon):
    half = math.exp(epsilon / 2)
    c, x = (half + 1) / (half - 1), 0.4
    mech = pg.Piecewise(epsilon, bounds=pg.Box(-1.0, 1.0, dim=1))
    low = (c + 1) / 2 * x - (c - 1) / 2
    inside = (math.exp(epsilon) - half) / (2 * half + 2)
    y = torch.tensor([[low + 1e-6], [low + c - 1 - 1e-6], [low - 1e-6], [c]], dtype=F64)
    expected = [inside, inside, inside / math.exp(epsilon), inside / math.exp(epsilon)]
    found = mech.log_density(torch.tensor([[x]], dtype=F64), y)[0].exp()
    assert found.tolist() == pytest.approx(expected)
    reports = mech.privatize(torch.full((200_000, 1), x, dtype=F64), seed=0)
    assert reports.mean().item() == pytest.approx(x, abs=4 * reports.std().item() / 200_000**0.5)


@pytest.mark.parametrize("make", [pg.Piecewise, pg.SquareWave])
def test_budgets_add_over_coordinates(make):
    box = pg.Box([0.0, -5.0, 2.0], [1.0, 5.0, 2.1])
    mech = make.calibrate(epsilon=1.0, bounds=box)
    assert mech.epsilon() <= 1.0
    assert mech.epsilon() == pytest.approx(1.0)
    words = mech.describe()
    assert "one coordinate  epsilon 0.3333" in words
    assert "whole record    epsilon 1" in words
    assert repr(eval(repr(mech), vars(pg))) == repr(mech)


@pytest.mark.parametrize("make", [pg.Piecewise, pg.SquareWave])
def test_reports_stay_in_their_range_and_others_are_impossible(make):
    mech = make(1.0, bounds=pg.Box(2.0, 4.0, dim=1))
    x = torch.tensor([[2.0], [4.0]]).repeat(20_000, 1)
    y = mech.privatize(x, seed=0)
    assert (y - 3.0).abs().max() <= mech.reach * (1 + 1e-6)
    assert torch.isfinite(mech.log_density(x[:2], y)).all()
    far = torch.tensor([[3.0 + 1.01 * mech.reach]])
    assert torch.equal(mech.log_density(x[:2], far), torch.full((2, 1), -math.inf))


@pytest.mark.parametrize("make", [pg.Piecewise, pg.SquareWave])
@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda make: make(0.0, bounds=UNIT), ValueError, "coordinate_epsilon must be positive"),
        (lambda make: make(1.0, bounds=pg.Ball(1.0, dim=1)), TypeError, "bounds must be a Box"),
        (lambda make: make(1.0, bounds=None), TypeError, "bounds must be a Box"),
        (lambda make: make.calibrate(epsilon=-1.0, bounds=UNIT), ValueError, "epsilon must be"),
        (lambda make: make.calibrate(epsilon=1.0, bounds=0.5), TypeError, "bounds must be a Box"),
        (lambda make: make(1.0, bounds=UNIT).epsilon(0.0, 1.0), ValueError, "leave sensitivity"),
        (
            lambda make: make(1.0, bounds=UNIT).privatize(torch.tensor([[1.5]])),
            ValueError,
            r"outside Box.*row 0 \(column 0\); ask",
        ),
    ],
)
def test_bad_input_is_named(make, call, error, message):
    with pytest.raises(error, match=message):
        call(make)
