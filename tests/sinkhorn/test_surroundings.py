"""The solver's numbers, whatever else its caller has told torch."""

import contextlib

import numpy as np
import pytest
import torch

from privgan.sinkhorn import L1, Euclidean, SquaredL2, solve, solve_batch, solve_samples

COSTS = [SquaredL2(), L1(), Euclidean()]


def points(d=20):
    g = torch.Generator(device="cpu").manual_seed(0)
    on = {"generator": g, "dtype": torch.float32, "device": "cpu"}
    return torch.randn((30, d), **on), torch.randn((25, d), **on)


def numbers(x, y):
    """What each function of the solver gives, in values."""
    found, plan = [], (x[:, :1] * y[:, 0]).exp()
    for cost in COSTS:
        found += [cost.matrix(x, y), cost.gradient(x, y, plan), cost.shiftable(3)]
        found += [cost.matrix_in(x, y, torch.empty_like(plan)), cost.T.gradient(y, x, plan.T)]
        for backend in ("dense", "streaming"):
            r = solve_samples(x, y, cost, float(x.shape[1]), tol=1e-4, backend=backend)
            found += [r.value, r.f, r.g, x.new_tensor([r.error, r.n_iter])]
        found.append(solve_samples(x, y, cost, float(x.shape[1])).plan())
        found.append(solve_batch(x, y, cost, float(x.shape[1])).value)
        found.append(solve(cost.matrix(x, y), float(x.shape[1])).value)
    return [t.detach().clone() for t in found]


@contextlib.contextmanager
def switched(function, value, back):
    function(value)
    try:
        yield
    finally:
        function(back)


def low(switch, value):
    return switched(lambda v: setattr(switch, "fp32_precision", v), value, "none")


STATES = {
    "no_grad": torch.no_grad,
    "inference_mode": torch.inference_mode,
    "autocast": lambda: torch.autocast("cpu", dtype=torch.bfloat16),
    "float64 by default": lambda: switched(torch.set_default_dtype, torch.float64, torch.float32),
    "another device by default": lambda: torch.device("meta"),
    "deterministic": lambda: switched(torch.use_deterministic_algorithms, True, False),
    "anomalies": lambda: torch.autograd.detect_anomaly(check_nan=True),
    "tf32 on the device": lambda: low(torch.backends.cuda.matmul, "tf32"),
    "tf32 everywhere": lambda: low(torch.backends, "tf32"),
    "bf16 on a CPU": lambda: low(torch.backends.mkldnn.matmul, "bf16"),
    "medium": lambda: switched(torch.set_float32_matmul_precision, "medium", "highest"),
    "numpy raises": lambda: np.errstate(all="raise"),
}


@pytest.mark.filterwarnings("ignore:Anomaly Detection")
@pytest.mark.parametrize("d", [2, 20])
@pytest.mark.parametrize("state", STATES.values(), ids=STATES)
def test_no_state_of_torch_changes_a_number(state, d):
    x, y = points(d)
    usual = numbers(x, y)
    with state():
        found = numbers(x, y)
    after = numbers(x, y)
    for expected, *others in zip(usual, found, after, strict=True):
        for other in others:
            assert other.device.type == "cpu"
            assert other.dtype == expected.dtype
            assert torch.equal(expected, other)


@pytest.mark.filterwarnings("ignore:Anomaly Detection")
@pytest.mark.parametrize("backend", ["dense", "streaming"])
@pytest.mark.parametrize("state", [k for k in STATES if k not in ("no_grad", "inference_mode")])
def test_nor_a_gradient(state, backend):
    x, y = points()
    found = []
    for around in (contextlib.nullcontext, STATES[state]):
        for cost in COSTS:
            own, other = x.clone().requires_grad_(), y.clone().requires_grad_()
            with around():
                r = solve_samples(own, other, cost, 20.0, backend=backend)
                (r.value + cost.matrix(own, other).mean()).backward()
            found.append((own.grad, other.grad))
    for usual, changed in zip(found[:3], found[3:], strict=True):
        assert all(torch.equal(s, t) for s, t in zip(usual, changed, strict=True))


def test_reports_made_in_inference_mode_are_reports():
    with torch.inference_mode():
        x, y = points()
        solve_samples(x, y, L1(), 20.0)
    own = x.clone().requires_grad_()
    for backend in ("dense", "streaming"):
        own.grad = None
        solve_samples(own, y, L1(), 20.0, backend=backend).value.backward()
        expected = own.grad
        own.grad = None
        solve_samples(own, y.clone(), L1(), 20.0, backend=backend).value.backward()
        assert torch.equal(own.grad, expected)
