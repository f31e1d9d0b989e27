"""The same answers wherever the points are, and no more memory there than stated."""

import pytest
import torch

from privgan.sinkhorn import (
    L1,
    Cost,
    Euclidean,
    SquaredL2,
    _pairs,
    _problem,
    _replay,
    solve,
    solve_batch,
    solve_samples,
    solver,
)

F64 = torch.float64
on_each = pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])


class Lopsided(Cost):
    """Not symmetric: c(x, y) = sum_k exp(x_k - 2 y_k)."""

    def matrix(self, x, y):
        return (x[:, None, :] - 2 * y[None, :, :]).exp().sum(-1)


COSTS = [SquaredL2(), L1(), Euclidean(), Lopsided()]


def problem(device, n=40, m=30, d=3, dtype=torch.float32):
    """Points and weights, the latter uneven."""
    g = torch.Generator().manual_seed(n + m + d)
    x, y = (torch.rand((k, d), dtype=F64, generator=g) for k in (n, m))
    a, b = (torch.rand(k, dtype=F64, generator=g) + 0.1 for k in (n, m))
    return [t.to(device, dtype) for t in (x, y, a / a.sum(), b / b.sum())]


@on_each
@pytest.mark.parametrize("cost", COSTS, ids=repr)
@pytest.mark.parametrize("d", [1, 3, 8, 9, 100])
@pytest.mark.parametrize("dtype", [torch.float32, F64])
def test_matrix_and_gradient(device, cost, d, dtype):
    x, y, *_ = problem(device, d=d, dtype=dtype)
    plan = torch.rand((40, 30), generator=torch.Generator().manual_seed(0)).to(device, dtype)
    there = cost.matrix(x, y), cost.gradient(x, y, plan), cost.T.gradient(y, x, plan.T)
    x, y, plan = (t.cpu().double() for t in (x, y, plan))
    here = cost.matrix(x, y), cost.gradient(x, y, plan), cost.T.gradient(y, x, plan.T)
    for found, exact in zip(there, here, strict=True):
        assert found.device.type == device
        assert found.dtype == dtype
        scale = exact.abs().max()
        assert (found.cpu() - exact).abs().max() <= (
            2e-6 if dtype == torch.float32 else 1e-12
        ) * scale


@on_each
@pytest.mark.parametrize("cost", COSTS, ids=repr)
@pytest.mark.parametrize("backend", ["dense", "streaming"])
@pytest.mark.parametrize("dtype", [torch.float32, F64])
def test_a_solve(device, cost, backend, dtype):
    inputs = problem(device, dtype=dtype)
    exact = [t.cpu().double() for t in inputs]
    answers = []
    for tensors, path in ((inputs, backend), (exact, "dense")):
        tensors = [t.requires_grad_() for t in tensors]
        r = solve_samples(*tensors[:2], cost, 0.1, *tensors[2:], tol=1e-5, backend=path)
        assert r.converged
        r.value.backward()
        potentials = r.f - r.f.mean(), r.g - r.g.mean()
        answers.append([r.value.detach(), *potentials, *(t.grad for t in tensors[:2])])
    for found, right in zip(*answers, strict=True):
        assert found.device.type == device
        assert (found.detach().cpu() - right).abs().max() <= 1e-4 * right.abs().max()


@on_each
@pytest.mark.parametrize("cost", COSTS, ids=repr)
@pytest.mark.parametrize("look", [True, False])
def test_a_batch_is_solved_as_ever(device, cost, look):
    x, y, a, b = problem(device)
    values, gradients, taken = [], [], []
    for solver_, settings in ((solve_samples, {}), (solve_batch, {"look": look})):
        points = x.clone().requires_grad_()
        r = solver_(points, y, cost, 0.1, a, b, tol=3e-4, max_iter=60, **settings)
        r.value.backward()
        assert isinstance(r.error, float)
        assert isinstance(r.n_iter, int)
        assert r.converged
        assert [float(t) for t in r.certificate] == [r.error, r.n_iter, r.converged]
        values.append(r.value.detach())
        gradients.append(points.grad)
        taken.append(r.n_iter)
    # What checks has another tolerance for the iteration, less what rounding may add: no error here
    # lies between the two.
    assert taken[0] == taken[1]
    assert torch.equal(*values)
    assert torch.equal(*gradients)


@on_each
def test_a_batch_without_weights_is_uniform_and_nothing_is_validated(device):
    x, y, *_ = problem(device)
    uniform = solve_samples(x, y, L1(), 0.1, tol=1e-2, max_iter=500)
    assert torch.equal(solve_batch(x, y, L1(), 0.1).value, uniform.value)
    a = torch.full((40,), 0.5, device=device)  # refused by name elsewhere
    assert solve_batch(x, y, L1(), 0.1, a, max_iter=3).n_iter == 3


