"""Reports of several mechanisms as one: each row keeps its values, and says whose it is."""

import pytest
import torch

import privgan as pg
from privgan.mechanisms import Blocks
from privgan.reports import Reports, together

F64 = torch.float64
BOX = pg.Box(-1.0, 2.0, dim=2)
SHARP, NOISY = pg.Gaussian(0.5, bounds=BOX), pg.Laplace(2.0, bounds=BOX)
X = torch.rand(7, 2, generator=torch.Generator().manual_seed(0), dtype=F64)
PARTS = [pg.simulate(X[:4], SHARP, seed=1), pg.simulate(X[4:], NOISY, seed=2)]


def test_every_row_has_its_values_the_others_means_and_its_number():
    joint = together(PARTS)
    one, other = (part.values for part in PARTS)
    assert joint.mechanism == Blocks(SHARP, NOISY)
    assert torch.equal(joint.values[:4, :2], one)
    assert torch.equal(joint.values[4:, 2:4], other)
    assert torch.allclose(joint.values[:4, 2:4], other.mean(0).expand(4, 2), rtol=1e-15)
    assert torch.allclose(joint.values[4:, :2], one.mean(0).expand(3, 2), rtol=1e-15)
    assert joint.values[:, 4].tolist() == [0, 0, 0, 0, 1, 1, 1]


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("second", [True, False])
def test_it_is_a_simulation_if_any_part_is(first, second):
    parts = [
        Reports(part.values, part.mechanism, simulation=said)
        for part, said in zip(PARTS, (first, second), strict=True)
    ]
    joint = together(tuple(parts))
    assert joint.simulation is (first or second)
    assert joint.epsilon is None


def test_single_precision_stays_where_all_parts_have_it():
    singles = [Reports(part.values.float(), part.mechanism, True) for part in PARTS]
    assert together(singles).values.dtype == torch.float32
    assert together([singles[0], PARTS[1]]).values.dtype == F64


def test_records_columns_are_those_of_a_mechanism_that_knows_them_or_of_the_reports():
    free = [pg.simulate(X, mechanism, seed=3) for mechanism in (pg.Gaussian(1.0), SHARP)]
    assert together(free).mechanism.dim == 2
    assert together([free[0], free[0]]).mechanism.dim == 2


def test_what_is_no_list_of_reports_is_left_alone():
    assert together(X) is X
    assert together(PARTS[0]) is PARTS[0]
    assert together(PARTS[:1]) is PARTS[0]
    rows = [[1.0, 2.0]]
    assert together(rows) is rows
    nothing = []
    assert together(nothing) is nothing


def test_other_things_and_other_records_in_the_list_are_refused():
    with pytest.raises(TypeError, match=r"^every one of the reports must be a Reports"):
        together([PARTS[0], X])
    categories = pg.simulate(torch.eye(3), pg.RandomizedResponse(3, 0.8), seed=0)
    with pytest.raises(ValueError, match=r"different numbers of columns: \[2, 3\]"):
        together([PARTS[0], categories])
