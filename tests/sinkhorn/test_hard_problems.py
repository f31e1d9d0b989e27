"""Problems on which float32, a kernel matrix or plain Sinkhorn iterations are not enough."""

import numpy as np
import pytest
import torch

from privgan.artifact import oracles
from privgan.sinkhorn import L1, Euclidean, SquaredL2, _search, solve, solve_samples, solver

F32, F64 = torch.float32, torch.float64
backends = pytest.mark.parametrize("backend", ["dense", "streaming"])
dtypes = pytest.mark.parametrize("dtype", [F32, F64])


def draw(n, m, d=2, seed=0, dtype=F64):
    g = torch.Generator().manual_seed(seed)
    x, y = (torch.rand((k, d), dtype=F64, generator=g) for k in (n, m))
    return x.to(dtype), y.to(dtype)


def marginal_error(x, y, cost, reg, a, b, g):
    """Of the plan with exact rows that these potentials give, in float64."""
    t = g.double() / reg + b.double().log() - cost.matrix(x.double(), y.double()) / reg
    return ((torch.softmax(t, 1) * a.double()[:, None]).sum(0) - b.double()).abs().sum().item()


@backends
@dtypes
@pytest.mark.parametrize("far", [40.0, 400.0, 4e4])
@pytest.mark.parametrize("share", [0.7, 0.52])
def test_mass_finds_its_way_between_far_clusters(far, share, dtype, backend):
    """Half of x in each cluster, another share of y: so much has to travel ``far``."""
    x, y = draw(50, 50, dtype=dtype)
    x[25:] += far / 2
    y[int(50 * share) :] += far / 2
    r = solve_samples(x, y, L1(), 1.0, backend=backend)
    assert r.converged
    assert r.n_iter < 800
    travelled = (share - 0.5) * far
    assert travelled < r.value.item() < travelled + 5  # and inside the clusters, with the entropy
    uniform = torch.full((50,), 0.02)
    rounding = 2e-7 * far if dtype == F32 else 0.0  # of g in float32
    found = marginal_error(x, y, L1(), 1.0, uniform, uniform, r.g)
    assert found <= 1.03 * r.error + rounding


def test_many_clusters_of_uneven_mass():
    x, y = draw(90, 80)
    g = torch.Generator().manual_seed(3)
    x += 100.0 * torch.randint(0, 5, (90, 1), generator=g)
    y += 100.0 * torch.randint(0, 5, (80, 1), generator=g)
    r = solve_samples(x, y, SquaredL2(), 0.5)
    assert r.converged
    assert r.n_iter < 900


def test_a_long_step_follows_the_dual_as_far_as_it_rises():
    tried = []

    class Wall:
        """A dual with slope 1 up to ``at``, and -9 beyond."""

        a = b = torch.ones(1, dtype=F64)

        def __call__(self, psi):
            tried.append(psi.item())
            over = (psi - 100.0).clamp_min(0.0)
            return -10 * over, torch.full_like(psi, -1.0)

    wall = Wall()
    psi, taken = _search._long_step(wall, torch.zeros(1, dtype=F64), 50)
    assert psi.item() == 64.0
    assert (taken, len(tried)) == (8, 8)
    _, taken = _search._long_step(wall, torch.zeros(1, dtype=F64), 3)
    assert taken == 3


@backends
@dtypes
@pytest.mark.parametrize("side", ["x", "y"])
@pytest.mark.parametrize("cost", [L1(), SquaredL2(), Euclidean()], ids=repr)
def test_one_outlier_is_solved(cost, side, dtype, backend):
    x, y = draw(50, 60, dtype=dtype)
    (x if side == "x" else y)[3] = 1e5
    r = solve_samples(x, y, cost, 0.1, backend=backend)
    exact = solve_samples(x.double(), y.double(), cost, 0.1, tol=1e-5, max_iter=5000)
    assert r.converged
    assert r.value.item() == pytest.approx(exact.value.item(), rel=1e-6)


