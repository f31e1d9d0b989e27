import math
from itertools import pairwise

import numpy as np
import ot
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from privgan.artifact import oracles
from privgan.sinkhorn import L1, SquaredL2, solve, solve_samples

F64 = torch.float64


def problem(n, m, d, seed=0, dtype=F64, std=1.0):
    g = torch.Generator().manual_seed(seed)
    x = torch.rand((n, d), dtype=dtype, generator=g)
    y = torch.rand((m, d), dtype=dtype, generator=g)
    return x, y + std * torch.randn((m, d), dtype=dtype, generator=g)


def weights(n, seed):
    w = torch.rand(n, dtype=F64, generator=torch.Generator().manual_seed(seed)) + 0.1
    return w / w.sum()


@pytest.mark.parametrize("ratio", [0.1, 1.0, 10.0])
def test_two_points_closed_form(ratio):
    cost = torch.tensor([[0.0, 1.0], [1.0, 0.0]], dtype=F64)
    r = solve(cost, ratio, tol=1e-12)
    plan = oracles.two_point_plan(1.0, ratio)
    assert np.allclose(r.plan(), plan)
    assert np.isclose(r.value.item(), oracles.regularised_value(plan, cost.numpy(), ratio))


@pytest.mark.parametrize("seed", range(3))
def test_agrees_with_pot_and_the_log_domain_reference(seed):
    x, y = problem(9, 7, 3, seed)
    a, b = weights(9, seed), weights(7, seed + 1)
    cost = SquaredL2().matrix(x, y)
    r = solve(cost, 0.3, a, b, tol=1e-12, max_iter=100_000)
    assert r.converged
    pot = ot.sinkhorn(a.numpy(), b.numpy(), cost.numpy(), 0.3, stopThr=1e-13, numItermax=100_000)
    assert np.allclose(r.plan(), pot, atol=1e-10)
    assert np.isclose(r.value.item(), oracles.regularised_value(pot, cost.numpy(), 0.3))
    f, g = oracles.log_domain_sinkhorn(cost.numpy(), 0.3, a.numpy(), b.numpy())
    shift = r.f[0].item() - f[0]  # potentials are unique up to a constant
    assert np.allclose(r.f, f + shift)
    assert np.allclose(r.g, g - shift)


@given(
    n=st.integers(1, 12),
    m=st.integers(1, 12),
    d=st.integers(1, 6),
    reg=st.floats(0.05, 50.0),
    seed=st.integers(0, 10_000),
)
@settings(max_examples=60, deadline=None)
def test_rows_are_exact_and_the_certificate_is_the_column_error(n, m, d, reg, seed):
    x, y = problem(n, m, d, seed)
    r = solve_samples(x, y, L1(), reg, tol=1e-6, max_iter=300)
    plan = r.plan()
    assert torch.allclose(plan.sum(1), torch.full((n,), 1 / n, dtype=F64))
    assert abs((plan.sum(0) - 1 / m).abs().sum().item() - r.error) < 1e-9
    assert r.converged == (r.error <= 1e-6)


@pytest.mark.parametrize("cost", [SquaredL2(), L1()], ids=repr)
@pytest.mark.parametrize("std", [0.2, 1.0, 5.0])
def test_high_dimensional_float32_stays_finite_and_right(cost, std):
    x, y = problem(48, 40, 784, 1, torch.float32, std)
    reg = 2 * std**2 if isinstance(cost, SquaredL2) else std / 2**0.5
    r = solve_samples(x, y, cost, reg, tol=1e-3, max_iter=20_000)
    assert r.converged
    exact = solve_samples(x.double(), y.double(), cost, reg, tol=1e-7, max_iter=200_000)
    assert np.isclose(r.value.item(), exact.value.item(), rtol=1e-4)
    assert (r.plan() - exact.plan()).abs().sum() < 0.05


@pytest.mark.parametrize("reg", [1e-3, 1e-2])
def test_tiny_regularisation_approaches_exact_transport(reg):
    x, y = problem(30, 30, 2, 3, std=0.1)
    cost = SquaredL2().matrix(x, y)
    r = solve(cost, reg, tol=1e-4, max_iter=100_000)
    assert r.converged
    exact = ot.emd2(np.full(30, 1 / 30), np.full(30, 1 / 30), cost.numpy())
    assert 0 <= r.value.item() - exact <= reg * np.log(30) + 1e-6


