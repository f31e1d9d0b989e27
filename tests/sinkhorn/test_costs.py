import re

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.distance import cdist
from torch.utils._python_dispatch import TorchDispatchMode

import privgan as pg
from privgan.mechanisms.categorical import CategoryCost
from privgan.mechanisms.interval import BandCost
from privgan.mechanisms.product import BlockCost
from privgan.sinkhorn import L1, Cost, Euclidean, SquaredL2, solve_samples
from privgan.sinkhorn.costs import Transposed
from privgan.surroundings import full_precision

COSTS = {"sqeuclidean": SquaredL2(), "cityblock": L1(), "euclidean": Euclidean()}


class Lopsided(Cost):
    """Not symmetric: c(x, y) = sum_k exp(x_k - 2 y_k)."""

    def matrix(self, x, y):
        return (x[:, None, :] - 2 * y[None, :, :]).exp().sum(-1)


def points(n, d, seed, dtype=torch.float64, shift=0.0):
    g = torch.Generator().manual_seed(seed)
    return torch.randn((n, d), dtype=dtype, generator=g) + shift


@pytest.mark.parametrize("metric", COSTS)
@pytest.mark.parametrize("d", [1, 2, 3, 8, 9, 15, 16, 17, 784])
def test_matrix_agrees_with_scipy(metric, d):
    x, y = points(7, d, 0), points(5, d, 1)
    assert np.allclose(COSTS[metric].matrix(x, y), cdist(x, y, metric))


@pytest.mark.parametrize("metric", COSTS)
@pytest.mark.parametrize("d", [2, 784])
@pytest.mark.parametrize("shift", [10.0, 100.0, 1e4, 1e6, 1e9])
def test_float32_survives_a_common_shift(metric, d, shift):
    x, y = points(9, d, 0, torch.float32), points(8, d, 1, torch.float32)
    x, y = x + shift, y + shift  # rounds the points once; the reference sees the same ones
    expected = cdist(x.double(), y.double(), metric)
    assert np.allclose(COSTS[metric].matrix(x, y), expected, rtol=2e-6, atol=0)


@pytest.mark.parametrize("cost", [*COSTS.values(), Lopsided(), Lopsided().T], ids=repr)
@pytest.mark.parametrize("d", [2, 6])
def test_gradient_is_the_gradient_of_the_plans_total_cost(cost, d):
    x, y, plan = points(6, d, 0), points(4, d, 1), torch.rand(6, 4, dtype=torch.float64)
    step = 1e-6
    for i, k in [(0, 0), (5, d - 1), (3, 1)]:
        up, down = x.clone(), x.clone()
        up[i, k] += step
        down[i, k] -= step
        difference = (plan * (cost.matrix(up, y) - cost.matrix(down, y))).sum() / (2 * step)
        assert torch.isclose(cost.gradient(x, y, plan)[i, k], difference, rtol=1e-5, atol=1e-6)


def test_transposed_swaps_the_arguments():
    x, y = points(3, 2, 0), points(4, 2, 1)
    cost = Lopsided()
    assert torch.equal(cost.T.matrix(y, x), cost.matrix(x, y).T)
    assert cost.T.T is cost


@pytest.mark.parametrize("cost", COSTS.values(), ids=repr)
def test_coincident_points_have_zero_gradient(cost):
    x = points(3, 5, 0)
    assert torch.equal(cost.gradient(x, x, torch.eye(3, dtype=x.dtype)), torch.zeros_like(x))


@pytest.mark.parametrize("cost", COSTS.values(), ids=repr)
@pytest.mark.parametrize("d", [2, 20])
def test_matrix_is_differentiable_in_both_arguments(cost, d):
    x, y = points(4, d, 0).requires_grad_(), points(3, d, 1).requires_grad_()
    assert torch.autograd.gradcheck(cost.matrix, (x, y))


@pytest.mark.parametrize("cost", COSTS.values(), ids=repr)
@pytest.mark.parametrize("d", [3, 30])
def test_storage_given_is_used(cost, d):
    x, y, out = points(4, d, 0), points(3, d, 1), torch.empty(4, 3, dtype=torch.float64)
    assert cost.matrix_in(x, y, out).data_ptr() == out.data_ptr()
    assert torch.equal(out, cost.matrix(x, y))


def precisions():
    return (torch.backends.cuda.matmul.fp32_precision, torch.backends.mkldnn.matmul.fp32_precision)


