import numba
import numpy as np
import pytest
import torch

from privgan.sinkhorn import _dense_loops, _loops
from privgan.sinkhorn.costs import ABSOLUTE, SQUARED_L2


@numba.njit(fastmath=True)
def exponentials(t, out):
    for i in range(t.size):
        out[i] = _loops.exp32(t[i])


def test_exp32_is_exp_to_float32_precision():
    t = np.linspace(-87, 88, 1_000_001, dtype=np.float32)
    ours = np.array([_loops.exp32(v) for v in t[::1000]])
    exact = np.exp(t[::1000].astype(np.float64))
    assert np.max(np.abs(ours / exact - 1)) < 3e-7
    assert _loops.exp32(np.float32(-500)) < 1e-37
    assert np.isfinite(_loops.exp32(np.float32(500)))


def test_exp32_stays_precise_inside_a_vectorised_loop():
    t = np.linspace(-80, 0, 5001, dtype=np.float32)
    out = np.empty_like(t)
    exponentials(t, out)
    exact = np.exp(t.astype(np.float64))
    assert np.max(np.abs(out / exact - 1)) < 3e-7


@pytest.mark.parametrize("n", [1, 3, 4, 5, 8, 11])
@pytest.mark.parametrize("shares", [1, 2, 3])
def test_half_steps_are_two_products(n, shares):
    g = torch.Generator().manual_seed(0)
    kernel = torch.rand((n, 7), generator=g, dtype=torch.float64)
    phi0, a = torch.rand((2, n), generator=g, dtype=torch.float64)
    psi0, psi, b = torch.rand((3, 7), generator=g, dtype=torch.float64)
    scratch, phi, log_q = (b.clone(), kernel.new_empty((shares, 7))), phi0.clone(), b.clone()
    assert _dense_loops.half_steps(
        kernel, phi0, psi0, psi, 20.0, 0.0, a, b.log(), *scratch, phi, log_q
    )
    density = kernel * (psi - psi0).exp()  # exp(phi0 + psi - C / reg)
    assert torch.allclose(phi, phi0 - (density @ b).log())
    assert torch.allclose(log_q.exp(), (a[:, None] * density * (phi - phi0).exp()[:, None]).sum(0))


def test_half_steps_decline_when_psi_has_drifted_too_far():
    kernel, zero, far = (
        torch.ones(2, 2),
        torch.zeros(2).double(),
        torch.tensor([0.0, 50.0]).double(),
    )
    scratch = torch.empty(2), *torch.empty((1, 1, 2)).double(), *torch.empty((2, 2)).double()
    assert not _dense_loops.half_steps(kernel, zero, zero, far, 20.0, 0.0, zero, zero, *scratch)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("kind", [ABSOLUTE, SQUARED_L2])
def test_gradients_pass_over_only_what_rounding_hides(kind, dtype):
    """A thousand entries a billionth of the largest add up to a millionth."""
    g = torch.Generator().manual_seed(0)
    x, y = (torch.randn((k, 9), generator=g, dtype=dtype) for k in (6, 1001))
    plan = torch.full((6, 1001), 0.9e-9, dtype=dtype)
    plan[:, -1] = 1.0
    out = torch.empty_like(x)
    _loops.wide_gradient(x, y, kind, plan, out)
    differences = x[:, None].double() - y[None].double()
    slopes = 2 * differences if kind == SQUARED_L2 else differences.sign()
    exact = (plan[:, :, None].double() * slopes).sum(1)
    assert (out - exact).abs().max() < 8 * torch.finfo(dtype).eps * exact.abs().max()


def test_the_iterations_algebra_leaves_no_product_to_a_blas_with_threads_of_its_own():
    b, memory = np.full(9, 1 / 9), np.zeros((2, 3, 9))
    given = {"measure": (b, b, b, b, 0 * b), "combine": (*memory, np.zeros((3, 3)), 1, b, b)}
    for name, arguments in given.items():
        loop = numba.njit(getattr(_dense_loops, name).py_func)  # kept code cannot be looked at
        loop(*arguments)
        (code,) = loop.inspect_llvm().values()
        assert "xxdot" not in code
        assert "gemv" not in code
    assert _dense_loops.measure(*given["measure"]) == (0.0, pytest.approx(2 / 9))
