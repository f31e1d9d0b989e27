"""One of several mechanisms for each record: each report is that of its own mechanism alone."""

import math

import pytest
import torch

import privgan as pg
from privgan.mechanisms import Blocks, Budget

F64 = torch.float64
BOX = pg.Box(-2.0, 3.0, dim=2)
SHARP, NOISY = pg.Gaussian(0.5, bounds=BOX), pg.Laplace(2.0, bounds=BOX)
FEATURE = pg.LinearMap(torch.tensor([[1.0, 0.5]]), pg.Laplace(0.3, bounds=pg.Box(-1, 1, dim=1)))
WAVE = pg.SquareWave(1.0, bounds=BOX)
ALL = Blocks(SHARP, FEATURE, NOISY)  # reports in columns 0:2, 2:3, 3:5 and their number in 5
OWN = {0: slice(0, 2), 1: slice(2, 3), 2: slice(3, 5)}


def records(n=9, seed=0):
    return torch.rand(n, 2, generator=torch.Generator().manual_seed(seed), dtype=F64) * 5 - 2


def reports(n=9, seed=1):
    """Of the three mechanisms in turn, then in no order."""
    return ALL.privatize(records(n), seed=seed).flip(0)


def test_a_report_has_columns_for_every_mechanism_and_a_number():
    assert ALL.dim == 2
    assert ALL.report_dim(2) == 6
    assert ALL.columns == tuple(OWN.values())
    x = records()
    centres = ALL.forward(x)
    features = (x @ torch.tensor([[1.0], [0.5]], dtype=F64)).clamp(-1, 1)
    assert torch.equal(centres, torch.cat([x, features, x, torch.zeros(9, 1)], 1))


def test_the_mechanisms_take_turns_and_leave_the_others_columns_empty():
    x = records(8)
    y = ALL.privatize(x, seed=3)
    assert y[:, -1].tolist() == [0, 1, 2, 0, 1, 2, 0, 1]
    for b, own in OWN.items():
        rows = y[b::3]
        assert (rows[:, own] != ALL.forward(x)[b::3, own]).all()
        others = [k for k in range(5) if k not in range(own.start, own.stop)]
        assert (rows[:, others] == 0.0).all()
    quiet = Blocks(*(pg.Gaussian(1e-9, bounds=BOX) for _ in range(2)))
    z = quiet.privatize(x, seed=0)
    assert torch.allclose(z[::2, :2], x[::2], atol=1e-7)
    assert torch.allclose(z[1::2, 2:4], x[1::2], atol=1e-7)


def test_a_report_is_split_off_to_its_mechanism():
    y = reports(4)  # of mechanisms 0, 2, 1, 0
    found = {m: (rows.tolist(), s) for rows, s, m in ALL.split(y)}
    assert found == {
        SHARP: ([0, 3], OWN[0]),
        FEATURE: ([2], OWN[1]),
        NOISY: ([1], OWN[2]),
    }
    assert [m for _, _, m in ALL.split(y[1:2])] == [NOISY]


def test_density_and_cost_are_those_of_a_reports_own_mechanism():
    x, y = records(5, seed=4), reports()
    density = ALL.log_density(x, y)
    cost = ALL.cost.matrix(ALL.forward(x), y)
    assert ALL.reg == 1.0
    for j, row in enumerate(y):
        b = int(row[-1])
        mechanism, own = ALL.mechanisms[b], row[None, OWN[b]]
        expected = mechanism.log_density(x, own)[:, 0]
        assert torch.allclose(density[:, j], expected, rtol=1e-12)
        matched = mechanism.cost.matrix(mechanism.forward(x), own)[:, 0] / mechanism.reg
        assert torch.allclose(cost[:, j], matched, rtol=1e-12)


def test_heat_reaches_every_mechanism():
    cost, reg = ALL.heated(4.0)
    x, y = ALL.forward(records(5)), reports()
    assert torch.allclose(cost.matrix(x, y) / reg, ALL.cost.matrix(x, y) / 4)


def test_the_gradient_is_that_of_the_cost():
    y = reports()
    x = ALL.forward(records(5, seed=4)).requires_grad_()
    plan = torch.rand(5, 9, generator=torch.Generator().manual_seed(0), dtype=F64)
    (expected,) = torch.autograd.grad(ALL.cost.matrix(x, y), x, plan)
    assert torch.allclose(ALL.cost.gradient(x.detach(), y, plan), expected)
    some = y[:, -1] != 1  # the feature's columns, and the number's, stay without
    found = ALL.cost.gradient(x.detach(), y[some], plan[:, some])
    assert (found[:, [2, 5]] == 0.0).all()
    assert (found[:, :2] != 0.0).all()


def test_columns_are_flat_or_shiftable_as_their_mechanisms_are():
    mixed = Blocks(WAVE, SHARP)
    assert mixed.cost.flat(5).tolist() == [True, True, False, False, False]
    assert mixed.cost.shiftable(5).tolist() == [False, False, True, True, False]