class Products(TorchDispatchMode):
    """Notes the precision at which every matrix product is made."""

    def __init__(self):
        super().__init__()
        self.found = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func.overloadpacket in (torch.ops.aten.mm, torch.ops.aten.addmm):
            self.found.append(precisions())
        return func(*args, **(kwargs or {}))


def set_new():
    torch.backends.cuda.matmul.fp32_precision = "tf32"
    torch.backends.mkldnn.matmul.fp32_precision = "bf16"


def set_old():
    torch.backends.cuda.matmul.allow_tf32 = True


def set_all():
    torch.backends.fp32_precision = "tf32"


def set_one_of_them():
    torch.backends.mkldnn.matmul.fp32_precision = "bf16"


SWITCHES = [set_new, set_old, set_all, set_one_of_them]
SWITCHES.append(lambda: torch.set_float32_matmul_precision("medium"))


def reset():
    torch.backends.fp32_precision = "none"
    torch.set_float32_matmul_precision("highest")
    for switch in (torch.backends.cuda.matmul, torch.backends.mkldnn.matmul):
        switch.fp32_precision = "none"


@pytest.fixture(params=SWITCHES)
def lowered(request):
    """Matrix products allowed in low precision, by each of torch's switches."""
    reset()
    request.param()
    yield
    reset()


MAP = pg.LinearMap(torch.ones(2, 30), pg.Laplace(1.0, bounds=pg.Box(0.0, 1.0, dim=2)))
PLAN = torch.ones(4, 3, dtype=torch.float64)
MATMULS = {
    "matrix": lambda x, y: SquaredL2().matrix(x, y),
    "gradient": lambda x, y: SquaredL2().gradient(x, y, PLAN),
    "reduced": lambda x, y: SquaredL2().reduced_in(x, y, PLAN.clone()),
    "euclidean": lambda x, y: Euclidean().matrix(x, y),
    "category": lambda x, y: CategoryCost(0.5, 0.1).matrix(x.abs(), y.abs()),
    "category gradient": lambda x, y: CategoryCost(0.5, 0.1).gradient(x.abs(), y.abs(), PLAN),
    "map": lambda x, y: MAP.forward(x),
}


@pytest.mark.parametrize("use", MATMULS.values(), ids=MATMULS)
def test_matrix_products_are_in_full_precision_and_the_switches_as_before(use, lowered):
    x, y, before = points(4, 30, 0), points(3, 30, 1), precisions()
    assert set(before) != {"ieee"}
    with Products() as products:
        use(x, y)
    assert products.found
    assert set(products.found) == {("ieee", "ieee")}
    assert precisions() == before


def test_a_wider_switch_still_rules_afterwards():
    reset()
    try:
        for precision in ("tf32", "ieee"):
            torch.backends.fp32_precision = precision
            with full_precision():
                pass
            assert torch.backends.cuda.matmul.fp32_precision == precision
    finally:
        reset()


def test_shiftable_columns_are_those_in_which_no_cost_changes():
    rows = torch.eye(3, dtype=torch.float64)
    x, y = torch.cat([points(3, 3, 0), rows], 1), torch.cat([points(3, 3, 1), rows], 1)
    blocks = BlockCost(
        [
            (slice(0, 1), L1(), 2.0),
            (slice(1, 3), BlockCost([(slice(None, 1), SquaredL2(), 0.5)]), 1.0),
            (slice(3, 6), CategoryCost(0.5, 0.1), 1.0),
        ]
    )
    for cost in (*COSTS.values(), Lopsided(), blocks, blocks.T, Transposed(blocks)):
        found = cost.shiftable(6)
        assert found.dtype == torch.bool
        shift = torch.where(found, 7.0, 0.0)
        assert torch.allclose(cost.matrix(x + shift, y + shift), cost.matrix(x, y))
    assert L1().shiftable(2).tolist() == [True, True]
    assert blocks.shiftable(6).tolist() == [True, True, False, False, False, False]
    assert not Lopsided().shiftable(2).any()
    assert not BandCost(pg.Box(0.0, 1.0, dim=2), 1.0, 1.0, 0.2).T.shiftable(2).any()


@pytest.mark.parametrize("cost", COSTS.values(), ids=repr)
@pytest.mark.parametrize("d", [2, 30])
def test_points_that_require_gradients_are_fine_without_them(cost, d):
    x = points(4, d, 0).requires_grad_()
    with torch.no_grad():
        assert torch.allclose(cost.matrix(x, x), cost.matrix(x.detach(), x.detach()))


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


