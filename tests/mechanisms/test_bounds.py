import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import privgan as pg

DOMAINS = [
    pg.Box(0.0, 1.0, dim=3),
    pg.Box([-1.0, 0.0, 2.0], [1.0, 5.0, 2.5]),
    pg.Ball(1.5, dim=3),
    pg.Ball(0.2, center=[100.0, -3.0, 0.5]),
]
each = pytest.mark.parametrize("bounds", DOMAINS, ids=repr)


def around(bounds, n=2000, seed=0, dtype=torch.float64):
    """Points in and around a domain, whose clips reach its border everywhere."""
    g = torch.Generator().manual_seed(seed)
    x = 3 * torch.randn((n, bounds.dim), generator=g, dtype=dtype)
    return x * torch.tensor(bounds.widths, dtype=dtype) / 2 + torch.tensor(
        bounds.center, dtype=dtype
    )


def test_diameters():
    assert pg.Box(0.0, 1.0, dim=784).l1_diameter() == 784.0
    assert pg.Box(0.0, 1.0, dim=784).l2_diameter(784) == 28.0
    assert pg.Box([-1.0, 0.0], [2.0, 4.0]).l1_diameter() == 7.0
    assert pg.Box([-1.0, 0.0], [2.0, 4.0]).l2_diameter() == 5.0
    assert pg.Ball(1.5, dim=4).l2_diameter() == 3.0
    assert pg.Ball(1.5, dim=4).l1_diameter() == 6.0


@each
def test_no_two_records_are_further_apart_than_the_diameters(bounds):
    x = bounds.clip(around(bounds))
    assert torch.cdist(x, x, p=2.0).max() <= bounds.l2_diameter()
    assert torch.cdist(x, x, p=1.0).max() <= bounds.l1_diameter()
    assert torch.cdist(x, x, p=2.0).max() > 0.95 * bounds.l2_diameter()


@each
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_clipped_records_are_inside_and_inner_ones_untouched(bounds, dtype):
    x = around(bounds, dtype=dtype)
    clipped = bounds.clip(x)
    bounds.check(clipped)
    inside = ~bounds._outside(x).any(1)
    assert torch.allclose(clipped[inside], x[inside], rtol=1e-6)
    assert (clipped[~inside] != x[~inside]).any(1).all()
    assert clipped.dtype == dtype


@given(st.integers(0, 10_000))
@settings(max_examples=30, deadline=None)
def test_clipping_is_the_nearest_point(seed):
    for bounds in DOMAINS:
        x, others = around(bounds, 20, seed), bounds.clip(around(bounds, 200, seed + 1))
        nearest = (x - bounds.clip(x)).norm(dim=1)
        assert (torch.cdist(x, others).amin(1) >= nearest - 1e-9).all()


@each
def test_clipping_is_differentiable(bounds):
    x = around(bounds, 6, seed=3).requires_grad_()
    assert torch.autograd.gradcheck(bounds.clip, x)
    center = torch.tensor([bounds.center], dtype=torch.float64, requires_grad=True)
    bounds.clip(center).sum().backward()
    assert torch.equal(center.grad, torch.ones_like(center))


def test_the_first_row_outside_is_named():
    x = torch.tensor([[0.0, 1.0], [0.5, 1.5], [2.0, 0.0]])
    with pytest.raises(
        ValueError,
        match=r"x has 2 rows outside Box\(0.0, 1.0, dim=2\), the first at "
        r"row 1 \(column 1\); .*clip=True",
    ):
        pg.Box(0.0, 1.0, dim=2).check(x)
    with pytest.raises(ValueError, match=r"x has 1 row outside Ball.* at row 2;"):
        pg.Ball(1.9, dim=2).check(x)
    with pytest.raises(ValueError, match=r"raw has 2 columns and Box.* has 3; they must agree"):
        pg.Box(0.0, 1.0, dim=3).check(x, "raw")