def test_the_budget_is_the_largest_in_either_part():
    pure = [pg.Laplace(scale, bounds=BOX) for scale in (2.0, 1.0, 4.0)]
    assert Blocks(*pure).budget() == Budget(pure=10.0)
    mixed = Blocks(pg.Gaussian(2.0, bounds=BOX), pure[0], pg.Gaussian(1.0, bounds=BOX))
    assert mixed.budget() == Budget(pure=5.0, mu=math.hypot(5.0, 5.0))
    with pytest.raises(ValueError, match=r"the budget of Blocks\(.*leave sensitivity out"):
        mixed.budget(1.0)


def test_records_are_placed_by_the_sharpest_reports_of_each_column():
    wide = pg.Box([-2.0, -20.0], [3.0, 20.0])
    one = pg.Gaussian(0.1, bounds=pg.Box([-9.0, -1.0], [9.0, 1.0]))
    other = pg.Gaussian(0.1, bounds=wide)
    x = torch.tensor([[1.0, 0.0], [-3.0, 0.1]], dtype=F64).repeat(400, 1)
    x += 0.3 * torch.randn(800, 2, generator=torch.Generator().manual_seed(0), dtype=F64)
    joint = Blocks(one, other)
    y = joint.privatize(x, seed=0, clip=True)
    placed = [m.location(y[rows][:, s]) for rows, s, m in joint.split(y)]
    centre, spread = joint.location(y)
    for k in range(2):
        sharpest = min(placed, key=lambda found, k=k: found[1][k])
        assert centre[k] == sharpest[0][k]
        assert spread[k] == sharpest[1][k]


def test_features_place_records_only_where_nothing_else_does():
    y = reports(300)
    sharp = y[:, -1] == 0
    centre, _ = Blocks(SHARP, FEATURE).location(
        torch.cat([y[y[:, -1] != 2][:, :3], y[y[:, -1] != 2][:, 5:]], 1)
    )
    assert torch.equal(centre, SHARP.location(y[sharp][:, :2])[0])
    alone = y[y[:, -1] == 1]
    assert torch.equal(ALL.location(alone)[0], FEATURE.location(alone[:, 2:3])[0])


def test_clipping_reaches_the_mechanisms_that_have_bounds():
    x = torch.full((4, 2), 9.0, dtype=F64)
    free = pg.Gaussian(1e-9)
    mixed = Blocks(free, pg.Gaussian(1e-9, bounds=BOX))
    y = mixed.privatize(x, seed=0, clip=True)
    assert torch.allclose(y[::2, :2], x[::2])
    assert torch.allclose(y[1::2, 2:4], torch.full((2, 2), 3.0, dtype=F64))
    assert (x == 9.0).all()
    with pytest.raises(ValueError, match=r"x has 2 rows outside Box"):
        mixed.privatize(x, seed=0)
    with pytest.raises(ValueError, match="x has 3 columns and records have 2"):
        mixed.privatize(torch.zeros(2, 3))


def test_what_no_mechanism_can_have_reported_is_refused():
    x, y = records(3), reports(6)
    y[2, -1] = 3.0
    with pytest.raises(ValueError, match=r"^y\[2\] does not end in the number of one of"):
        ALL.log_density(x, y)
    y[2, -1] = 0.5
    with pytest.raises(ValueError, match=r"^y\[2\] does not end"):
        ALL.log_density(x, y)
    response = pg.RandomizedResponse(3, 0.8)
    categories = Blocks(response, pg.RandomizedResponse(3, 0.6))
    bits = categories.privatize(torch.eye(3), seed=0)
    bits[1, 3:6] = 2.0
    with pytest.raises(ValueError, match="rows that are not bits"):
        categories.log_density(torch.eye(3), bits)
    bits = categories.privatize(torch.eye(3), seed=0)
    bits[1, :3] = 7.0  # which are not its own
    assert categories.log_density(torch.eye(3), bits).isfinite().all()


def test_mechanisms_of_one_number_of_columns_are_needed():
    with pytest.raises(ValueError, match=r"need one number of columns; these say \[2, 3\]"):
        Blocks(SHARP, pg.RandomizedResponse(3, 0.8))
    with pytest.raises(ValueError, match="need one number of columns"):
        Blocks(SHARP, dim=3)
    with pytest.raises(ValueError, match="need one number of columns"):
        Blocks(pg.Gaussian(1.0))
    with pytest.raises(TypeError, match=r"mechanisms\[1\] must be a Mechanism"):
        Blocks(SHARP, 2.0)
    assert Blocks(pg.Gaussian(1.0), pg.Laplace(1.0), dim=4).columns == (slice(0, 4), slice(4, 8))


def test_every_mechanism_is_in_the_words():
    words = ALL.describe()
    assert "one of 3 mechanisms for each record: normal, standard deviation 0.5" in words
    assert "Laplace, scale 2 " in words
    for mechanism in ALL.mechanisms:
        assert f"{mechanism!r}, {mechanism.recovery}" in words


def test_paired_costs_are_the_diagonal():
    x, y = ALL.forward(records()), reports()
    expected = ALL.cost.matrix(x, y).diagonal()
    assert torch.allclose(ALL.cost.paired(x, y), expected, atol=1e-12)
