from itertools import pairwise

import numpy as np
import pytest
import torch

from privgan.artifact import oracles
from privgan.sinkhorn._dense import DenseHalfSteps
from privgan.sinkhorn._iteration import DEPTH, STALL, _Memory, iterate


def problem(n=40, reg=0.01, seed=0):
    g = torch.Generator().manual_seed(seed)
    x, y = (torch.rand((n, 2), dtype=torch.float64, generator=g) for _ in range(2))
    cost = torch.cdist(x, y).square()
    a = torch.full((n,), 1 / n, dtype=torch.float64)
    return DenseHalfSteps(cost, reg, a, a, torch.empty_like(cost)), a, cost, reg


def test_acceleration_takes_a_fraction_of_plain_sinkhorns_iterations():
    steps, a, cost, reg = problem()
    solution = iterate(steps, steps.start(), a, a, 1e-6, 5000)
    psi, plain = steps.start(), 0
    while True:
        _, log_q = steps(psi)
        plain += 1
        if a @ torch.expm1(log_q).abs() <= 1e-6:
            break
        psi = psi - log_q
    assert solution.error <= 1e-6
    assert solution.n_iter < plain / 3
    f, _ = oracles.log_domain_sinkhorn(cost.numpy(), reg, a.numpy(), a.numpy(), tol=1e-10)
    assert np.ptp((reg * solution.phi).numpy() - f) < 1e-5


@pytest.mark.parametrize("reg", [0.002, 0.01, 0.1])
def test_the_dual_of_accepted_iterates_never_falls(reg):
    steps, a, _, _ = problem(reg=reg)
    duals = []
    for k in range(1, 60):
        s = iterate(steps, steps.start(), a, a, 1e-14, k)
        duals.append((a @ s.phi + a @ s.psi).item())
    assert all(late >= early - 1e-9 * abs(early) for early, late in pairwise(duals))


def test_a_step_that_lowers_the_dual_is_taken_back(monkeypatch):
    steps, a, _, _ = problem()
    combine = _Memory.combine
    calls, rng = [], np.random.default_rng(0)

    def sabotaged(self, step, residual):
        calls.append(1)
        good = combine(self, step, residual)
        return good + 5 * rng.standard_normal(good.size) if len(calls) % 3 == 0 else good

    monkeypatch.setattr(_Memory, "combine", sabotaged)
    solution = iterate(steps, steps.start(), a, a, 1e-4, 5000)
    assert solution.error <= 1e-4
    assert len(calls) < solution.n_iter  # some iterations were spent on taking steps back


def test_rounding_that_forbids_the_tolerance_ends_the_iteration():
    _, a, cost, reg = problem(reg=0.1)
    cost, kernel = cost.float(), torch.empty_like(cost.float())
    rough = DenseHalfSteps(cost, reg, a, a, kernel)
    solution = iterate(rough, rough.start(), a, a, 1e-15, 100_000)
    assert 1e-15 < solution.error < 1e-5
    assert solution.n_iter < 1000


def test_memory_cancels_a_linear_residual_in_as_many_steps_as_it_has_eigenvalues():
    rates = np.array([0.9, 0.5, 0.1])
    psi = np.ones(3)
    memory = _Memory(3)
    for _ in range(4):
        psi = memory.combine(rates * psi, (1 - rates) * psi)
    assert np.abs(psi).max() < 1e-4
    assert DEPTH >= 3


def drawn_error(errors):
    """Half-steps whose marginal errors are these, one after another, whatever psi is."""
    errors = iter(errors)

    def half_steps(psi):
        e = next(errors)
        return torch.zeros(2, dtype=torch.float64), torch.tensor([e, -e], dtype=torch.float64)

    return half_steps


HALVES = torch.full((2,), 0.5, dtype=torch.float64)


def stops_after(errors, tol):
    psi = torch.zeros(2, dtype=torch.float64)
    return iterate(drawn_error(errors), psi, HALVES, HALVES, tol, len(errors), noise=np.inf).n_iter


def test_an_error_that_is_the_tolerance_to_the_last_bit_is_small_enough():
    psi = torch.zeros(2, dtype=torch.float64)
    first = iterate(drawn_error([0.1]), psi, HALVES, HALVES, 1e-9, 1).error
    assert stops_after([0.1, 0.1, 0.1], first) == 1
    assert stops_after([0.1, 0.1, 0.1], np.nextafter(first, 0.0)) == 3


def test_it_stops_when_the_error_has_not_fallen_by_a_twentieth_for_long():
    flat = [0.5] * (STALL + 5)
    assert stops_after(flat, 1e-9) == STALL + 1
    falling = [0.5 * 0.94 ** (k // STALL) for k in range(3 * STALL)]  # just in time, twice
    assert stops_after(falling, 1e-9) == 3 * STALL
    creeping = [0.5 * 0.96 ** (k // STALL) for k in range(3 * STALL)]
    assert stops_after(creeping, 1e-9) < 3 * STALL