@backends
@dtypes
@pytest.mark.parametrize("reg", [0.01, 0.5, 1e6])
@pytest.mark.parametrize("far", [0.0, 100.0])
def test_a_zero_weight_equals_deleting_the_point(far, reg, dtype, backend):
    """Values, gradients and potentials; points without weight may be the nearest, or far away."""
    x, y = draw(30, 25, dtype=dtype)
    g = torch.Generator().manual_seed(1)
    a, b = (torch.rand(k, dtype=F64, generator=g) for k in (30, 25))
    a[::3], b[1::4] = 0.0, 0.0
    y[1] = x[1]  # nearest by far, and without weight
    x[0] += far
    a, b = (a / a.sum()).to(dtype), (b / b.sum()).to(dtype)
    settings = {"tol": 1e-5, "max_iter": 20_000, "backend": backend}
    inputs = [t.clone().requires_grad_() for t in (x, y, a, b)]
    whole = solve_samples(*inputs[:2], L1(), reg, *inputs[2:], **settings)
    part = [t.clone().requires_grad_() for t in (x[a > 0], y[b > 0], a[a > 0], b[b > 0])]
    fewer = solve_samples(*part[:2], L1(), reg, *part[2:], **settings)
    assert whole.converged
    assert torch.equal(whole.value, fewer.value)
    grads = torch.autograd.grad(whole.value, inputs)
    for own, other, keep in zip(
        grads, torch.autograd.grad(fewer.value, part), (a > 0, b > 0) * 2, strict=True
    ):
        assert torch.equal(own[keep], other)
    for grad, keep in zip(grads[:2], (a > 0, b > 0), strict=True):
        assert not grad[~keep].any()
    assert torch.equal(whole.f[a > 0], fewer.f)
    assert torch.equal(whole.g[b > 0], fewer.g)
    # Where there is no weight, the potential of a point that had a little.
    exact = L1().matrix(x.double(), y.double())
    kept = fewer.g.double() + reg * b[b > 0].double().log()
    potential = -reg * torch.logsumexp((kept - exact[:, b > 0]) / reg, 1)
    assert (whole.f - potential).abs().max() <= 1e-5 * (exact.max() + reg * (reg > 1))
    if backend == "dense":
        assert whole.plan()[a == 0].sum() + whole.plan()[:, b == 0].sum() == 0.0
        assert torch.equal(whole.plan()[a > 0][:, b > 0], fewer.plan())


@pytest.mark.parametrize("lightest", [1e-10, 1e-30, 1e-200])
def test_tiny_weights_count_as_what_they_are(lightest):
    x, y = draw(20, 15)
    b = torch.logspace(0, np.log10(lightest), 15, dtype=F64)
    b /= b.sum()
    cost = 50 * SquaredL2().matrix(x, y)
    r = solve(cost, 1.0, b=b, tol=1e-9, max_iter=20_000)
    uniform = np.full(20, 0.05)
    f, g = oracles.log_domain_sinkhorn(cost.numpy(), 1.0, uniform, b.numpy(), tol=1e-12)
    shift = f[0] - r.f[0].item()
    assert r.converged
    assert np.allclose(r.f.numpy() + shift, f, atol=1e-6)
    heavy = b.numpy() > 1e-7
    assert np.allclose(r.g.numpy()[heavy] - shift, g[heavy], atol=1e-5)


@backends
@pytest.mark.parametrize("sizes", [(10**6, 1), (1, 10**6), (200_000, 3)])
def test_sums_of_a_million_numbers_leave_the_certificate_true(sizes, backend):
    x, y = draw(*sizes, d=1, dtype=F32)
    r = solve_samples(x, y, L1(), 1.0, backend=backend, tol=1e-4)
    assert r.converged
    assert r.error < 2e-5 if min(sizes) == 1 else 1e-4


@backends
@pytest.mark.parametrize("cost", [L1(), SquaredL2(), Euclidean()], ids=repr)
@pytest.mark.parametrize(("d", "ratio"), [(2, 1e2), (2, 1e4), (2, 1e6), (784, 2e3)])
@pytest.mark.parametrize("tol", [1e-3, 1e-4])
def test_the_certificate_holds_in_float64_on_every_path(cost, d, ratio, tol, backend, monkeypatch):
    """Of float32 points with costs up to ``ratio`` times reg, converged or not."""
    x, y = draw(60, 50, d, dtype=F32)
    reg = cost.matrix(x, y).max().item() / ratio
    found = []
    whole = solver._whole

    def spy(*arguments):  # potentials before they are rounded to float32
        found.append(whole(*arguments))
        return found[-1]

    monkeypatch.setattr(solver, "_whole", spy)
    r = solve_samples(x, y, cost, reg, tol=tol, max_iter=300, backend=backend)
    a, b = torch.full((60,), 1 / 60, dtype=F64), torch.full((50,), 1 / 50, dtype=F64)
    error = marginal_error(x, y, cost, reg, a, b, reg * found[0].psi)
    assert error <= 1.03 * r.error
    assert r.converged == (r.error <= tol)


@backends
def test_costs_beyond_float64_are_refused_with_a_reason(backend):
    x = torch.rand(5, 2, dtype=F64)
    with pytest.raises(ValueError, match="cost / reg overflows: reg is too small"):
        solve_samples(x, x + 1, L1(), 1e-305, backend=backend)
    with pytest.raises(ValueError, match="cost / reg overflows: reg is too small"):
        solve_samples(x, x + 1, L1(), 1e-16, backend=backend)
    with pytest.raises(ValueError, match="cost / reg overflows: reg is too small"):
        solve(x, 1e-16)
    with pytest.raises(ValueError, match="some costs are not finite, in float64 too"):
        solve_samples(x * 1e200, -x * 1e200, SquaredL2(), 1.0, backend=backend)
    huge = 1e25 * torch.rand(5, 2)
    with pytest.raises(ValueError, match="the value is beyond the inputs' precision"):
        solve_samples(huge, -huge, SquaredL2(), 1e45, backend=backend)
    exact = solve_samples(huge.double(), -huge.double(), SquaredL2(), 1e45, backend=backend)
    assert exact.converged