VIEWS = {
    "columns": lambda t: t.T.contiguous().T,
    "every other": lambda t: t.repeat_interleave(2, 0)[::2],
    "a window": lambda t: torch.cat([t, t], 1)[:, : t.shape[1]],
    "expanded": lambda t: t[:1].expand(len(t), -1),
    "one value": lambda t: t[:1, :1].expand(*t.shape),
    "graphs": lambda t: t.clone().requires_grad_() * 1.0,
}


@pytest.mark.parametrize("view", VIEWS.values(), ids=VIEWS)
@pytest.mark.parametrize("cost", COSTS.values(), ids=repr)
@pytest.mark.parametrize("d", [3, 20])
def test_how_points_lie_in_memory_does_not_matter(view, cost, d):
    x, y, plan = view(points(6, d, 0)), view(points(5, d, 1)), view(points(6, 5, 2))
    s, t, p = (k.detach().clone(memory_format=torch.contiguous_format) for k in (x, y, plan))
    assert torch.allclose(cost.matrix(x, y), cost.matrix(s, t), rtol=1e-13)
    gradient = cost.gradient(x, y, plan)
    assert torch.allclose(gradient, cost.gradient(s, t, p), rtol=1e-12)
    assert not gradient.requires_grad
    turned = torch.empty((5, 6), dtype=x.dtype).T
    assert torch.allclose(cost.matrix_in(s, t, turned), cost.matrix(s, t), rtol=1e-13)


@pytest.mark.parametrize("cost", COSTS.values(), ids=repr)
@pytest.mark.parametrize("d", [0, 3, 20])
@pytest.mark.parametrize(("n", "m"), [(0, 3), (3, 0), (0, 0), (1, 1)])
def test_nothing_costs_nothing(cost, d, n, m):
    x, y = points(n, d, 0), points(m, d, 0)
    assert torch.equal(cost.matrix(x, y), torch.zeros((n, m), dtype=x.dtype))
    assert torch.equal(cost.gradient(x, y, torch.ones((n, m), dtype=x.dtype)), 0.0 * x)


REFUSED = {
    "expected (n, d) and (m, d)": lambda c, x: c.matrix(x, x[:, :2]),
    "(n, d) and": lambda c, x: c.matrix(x[0], x),
    "convert one of them": lambda c, x: c.matrix(x, x.float()),
    "x has dtype torch.int64": lambda c, x: c.matrix(x.long(), x.long()),
    "plan has shape (2, 4)": lambda c, x: c.gradient(x, x, torch.ones((2, 4), dtype=x.dtype)),
    "plan is torch.float32": lambda c, x: c.gradient(x, x, torch.ones((4, 4))),
}


@pytest.mark.parametrize("message", REFUSED)
@pytest.mark.parametrize("cost", COSTS.values(), ids=repr)
@pytest.mark.parametrize("d", [3, 20])
def test_what_compiled_loops_would_read_past_is_refused(message, cost, d):
    with pytest.raises((TypeError, ValueError), match=re.escape(message)):
        REFUSED[message](cost, points(4, d, 0))


@pytest.mark.parametrize("cost", COSTS.values(), ids=repr)
@pytest.mark.parametrize("d", [64])
def test_no_path_holds_a_number_for_every_pair_and_column(cost, d):
    x, y = points(300, d, 0), points(200, d, 1)
    plan = torch.rand((300, 200), dtype=x.dtype)
    cost.gradient(x, y, plan)  # compiled
    with torch.profiler.profile(profile_memory=True) as profile:
        (cost.matrix(x.requires_grad_(), y) * plan).sum().backward()
    largest = max(abs(event.self_cpu_memory_usage) for event in profile.events())
    assert largest < 16 * 8 * 300 * 200  # matrices; of an operation, all that it makes


def test_threads_share_the_switches_of_precision():
    """The one that leaves last, not first, restores what both have found."""
    reset()
    torch.backends.cuda.matmul.fp32_precision = "tf32"
    first, second = full_precision(), full_precision()
    try:
        first.__enter__()
        second.__enter__()
        first.__exit__(None, None, None)
        assert precisions()[0] == "ieee"
        second.__exit__(None, None, None)
        assert precisions()[0] == "tf32"
    finally:
        reset()


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
