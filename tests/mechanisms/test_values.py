"""Mechanisms, costs, bounds and budgets are values: equal when they mean the same, and frozen."""

import copy
import json
import pickle
from dataclasses import FrozenInstanceError, dataclass

import numpy as np
import pytest
import torch
from torch.overrides import TorchFunctionMode

import privgan as pg
from privgan.mechanisms import Bounds, Budget, Mechanism
from privgan.mechanisms.categorical import CategoryCost
from privgan.mechanisms.interval import BandCost
from privgan.mechanisms.product import BlockCost
from privgan.plain import digest, from_plain, to_plain
from privgan.sinkhorn import L1, Cost, Euclidean, SquaredL2, costs


def unit(dim=1):
    return pg.Box(0.0, 1.0, dim=dim)


def mixed():
    first = slice(0, 2), pg.Laplace(0.3, bounds=unit(2))
    return pg.Product(first, (slice(2, 5), pg.RandomizedResponse(3, 0.5)))


def mapped(entry=1.0, mechanism=None):
    matrix = torch.arange(6.0).reshape(2, 3)
    matrix[1, 2] = entry
    return pg.LinearMap(matrix, mechanism or pg.Gaussian(0.3, bounds=pg.Ball(2.0, dim=2)))


# Each is made twice, to be compared; no two of them are equal.
VALUES = [
    lambda: pg.Gaussian(0.3),
    lambda: pg.Gaussian(0.3, bounds=unit()),
    lambda: pg.Gaussian(0.3, bounds=pg.Ball(1.0, dim=1)),
    lambda: pg.Gaussian(np.nextafter(0.3, 1.0)),
    lambda: pg.Laplace(0.3),
    lambda: pg.EuclideanLaplace(0.3),
    lambda: pg.RandomizedResponse(3, 0.5),
    lambda: pg.RandomizedResponse(4, 0.5),
    lambda: pg.UnaryEncoding(3, 0.5, 0.1),
    lambda: pg.Piecewise(0.3, bounds=unit()),
    lambda: pg.SquareWave(0.3, bounds=unit()),
    lambda: pg.SquareWave(0.3, bounds=unit(2)),
    mixed,
    lambda: pg.Product((slice(0, 2), pg.Laplace(0.3, bounds=unit(2)))),
    mapped,
    lambda: mapped(1.0 + 1e-6),
    lambda: mapped(mechanism=pg.Gaussian(0.4, bounds=pg.Ball(2.0, dim=2))),
    lambda: pg.Box(0.0, 1.0, dim=3),
    lambda: pg.Box((0.0, -1.0), (1.0, 5.5)),
    lambda: pg.Ball(1.0, dim=3),
    lambda: pg.Ball(1.0, center=(0.0, 1.0, 0.0)),
    lambda: Budget(1.0, 0.5),
    lambda: Budget(1.0),
    SquaredL2,
    L1,
    Euclidean,
    lambda: CategoryCost(0.5, 0.25),
    lambda: CategoryCost(0.5, 0.26),
    lambda: BandCost(unit(), 1.0, 1.0, 0.2),
    lambda: BandCost(unit(), 1.0, 1.0, 0.2).T,
    lambda: CategoryCost(0.5, 0.25).T,
    lambda: mixed().cost,
    lambda: BlockCost([(slice(0, 2), L1(), 0.3)]),
]
each = pytest.mark.parametrize("make", VALUES, ids=lambda make: repr(make()))
KINDS = (Mechanism, Bounds, Cost, Budget)


@each
def test_values_made_alike_are_equal_and_hash_alike(make):
    assert make() == make()
    assert hash(make()) == hash(make())
    assert not make() != make()  # noqa: SIM202
    assert make() != "another thing"


def test_no_two_that_differ_are_equal():
    made = [make() for make in VALUES]
    assert len(set(made)) == len(made)
    assert sum(a == b for a in made for b in made) == len(made)
    assert len({repr(value) for value in made}) == len(made)
    assert len({digest(value) for value in made}) == len(made)