@pytest.mark.parametrize("dtype", [torch.float32, F64])
def test_a_drift_beyond_the_float_range_is_absorbed(dtype):
    # One far report: its column's scaling leaves float32's range within a few iterations.
    x = torch.linspace(0, 1, 40, dtype=dtype)[:, None]
    y = torch.cat([x[:-1] + 0.01, torch.full((1, 1), 12.0, dtype=dtype)])
    r = solve_samples(x, y, SquaredL2(), 0.05, tol=1e-4, max_iter=50_000)
    assert r.converged
    assert torch.isfinite(r.plan()).all()


def test_the_value_rises_with_every_iteration():
    x, y = problem(20, 20, 2)
    values = [
        solve_samples(x, y, SquaredL2(), 0.05, tol=1e-14, max_iter=k).value.item()
        for k in range(1, 30)
    ]
    assert all(later >= earlier - 1e-12 for earlier, later in pairwise(values))


def test_one_iteration_reports_that_it_did_not_converge():
    x, y = problem(20, 20, 2)
    r = solve_samples(x, y, SquaredL2(), 0.01, tol=1e-6, max_iter=1)
    assert (r.n_iter, r.converged) == (1, False)
    assert r.error > 1e-6


def test_a_zero_weight_is_a_deleted_point():
    x, y = problem(8, 6, 2)
    a = torch.tensor([0.25, 0.0, 0.25, 0.0, 0.25, 0.25, 0.0, 0.0], dtype=F64)
    whole = solve_samples(x, y, L1(), 0.5, a, tol=1e-10)
    kept = solve_samples(x[a > 0], y, L1(), 0.5, a[a > 0], tol=1e-10)
    assert torch.isclose(whole.value, kept.value)
    assert torch.allclose(whole.plan()[a > 0], kept.plan())
    assert torch.equal(whole.plan()[a == 0], torch.zeros(4, 6, dtype=F64))


def test_matched_channel_recovers_the_raw_law_exactly():
    """Theorem 1 on a grid: at P_X the plan is P_X(x) k(y|x) and f is constant."""
    x, y = np.linspace(0, 1, 12), np.linspace(-1, 2, 60)
    channel = oracles.gaussian_channel(x, y, 0.25)
    raw = weights(12, 5)
    cost = torch.from_numpy(-np.log(channel))
    r = solve(cost, 1.0, raw, raw @ torch.from_numpy(channel), tol=1e-13, max_iter=100_000)
    assert np.allclose(r.plan(), raw[:, None].numpy() * channel, atol=1e-12)
    assert np.ptp(r.f.numpy()) < 1e-8


@pytest.mark.parametrize("cost", [SquaredL2(), L1()], ids=repr)
@pytest.mark.parametrize("reg", [0.5, 1e4])  # the second far above the diameter
def test_gradcheck_in_points_and_nonuniform_weights(cost, reg):
    x, y = problem(5, 4, 3)
    a, b = weights(5, 1).log(), weights(4, 2).log()

    def value(x, y, a, b):
        # Weights live on the simplex; softmax keeps the perturbed ones there.
        solved = solve_samples(
            x, y, cost, reg, a.softmax(0), b.softmax(0), tol=1e-13, max_iter=100_000
        )
        return solved.value

    inputs = [t.clone().requires_grad_() for t in (x, y, a, b)]
    assert torch.autograd.gradcheck(value, inputs, eps=1e-6, atol=1e-6)


def test_gradcheck_in_the_cost_matrix():
    cost = torch.rand(4, 3, dtype=F64, requires_grad=True)
    assert torch.autograd.gradcheck(
        lambda c: solve(c, 0.2, tol=1e-13, max_iter=100_000).value, cost
    )


def test_coincident_points_have_finite_gradients():
    x = torch.zeros(5, 3, requires_grad=True)
    solve_samples(x, torch.zeros(5, 3), L1(), 1.0).value.backward()
    assert torch.equal(x.grad, torch.zeros(5, 3))


