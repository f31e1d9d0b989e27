import os
import subprocess
import sys

import numba
import numpy as np
import pytest
import torch

from privgan.sinkhorn import _loops


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


def test_loops_take_torchs_number_of_threads():
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        x = torch.rand(5, 9)
        _loops.l1_matrix(x, x, torch.empty(5, 5))
        assert numba.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("n", [1, 3, 4, 5, 8, 11])
@pytest.mark.parametrize("shares", [1, 2, 3])
def test_half_steps_are_two_products(n, shares):
    g = torch.Generator().manual_seed(0)
    kernel = torch.rand((n, 7), generator=g, dtype=torch.float64)
    phi0, a = torch.rand((2, n), generator=g, dtype=torch.float64)
    psi0, psi, b = torch.rand((3, 7), generator=g, dtype=torch.float64)
    scratch, phi, log_q = (b.clone(), kernel.new_empty((shares, 7))), phi0.clone(), b.clone()
    assert _loops.half_steps(kernel, phi0, psi0, psi, 20.0, 0.0, a, b.log(), *scratch, phi, log_q)
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
    assert not _loops.half_steps(kernel, zero, zero, far, 20.0, 0.0, zero, zero, *scratch)


def test_l1_gradient_passes_over_only_what_float32_cannot_see():
    g = torch.Generator().manual_seed(0)
    x, y = torch.randn((6, 40), generator=g), torch.randn((9, 40), generator=g)
    plan = torch.rand((6, 9), generator=g) * torch.logspace(-20, 0, 9)
    out = torch.empty_like(x)
    _loops.l1_gradient(x, y, plan, out)
    exact = (plan[:, :, None] * (x[:, None] - y[None]).sign()).double().sum(1)
    assert (out - exact).abs().max() < 1e-7 * plan.sum(1).max()


COMPILED = """
import torch
from privgan.sinkhorn import _loops, costs
points, cost, zero = torch.rand(4, 2), torch.rand(4, 4), torch.zeros(4).double()
_loops.pairwise(points, points.T.contiguous(), costs.ABSOLUTE, cost)
for kernel in (cost.clone(), cost.double()):
    _loops.log_kernel(cost, 1.0, zero, zero, -60.0, kernel)
loops = _loops.pairwise, _loops.log_kernel
print(sum(sum(loop.__wrapped__.stats.cache_misses.values()) for loop in loops))
"""


def test_what_one_process_compiled_the_next_one_finds_on_disk():
    for _ in range(2):
        run = subprocess.run([sys.executable, "-c", COMPILED], capture_output=True, text=True)
        assert run.returncode == 0, run.stderr
    assert run.stdout.strip() == "0"


THREADS = """
import torch
from privgan.sinkhorn import L1, SquaredL2, solve_samples
torch.set_num_threads({threads})
x = torch.randn(50, 3)
for cost, backend in ((SquaredL2(), "dense"), (L1(), "streaming")):
    solve_samples(x, x + 1, cost, 0.5, backend=backend)
    print(torch.get_num_threads())
"""


@pytest.mark.parametrize(
    ("threads", "environment"),
    [(1, {}), (1, {"OMP_NUM_THREADS": "1"}), (2, {"NUMBA_NUM_THREADS": "1"})],
)
def test_a_solve_leaves_torchs_threads_as_they_were(threads, environment):
    ran = subprocess.run(
        [sys.executable, "-c", THREADS.format(threads=threads)],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert ran.stdout.split() == [str(threads)] * 2
