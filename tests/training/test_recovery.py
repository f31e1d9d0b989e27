"""Theorem 1 as 02_recovery checks it: on lattices to rounding, and through a trained plan."""

import math

import numpy as np
import pytest
import torch
from scipy import stats

import privgan as pg
from privgan.artifact import oracles
from privgan.sinkhorn import solve, solve_samples

F64 = torch.float64
Y = torch.linspace(-8, 8, 161, dtype=F64)[:, None]
X = Y[64:97:8]  # records on the reports' lattice: every row of k then holds the same mass
LAW = torch.tensor([0.1, 0.3, 0.15, 0.25, 0.2], dtype=F64)
MECHANISMS = {"gaussian": pg.Gaussian(0.4), "laplace": pg.Laplace(0.3)}
each = pytest.mark.parametrize("mech", MECHANISMS.values(), ids=MECHANISMS)


def lattice(mech):
    cost = mech.cost.matrix(X, Y)
    channel = torch.softmax(mech.log_density(X, Y), 1)
    return cost, channel, LAW @ channel


@each
def test_the_plan_at_the_raw_law_is_the_channel_and_its_potential_is_flat(mech):
    cost, channel, reports = lattice(mech)
    solved = solve(cost, mech.reg, LAW, reports, tol=1e-13)
    assert (solved.plan() - LAW[:, None] * channel).abs().max() <= 1e-8
    assert np.ptp(solved.f.numpy()) / mech.reg <= 1e-8


@each
@pytest.mark.parametrize("times", [0.5, 2.0])
def test_away_from_the_matched_reg_neither_holds(mech, times):
    cost, channel, reports = lattice(mech)
    solved = solve(cost, times * mech.reg, LAW, reports, tol=1e-13)
    assert (solved.plan() - LAW[:, None] * channel).abs().max() > 1e-3
    assert np.ptp(solved.f.numpy()) / mech.reg > 0.01


@each
def test_descent_on_the_weights_reaches_the_raw_law(mech):
    cost, _, reports = lattice(mech)
    p, solved = torch.full((5,), 0.2, dtype=F64), None
    for _ in range(300):
        solved = solve(cost, mech.reg, p, reports, tol=1e-11, init=solved)
        p = torch.softmax(p.log() - 0.2 * solved.f / mech.reg, 0)
    assert (p - LAW).abs().sum() < 1e-6


@each
@pytest.mark.parametrize("times", [0.5, 1.0, 1.25])
def test_transport_is_at_least_the_likelihood_and_equal_at_its_minimiser(mech, times):
    cost, _, reports = lattice(mech)
    reg = times * mech.reg
    kernel = torch.exp(-cost / reg)
    best = torch.from_numpy(oracles.maximum_likelihood(kernel.numpy(), reports.numpy()))
    for law, equal in ((best, True), (LAW, times == 1.0), (LAW.flip(0), False)):
        value = solve(cost, reg, law, reports, tol=1e-12).value
        gap = (value + reg * (reports @ (law @ kernel).log())).item()
        assert (abs(gap) < 1e-9) if equal else (gap > 1e-5)


@pytest.mark.parametrize("kind", ["gaussian", "laplace"])
def test_a_trained_couplings_noise_does_not_know_the_generated_point(kind):
    """Largest distance between distribution functions, over quarters of the generated points."""
    b = 0.6  # both noises have the variance 2 b^2
    gaussian, laplace = pg.Gaussian(b * math.sqrt(2)), pg.Laplace(b)
    mech, wrong, density = {
        "gaussian": (gaussian, laplace, stats.norm(scale=gaussian.sigma)),
        "laplace": (laplace, gaussian, stats.laplace(scale=b)),
    }[kind]
    g = torch.Generator().manual_seed(0)
    sign = torch.randint(0, 2, (20_000, 1), generator=g) * 2 - 1
    y = mech.privatize(sign + 0.4 * torch.randn((20_000, 1), generator=g), seed=1)
    bins = np.linspace(-4, 4, 81)
    worst = {}
    for role, source in (("matched", mech), ("mismatched", wrong)):
        loss = pg.EntropicLoss(source.cost, source.reg, tol=1e-3)
        model = pg.MLP(1, 1, hidden=(64, 64))
        pg.fit(model, y, loss, steps=500, batch_size=1000, lr=3e-3, average=0.98, progress=False)
        x = model.sample(4000, seed=2).sort(0).values
        plan = solve_samples(x, y[:4000], loss.cost, loss.reg, tol=1e-4).plan()
        worst[role] = 0.0
        for quarter in np.array_split(np.arange(4000), 4):
            noise = (y[:4000].T - x[quarter]).numpy()
            mass = np.histogram(noise, np.r_[-np.inf, bins], weights=plan[quarter].numpy())[0]
            gap = abs(mass.cumsum() / plan[quarter].sum().item() - density.cdf(bins)).max()
            worst[role] = max(worst[role], gap)
    assert worst["matched"] < 0.05
    assert worst["mismatched"] > 1.5 * worst["matched"]