def test_second_derivatives_are_refused():
    x, y = problem(4, 4, 2)
    x.requires_grad_()
    value = solve_samples(x, y, SquaredL2(), 1.0).value
    (grad,) = torch.autograd.grad(value, x, create_graph=True)
    with pytest.raises(NotImplementedError, match="second derivatives"):
        grad.sum().backward()


def test_grad_mode_is_left_as_it_was():
    x, y = problem(4, 4, 2)
    with torch.no_grad():
        solve_samples(x, y, SquaredL2(), 1.0)
        assert not torch.is_grad_enabled()
    with pytest.raises(ValueError, match="y has 1 non-finite row"):
        solve_samples(x, y * torch.tensor([[1], [1], [float("nan")], [1]]), L1(), 1.0)
    assert torch.is_grad_enabled()


def bad_calls():
    x, y = problem(4, 3, 2)
    ok = SquaredL2()
    negative = torch.tensor([0.5, 0.7, -0.2, 0.0], dtype=F64)
    yield "reg must be positive", lambda: solve_samples(x, y, ok, 0.0)
    yield "reg must be positive", lambda: solve_samples(x, y, ok, float("nan"))
    yield "tol must be positive", lambda: solve_samples(x, y, ok, 1.0, tol=-1)
    yield (
        "max_iter must be at least 1",
        lambda: solve_samples(x, y, ok, 1.0, max_iter=0),
    )
    yield (
        "2 columns and y has 3",
        lambda: solve_samples(x, torch.ones(4, 3).double(), ok, 1),
    )
    yield "is empty", lambda: solve_samples(x[:0], y, ok, 1.0)
    yield r"a\[2\] is negative", lambda: solve_samples(x, y, ok, 1.0, negative)
    yield "a sums to 4", lambda: solve_samples(x, y, ok, 1.0, torch.ones(4, dtype=F64))
    yield (
        "b has shape",
        lambda: solve_samples(x, y, ok, 1.0, b=torch.ones(4, dtype=F64)),
    )
    yield (
        r"cost has 1 non-finite entry.*\[0, 1\]",
        lambda: solve(torch.tensor([[0.0, float("inf")]]), 1.0),
    )
    yield "cost / reg overflows", lambda: solve(torch.rand(5, 4), 1e-310)
    huge = torch.rand(5, 2) * 1e20
    yield "cost / reg overflows", lambda: solve_samples(huge, -huge, ok, 1.0)
    yield "cost has shape", lambda: solve(torch.ones(3), 1.0)


@pytest.mark.parametrize(("message", "call"), list(bad_calls()))
def test_bad_input_is_named(message, call):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize(
    ("message", "x", "y"),
    [
        ("x has dtype float16", torch.ones(2, 2).half(), torch.ones(2, 2).half()),
        ("x has dtype int64", torch.ones(2, 2).long(), torch.ones(2, 2)),
        ("x is torch.float64 and y is torch.float32", torch.ones(2, 2).double(), torch.ones(2, 2)),
    ],
)
def test_bad_dtypes_are_named(message, x, y):
    with pytest.raises(TypeError, match=message):
        solve_samples(x, y, L1(), 1.0)


@pytest.mark.parametrize(
    ("cost", "got"),
    [
        (SquaredL2, r"the class SquaredL2; make one: SquaredL2\(\.\.\.\)"),
        ("sqeuclidean", "'sqeuclidean'"),
        (lambda x, y: x @ y.T, "a function"),
        (torch.ones(2, 2), "a Tensor"),
        (None, "None"),
    ],
)
@pytest.mark.parametrize("shape", [(3, 2), (2, 3, 2)])
def test_what_is_no_cost_is_named(cost, got, shape):
    with pytest.raises(TypeError, match=rf"^cost must be a Cost such as SquaredL2\(\), got {got}$"):
        solve_samples(torch.ones(shape), torch.ones(shape), cost, 1.0)


@pytest.mark.parametrize("backend", ["dense", "streaming"])
def test_a_warm_restart_takes_one_iteration(backend):
    x, y = problem(30, 25, 2, std=0.2)
    first = solve_samples(x, y, SquaredL2(), 0.05, tol=1e-6, backend=backend)
    assert first.n_iter > 3
    for init in (first, first.g):
        again = solve_samples(x, y, SquaredL2(), 0.05, tol=1e-6, backend=backend, init=init)
        assert again.n_iter == 1
        assert torch.isclose(again.value, first.value)
    matrix = SquaredL2().matrix(x, y)
    assert solve(matrix, 0.05, tol=1e-6, init=first).n_iter == 1