@each
def test_arrays_are_clipped_and_checked_as_tensors_are(bounds):
    x = around(bounds, 50)
    clipped = bounds.clip(x.numpy())
    assert isinstance(clipped, np.ndarray)
    assert np.array_equal(clipped, bounds.clip(x).numpy())
    bounds.check(clipped)
    with pytest.raises(ValueError, match=r"x has \d+ rows outside"):
        bounds.check(x.numpy())
    bounds.check(x[:0])
    assert bounds.clip(x[:0]).shape == (0, 3)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("share", [1.0, 0.5])
def test_the_furthest_numbers_are_clipped(dtype, share):
    far = share * torch.finfo(dtype).max
    x = torch.tensor([[0.0, -far], [far, far]], dtype=dtype)
    found = pg.Ball(2.0, dim=2).clip(x)
    assert torch.allclose(found, torch.tensor([[0.0, -2.0], [2**0.5, 2**0.5]], dtype=dtype))
    assert pg.Box(-1.0, 2.0, dim=2).clip(x).tolist() == [[0.0, -1.0], [2.0, 2.0]]


@pytest.mark.parametrize("method", ["clip", "check"])
@pytest.mark.parametrize(
    ("x", "error", "message"),
    [
        (torch.zeros(4, 2), ValueError, r"^x has 2 columns and .* has 3; they must agree$"),
        (torch.zeros(1, 1), ValueError, "^x has 1 columns"),
        (torch.zeros(3), ValueError, r"^x has shape \(3,\); records are \(n, 3\), a row each$"),
        (np.zeros((2, 3), int), TypeError, "^x has dtype int64; convert it"),
        ("records", TypeError, "^x must be a numeric tensor or array, got a str$"),
        (torch.tensor([[0.0] * 3, [0.0, math.nan, 0.0]]), ValueError, r"row 1 \(column 1\): nan"),
        (torch.tensor([[0.0, -math.inf, 0.0]]), ValueError, r"^x has 1 non-finite row.* row 0"),
    ],
)
@each
def test_what_are_no_records_is_named(bounds, method, x, error, message):
    with pytest.raises(error, match=message):
        getattr(bounds, method)(x)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: pg.Box(0.0, 1.0), TypeError, "number of columns is missing: pass dim, or low and"),
        (lambda: pg.Ball(1.0), TypeError, "number of columns is missing: pass dim, or center"),
        (lambda: pg.Box(1.0, 1.0, dim=2), ValueError, "low must be below high.* for column 0"),
        (lambda: pg.Box([0, 3], [1, 2]), ValueError, "low must be below high, got 3.0.*column 1"),
        (lambda: pg.Box([0, 0], [1, 2, 3]), ValueError, "high has 3 numbers for 2 columns"),
        (lambda: pg.Box(torch.zeros(2), 1.0), TypeError, "low must be a public constant"),
        (
            lambda: pg.Box(0.0, np.ones(2)),
            TypeError,
            "high must be a public constant, not read off",
        ),
        (
            lambda: pg.Box([0.0, np.float64(1)], 2.0),
            TypeError,
            r"low\[1\] must be a public constant",
        ),
        (lambda: pg.Box(0.0, math.inf, dim=1), ValueError, "high must be finite"),
        (lambda: pg.Box(-1e308, 1e308, dim=1), ValueError, "^low and high must leave a domain"),
        (lambda: pg.Ball(1e301, dim=1), ValueError, "^radius and center must leave a domain"),
        (lambda: pg.Box("0", 1.0, dim=1), TypeError, "low must be a number"),
        (lambda: pg.Ball(0.0, dim=2), ValueError, "radius must be positive"),
        (lambda: pg.Ball(torch.tensor(1.0), dim=2), TypeError, "radius must be a public constant"),
        (lambda: pg.Box(0.0, 1.0, dim=2).l1_diameter(3), ValueError, "3 columns and Box"),
    ],
)
def test_bad_bounds_are_named(call, error, message):
    with pytest.raises(error, match=message):
        call()


@each
def test_a_diameter_of_other_columns_is_refused(bounds):
    for diameter in (bounds.l1_diameter, bounds.l2_diameter):
        assert diameter(3) == diameter()
        with pytest.raises(ValueError, match=r"x has 2 columns and .* has 3; they must agree"):
            diameter(2)