@each
def test_copies_and_what_is_pickled_are_equal(make):
    value = make()
    for again in (
        copy.copy(value),
        copy.deepcopy(value),
        *(pickle.loads(pickle.dumps(value, protocol)) for protocol in range(6)),
        from_plain(json.loads(json.dumps(to_plain(value))), KINDS),
    ):
        assert again == value
        assert hash(again) == hash(value)
        assert digest(again) == digest(value)
        assert repr(again) == repr(value)
        assert vars(again).keys() == vars(value).keys()


@each
def test_what_is_printed_makes_an_equal_one(make):
    if isinstance(make(), pg.LinearMap):  # prints a digest of its matrix
        return
    names = vars(pg) | vars(pg.mechanisms) | vars(pg.sinkhorn) | vars(costs) | globals()
    own = type(make())
    assert eval(repr(make()), names | {own.__name__: own}) == make()


@each
def test_attributes_cannot_be_set(make):
    value = make()
    for name in [*vars(value), "cost", "anything"]:
        with pytest.raises(FrozenInstanceError, match=name):
            setattr(value, name, None)
        with pytest.raises(FrozenInstanceError, match=name):
            delattr(value, name)
    assert value == make()


def test_equal_meaning_written_differently():
    assert pg.Gaussian(1) == pg.Gaussian(1.0) == pg.Gaussian(np.float32(1.0))
    assert pg.Box(0, 1, dim=2) == pg.Box([0.0, 0.0], [1.0, 1.0])
    assert pg.Ball(1, dim=2) == pg.Ball(1.0, center=(0, 0))
    assert pg.RandomizedResponse(np.int64(3), 0.5) == pg.RandomizedResponse(3, 0.5)
    parts = (slice(*np.array([0, 1])), pg.Laplace(1.0)), (slice(1, 2, 1), pg.Gaussian(1.0))
    assert pg.Product(*parts) == pg.Product(*reversed(parts))
    assert to_plain(pg.Product(*parts))["arguments"]["blocks"][0][0] == {"slice": [0, 1, None]}
    ball = pg.Gaussian(1.0, bounds=pg.Ball(1.0, dim=2))
    assert pg.LinearMap(np.eye(2), ball) == pg.LinearMap(torch.eye(2) * -1.0 * -1.0, ball)
    assert pg.Gaussian(1.0).cost == SquaredL2()
    for cost in (mixed().cost, CategoryCost(0.5, 0.25), BandCost(unit(), 1.0, 1.0, 0.2)):
        assert cost.T.T == cost != cost.T


def test_a_matrix_is_the_mechanisms_own():
    matrix = torch.eye(2, dtype=torch.float64)
    mech = pg.LinearMap(matrix, pg.Gaussian(1.0, bounds=pg.Ball(1.0, dim=2)))
    before = repr(mech), mech.forward(torch.ones(1, 2))
    matrix.zero_()
    assert repr(mech) == before[0]
    assert torch.equal(mech.forward(torch.ones(1, 2)), before[1])


# Other people's


class Plain(Cost):
    def matrix(self, x, y):
        return x @ y.T


class Weighted(Cost):
    def __init__(self, weights, name="weighted"):
        self.weights, self.name = weights, name

    def matrix(self, x, y):
        return (x * self.weights) @ y.T


class Doubled(pg.Laplace):
    def _noise(self, shape, dtype, generator):
        return 2 * super()._noise(shape, dtype, generator)


class ByBudget(pg.Laplace):
    def __init__(self, epsilon, width):
        super().__init__(width / epsilon)
        self.epsilon_given, self.width = epsilon, width


class Summed(Cost):
    def __init__(self, *weights, **others):
        self.total = sum(weights) + sum(others.values())

    def matrix(self, x, y):
        return self.total * (x @ y.T)


@dataclass(frozen=True)
class Scaled(pg.Laplace):
    factor: float = 1.0