def test_a_bad_warm_start_is_named():
    x, y = problem(4, 3, 2)
    with pytest.raises(ValueError, match=r"init has shape \(4,\)"):
        solve_samples(x, y, L1(), 1.0, init=torch.zeros(4))
    with pytest.raises(ValueError, match="init has 1 non-finite entry"):
        solve_samples(x, y, L1(), 1.0, init=torch.tensor([0.0, float("nan"), 0.0]))


@pytest.mark.parametrize("cost", [SquaredL2(), L1()], ids=repr)
@pytest.mark.parametrize(("d", "std"), [(2, 0.05), (784, 0.2), (784, 1.0)])
@pytest.mark.parametrize("tol", [1e-2, 1e-4])
def test_the_float32_certificate_holds_in_float64(cost, d, std, tol):
    """Marginals summed in float64; and the plan is the one that f and g give for exact costs."""
    x, y = problem(96, 96, d, 2, torch.float32, std)
    reg = 2 * std**2 if isinstance(cost, SquaredL2) else std / 2**0.5
    r = solve_samples(x, y, cost, reg, tol=tol, max_iter=5000)
    assert r.converged
    plan = r.plan().double()
    assert (plan.sum(0) - 1 / 96).abs().sum() + (plan.sum(1) - 1 / 96).abs().sum() <= tol * 1.05
    exact = cost.matrix(x.double(), y.double())
    same = ((r.f.double()[:, None] + r.g.double()[None] - exact) / reg).exp() / 96**2
    assert (plan - same).abs().sum() <= 1e-4 + 2e-7 * exact.max() / reg  # f and g are rounded


@pytest.mark.parametrize("cost", [SquaredL2(), L1()], ids=repr)
@pytest.mark.parametrize("shift", [10.0, 100.0, 1000.0])
def test_a_common_shift_changes_nothing(cost, shift):
    x, y = problem(40, 30, 2, 4, torch.float32, 0.3)
    x, y = ((t + shift) - shift for t in (x, y))  # so that both problems round alike
    results = []
    for move in (0.0, shift):
        points = (x + move).requires_grad_()
        r = solve_samples(points, y + move, cost, 0.3, tol=1e-5)
        r.value.backward()
        results.append((r.value.detach(), points.grad))
    assert torch.isclose(*(value for value, _ in results), rtol=1e-5)
    assert torch.allclose(*(grad for _, grad in results), rtol=1e-3, atol=1e-6)


def test_gradients_agree_with_a_tightly_converged_plan_far_above_the_diameter():
    x, y = problem(40, 30, 5, 4, torch.float32)
    x.requires_grad_()
    solve_samples(x, y, L1(), 1e5, tol=1e-4).value.backward()
    uniform = torch.full((40, 30), 1 / 1200)
    assert torch.allclose(x.grad, L1().gradient(x.detach(), y, uniform), atol=1e-5)


def test_solves_in_between_do_not_disturb_a_gradient():
    x, y = problem(20, 20, 3)
    losses = [solve_samples(x.requires_grad_(), y, L1(), reg).value for reg in (0.5, 2.0)]
    (together,) = torch.autograd.grad(sum(losses), x)
    alone = []
    for reg in (0.5, 2.0):
        value = solve_samples(x, y, L1(), reg).value
        alone.append(torch.autograd.grad(value, x)[0])
    assert torch.equal(together, sum(alone))


def test_information_is_the_plans_and_stays_below_log_n():
    x, y = problem(40, 30, 3, std=0.1)
    for reg in (1e-3, 0.05, 100.0):
        r = solve_samples(x, y, SquaredL2(), reg, tol=1e-9, max_iter=20_000)
        spent = (r.plan() * SquaredL2().matrix(x, y)).sum()
        assert r.information() == pytest.approx((r.value - spent).item() / reg, abs=1e-5)
        assert 0 <= r.information() <= math.log(30) + 1e-6
    streamed = solve_samples(x, y, SquaredL2(), 0.05, backend="streaming")
    assert math.isnan(streamed.information())