@on_each
def test_solves_in_between_disturb_neither_results_nor_plans(device):
    x, y, a, b = problem(device)
    first = solve_samples(x, y, L1(), 0.1, a, b, tol=1e-5)
    kept = [first.f.clone(), first.g.clone(), first.plan().clone()]
    for _ in range(2):
        solve_samples(x + 1, y, SquaredL2(), 0.5, tol=1e-5)
    assert all(
        torch.equal(s, t) for s, t in zip(kept, (first.f, first.g, first.plan()), strict=True)
    )
    _replay.clear()
    assert torch.equal(solve_samples(x, y, L1(), 0.1, a, b, tol=1e-5).value, first.value)


@pytest.mark.parametrize(("cost", "p"), [(L1(), 1.0), (Euclidean(), 2.0)], ids=repr)
def test_gradients_in_rows_are_the_whole(monkeypatch, cost, p):
    """What a GPU without Triton does."""
    x, y, *_ = problem("cpu", d=20, dtype=F64)
    y[:5] = x[:5]
    plan = torch.rand((40, 30), dtype=F64, generator=torch.Generator().manual_seed(0))
    monkeypatch.setattr(_pairs, "HELD", 1500)  # two rows at a time
    distance = cost.matrix(x, y)
    assert torch.allclose(_pairs.in_rows(x, y, plan, p, distance), cost.gradient(x, y, plan))
    turned = _pairs.in_rows(y, x, plan.T.contiguous(), p, distance.T.contiguous())
    assert torch.allclose(turned, cost.gradient(y, x, plan.T))


def test_a_plan_is_formed_in_rows(monkeypatch):
    x, y, a, b = problem("cpu")
    whole = solve_samples(x, y, L1(), 0.1, a, b).plan()
    monkeypatch.setattr(_problem, "TILE", 70)
    assert torch.equal(solve_samples(x, y, L1(), 0.1, a, b).plan(), whole)


@pytest.mark.gpu
@pytest.mark.parametrize("cost", [SquaredL2(), L1()], ids=repr)
def test_memory_stays_in_the_order_of_the_matrix(cost):
    """Value, gradients in both sides, and the plan: torch's own L1 gradient alone takes 3 GB."""
    n, d = 1000, 784
    x, y = torch.rand((2, n, d), device="cuda")
    for _ in range(2):  # recordings are made in the first
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        points = x.clone().requires_grad_(), y.clone().requires_grad_()
        r = solve_samples(*points, cost, float(d))
        r.value.backward()
        r.plan()
    matrices = (torch.cuda.max_memory_allocated() - before) / (4 * n * n)
    assert matrices < 40  # five copies of the points are four of them; float64 rows eight


@pytest.mark.gpu
def test_auto_takes_what_a_device_has_free(monkeypatch):
    x, y, *_ = problem("cuda")
    monkeypatch.setattr(solver, "DENSE_BYTES", 1)
    assert solve_samples(x, y, L1(), 0.5).plan().shape == (40, 30)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (0, 0))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda _: 0)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda _: 0)
    with pytest.raises(ValueError, match="no stored plan"):
        solve_samples(x, y, L1(), 0.5).plan()


@pytest.mark.gpu
def test_a_solve_on_another_stream():
    x, y, a, b = problem("cuda")
    own = solve_samples(x, y, L1(), 0.1, a, b, tol=1e-5)
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        other = solve_samples(x, y, L1(), 0.1, a, b, tol=1e-5)
    torch.cuda.current_stream().wait_stream(side)
    assert torch.equal(own.value, other.value)


@pytest.mark.gpu
def test_waits_of_a_batch():
    """The host waits for the iteration's reports alone, and without a look for nothing."""
    x, y, *_ = problem("cuda", 300, 200, 2)
    x.requires_grad_()
    for look in (True, False):
        solve_batch(x, y, SquaredL2(), 0.01, max_iter=40, look=look)  # recorded, compiled
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        solve_batch(x, y, SquaredL2(), 0.01, max_iter=40, look=False).value.backward()
    finally:
        torch.cuda.set_sync_debug_mode("default")


@on_each
def test_solve_takes_a_matrix_of_any_strides(device):
    cost = SquaredL2().matrix(*problem(device)[:2])
    turned = cost.T.contiguous().T
    assert torch.equal(solve(cost, 0.1).value, solve(turned, 0.1).value)
