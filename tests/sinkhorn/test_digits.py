"""Costs and gradients to a few units in the last place, at any offset, scale and distance."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from norms import COSTS, points

from privgan.sinkhorn import L1, Euclidean, SquaredL2, solve_samples


def exact(cost, x, y, plan):
    """Costs and a plan's gradient from differences in float64; and the sum of its terms' sizes."""
    x, y, plan = x.double(), y.double(), plan.double()
    differences = x[:, None] - y[None]
    squares = differences.square().sum(-1)
    if isinstance(cost, SquaredL2):
        matrix, slopes = squares, 2 * differences
    elif isinstance(cost, L1):
        matrix, slopes = differences.abs().sum(-1), differences.sign()
    else:
        matrix = squares.sqrt()
        slopes = torch.where(squares[..., None] > 0, differences / matrix[..., None], 0.0)
    terms = plan[..., None] * slopes
    return matrix, terms.sum(1), terms.abs().sum(1).amax()


def near(x, y):
    """Some points of y close to one of x, some at the same place."""
    y = x[: len(y)] + 1e-3 * y
    y[::3] = x[: len(y) : 3]
    return x, y


def clustered(x, y):
    x[::2] += 1e3
    y[::3] += 1e3
    return x, y


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("d", [1, 2, 8, 9, 100])
@pytest.mark.parametrize("arranged", [lambda x, y: (x, y), near, clustered])
def test_neither_offsets_nor_scales_nor_neighbours_cost_digits(dtype, d, arranged):
    """Every entry is right to a few units in its own last place."""
    x, y = arranged(points(20, d, 0), points(17, d, 1))
    plan = torch.rand((20, 17), generator=torch.Generator().manual_seed(2)).to(dtype) ** 20
    few = 16 * torch.finfo(dtype).eps
    for offset in (0.0, 1e4, 1e9):
        for scale in (1e-9, 1.0, 1e9):
            s, t = ((k * scale + offset).to(dtype) for k in (x, y))
            for cost in COSTS.values():
                matrix, gradient, size = exact(cost, s, t, plan)
                assert (cost.matrix(s, t) - matrix).abs().le(few * matrix).all()
                assert (cost.gradient(s, t, plan) - gradient).abs().max() <= few * size
                other = exact(cost, t, s, plan.T)
                assert (cost.gradient(t, s, plan.T) - other[1]).abs().max() <= few * other[2]


@st.composite
def problems(draw):
    n, m, d = draw(st.integers(1, 9)), draw(st.integers(1, 9)), draw(st.sampled_from([1, 3, 8, 9]))
    dtype = draw(st.sampled_from([torch.float32, torch.float64]))
    x, y = (points(k, d, draw(st.integers(0, 99)), dtype) for k in (n, m))
    x, y = ((64 * t).round() / 64 for t in (x, y))  # so that shifts and scales are exact, and meet
    return x, y, torch.rand((n, m), dtype=dtype, generator=torch.Generator().manual_seed(n))


@pytest.mark.parametrize("cost", COSTS.values(), ids=repr)
@given(problems(), st.integers(-(2**12), 2**12), st.integers(-30, 30), st.randoms())
def test_shifts_scales_and_orders_are_followed(cost, problem, shift, power, random):
    x, y, plan = problem
    matrix, gradient, size = exact(cost, x, y, plan)
    few = 16 * torch.finfo(x.dtype).eps
    close = {"rtol": few, "atol": 0.0}
    pull = {"rtol": 0.0, "atol": few * size.item() + 1e-300}
    found = cost.matrix(x, y), cost.gradient(x, y, plan)
    assert torch.allclose(found[0].double(), matrix, **close)
    assert torch.allclose(found[1].double(), gradient, **pull)
    # A shift that the points' own precision holds.
    assert torch.allclose(cost.matrix(x + shift, y + shift).double(), matrix, **close)
    assert torch.allclose(cost.gradient(x + shift, y + shift, plan).double(), gradient, **pull)
    # A power of two, which no rounding sees; costs are homogeneous.
    factor, degree = 2.0**power, 2 if isinstance(cost, SquaredL2) else 1
    scaled = cost.matrix(x * factor, y * factor) / factor**degree
    assert torch.allclose(scaled.double(), matrix, **close)
    scaled = cost.gradient(x * factor, y * factor, plan) / factor ** (degree - 1)
    assert torch.allclose(scaled.double(), gradient, **pull)
    rows = random.sample(range(len(x)), len(x))
    columns = random.sample(range(len(y)), len(y))
    turned = cost.matrix(x[rows], y[columns]).double(), plan[rows][:, columns]
    assert torch.allclose(turned[0], matrix[rows][:, columns], **close)
    turned = cost.gradient(x[rows], y[columns], turned[1]).double()
    assert torch.allclose(turned, gradient[rows], **pull)
    assert torch.allclose(cost.matrix(y, x).double(), matrix.T, **close)


@pytest.mark.parametrize("backend", ["dense", "streaming"])
@pytest.mark.parametrize("d", [9, 30])
def test_a_euclidean_certificate_holds_among_neighbours(backend, d):
    """Float32 points that nearly coincide: the plan of the potentials, summed in float64."""
    x = points(60, d, 0, torch.float32)
    y = x[:50] + 1e-4 * points(50, d, 1, torch.float32)
    r = solve_samples(x, y, Euclidean(), 0.05, tol=1e-3, backend=backend)
    matrix = exact(Euclidean(), x, y, torch.zeros(60, 50))[0]
    plan = ((r.f.double()[:, None] + r.g.double() - matrix) / 0.05).exp() / (60 * 50)
    error = (plan.sum(0) - 1 / 50).abs().sum() + (plan.sum(1) - 1 / 60).abs().sum()
    assert error <= 1.05 * r.error + 1e-4
