import json

import numpy as np
import pytest
import torch

import privgan as pg
from privgan.mechanisms import Bounds, Mechanism
from privgan.plain import digest, from_plain, to_plain


class Thing:
    """A kind of objects that a caller may allow."""


class Pair(Thing):
    """Holds what mechanisms may be made of: others, numbers, a tensor, a flag, words."""

    def __init__(self, *parts, matrix, bounds, name="pair", flag=True):
        self.parts, self.matrix, self.bounds = parts, matrix, bounds
        self.name, self.flag = name, flag


def there_and_back(value):
    return from_plain(
        json.loads(json.dumps(to_plain(value))),
        (Mechanism, Bounds, Thing),
    )


@pytest.mark.parametrize(
    "mechanism",
    [
        pg.Gaussian(0.1 + 0.2),
        pg.Laplace(1 / 3, bounds=pg.Box((0.0, -1 / 3), (1.0, 2.0))),
        pg.EuclideanLaplace(0.7, bounds=pg.Ball(1 / 7, dim=2, center=(0.0, 0.1))),
    ],
)
def test_numbers_survive_to_the_last_bit(mechanism):
    again = there_and_back(mechanism)
    assert type(again) is type(mechanism)
    assert vars(again).keys() == vars(mechanism).keys()
    assert again.reg == mechanism.reg
    assert repr(again) == repr(mechanism)
    assert repr(again.bounds) == repr(mechanism.bounds)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.int64])
def test_nested_parts_and_tensors_survive(dtype):
    matrix = torch.arange(6).reshape(2, 3).to(dtype) / (3 if dtype.is_floating_point else 1)
    matrix = matrix.to(dtype)
    pair = Pair(
        pg.Gaussian(0.1),
        pg.Laplace(2.0),
        matrix=matrix,
        bounds=(0.0, np.float64(1.5)),
        name=slice(0, 2),
    )
    again = there_and_back(pair)
    assert [repr(part) for part in again.parts] == ["Gaussian(sigma=0.1)", "Laplace(scale=2.0)"]
    assert torch.equal(again.matrix, matrix)
    assert again.matrix.dtype == dtype
    assert (again.bounds, again.name, again.flag) == ((0.0, 1.5), slice(0, 2), True)


def test_an_unknown_name_is_refused():
    with pytest.raises(ValueError, match="'system' is no known Mechanism"):
        from_plain({"object": "system", "arguments": {}}, (Mechanism,))


def test_arguments_are_checked_by_the_constructor():
    written = to_plain(pg.Laplace(1.0))
    with pytest.raises(ValueError, match="scale must be positive"):
        from_plain(written | {"arguments": {"scale": -1.0}}, (Mechanism,))
    with pytest.raises(ValueError, match="Laplace cannot be made from"):
        from_plain(written | {"arguments": {"sigma": 1.0}}, (Mechanism,))


def test_an_object_that_forgets_its_arguments_is_named():
    class Forgetful(pg.Laplace):
        def __init__(self, epsilon):
            super().__init__(1.0 / epsilon)

    with pytest.raises(TypeError, match=r"takes epsilon, which it does not keep"):
        to_plain(Forgetful(2.0))


def test_tensors_may_be_kept_beside_the_text():
    matrix = torch.randn(2, 3, generator=torch.Generator().manual_seed(0)).double()
    mech = pg.LinearMap(matrix, pg.Gaussian(1.0, bounds=pg.Ball(1.0, dim=2)))
    beside = {}
    text = json.dumps(to_plain(mech, beside))
    assert len(beside) == 1
    again = from_plain(json.loads(text), (Mechanism, Bounds), beside)
    assert torch.equal(again.matrix, matrix)


def test_a_digest_sees_every_number_and_nothing_else():
    def mech(scale=1.0, change=0.0):
        matrix = torch.ones(200, 300).double()
        matrix[100, 150] += change
        return pg.LinearMap(matrix, pg.Laplace(scale, bounds=pg.Box(-1.0, 1.0, dim=200)))

    assert digest(mech()) == digest(mech())
    others = [mech(scale=1.0 + 1e-15), mech(change=1e-12), pg.Laplace(1.0), [mech()], 1.0, 1, None]
    assert len({digest(value) for value in [mech(), *others]}) == 8