def test_subclasses_are_values_with_no_more_ado():
    assert Plain() == Plain() != SquaredL2()
    assert len({Plain(), Plain(), Weighted(torch.ones(2)), Weighted(torch.ones(2))}) == 2
    assert Weighted(torch.ones(2)) != Weighted(torch.ones(2), "other")
    assert Weighted(torch.ones(2)) != Weighted(torch.tensor([1.0, 1.0 + 1e-7]))
    assert Weighted([np.ones(2), {"a": 1}]) == Weighted((np.ones(2), {"a": 1}))
    assert Doubled(1.0) == Doubled(1.0) != pg.Laplace(1.0)
    assert pg.Laplace(1.0) != Doubled(1.0)
    assert ByBudget(1.0, 2.0) == ByBudget(1.0, 2.0) != ByBudget(2.0, 4.0)
    assert Scaled(1.0, 2.0) == Scaled(1.0, 2.0) != Scaled(1.0, 3.0)
    for value in (Plain(), Weighted(torch.ones(2)), Doubled(1.0), ByBudget(1.0, 2.0)):
        assert pickle.loads(pickle.dumps(value)) == value == copy.deepcopy(value)
    assert repr(Plain()) == "Plain()"
    assert repr(Weighted(2.0)) == "Weighted(weights=2.0)"
    assert repr(Doubled(1.0)) == "Doubled(scale=1.0)"
    assert Summed(1, 2) == Summed(2, other=1) != Summed(1)
    assert repr(Summed(1, 2)) == "Summed(weights=Ellipsis, others=Ellipsis)"
    assert repr(ByBudget(1.0, 2.0)) == "ByBudget(epsilon=Ellipsis, width=2.0)"


# Constants


class Transfers(TorchFunctionMode):
    """Counts what makes a tensor of numbers, or takes one elsewhere."""

    MAKING = (torch.tensor, torch.as_tensor, torch.Tensor.new_tensor, torch.Tensor.to)

    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_function__(self, func, types, args=(), kwargs=None):
        self.count += func in self.MAKING
        return func(*args, **(kwargs or {}))


BOX = pg.Box((0.0, -1.0), (1.0, 5.5))
USES = {
    "box clip": (BOX, lambda v, x: v._clip(x)),
    "box outside": (BOX, lambda v, x: v._outside(x)),
    "ball clip": (pg.Ball(1.0, dim=2), lambda v, x: v._clip(x)),
    "ball outside": (pg.Ball(1.0, dim=2), lambda v, x: v._outside(x.double())),
    "map": (
        pg.LinearMap(np.eye(2), pg.Gaussian(1.0, bounds=BOX)),
        lambda v, x: v.forward(x),
    ),
    "band": (BandCost(BOX, 1.0, 1.0, 0.2), lambda v, x: v.matrix(x, x)),
}


@pytest.mark.parametrize("device", ["cpu", "meta"])
@pytest.mark.parametrize("name", USES)
def test_constants_go_to_a_device_once_and_are_no_part_of_the_value(name, device):
    value, use = copy.deepcopy(USES[name][0]), USES[name][1]
    x = torch.rand(3, 2, device=device)
    first = use(value, x)
    assert first.device.type == device
    with Transfers() as transfers:
        again = use(value, x)
    assert transfers.count == 0
    assert again.dtype == first.dtype
    assert use(value, x.double()).dtype in (torch.float64, torch.bool)
    assert value == USES[name][0]
    assert hash(value) == hash(USES[name][0])
    assert len(pickle.dumps(value)) == len(pickle.dumps(copy.deepcopy(USES[name][0])))


def test_constants_first_used_under_inference_mode_serve_autograd():
    mech = pg.LinearMap(np.eye(2), pg.Gaussian(1.0, bounds=BOX))
    with torch.inference_mode():
        mech.forward(torch.ones(1, 2))
    x = torch.full((1, 2), 0.5).requires_grad_()
    mech.forward(x).sum().backward()
    assert torch.equal(x.grad, torch.ones(1, 2))
