"""Theorem 1 as 02_recovery checks it: on lattices to rounding, and through a trained plan."""

import math

import numpy as np
import pytest
import torch
from scipy import stats

import privgan as pg
from privgan.artifact import oracles
from privgan.audit import identifiability
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


@each
def test_with_a_free_record_side_the_best_coupling_is_the_posterior(mech):
    """Over all pi with Y's law right, E c + reg KL(pi || P x Q) >= -reg E log E_P exp(-c / reg)."""
    cost, _, reports = lattice(mech)
    law = LAW.flip(0)

    def paid(pi):
        return (pi * (cost + mech.reg * (pi.log() - law.log()[:, None] - reports.log()))).sum()

    joint = law[:, None] * torch.exp(-cost / mech.reg)
    posterior = reports * joint / joint.sum(0)
    least = -mech.reg * (reports @ joint.sum(0).log())
    assert paid(posterior).item() == pytest.approx(least.item(), abs=1e-12)
    rng = torch.Generator().manual_seed(0)
    for size in (1e-3, 0.1, 1.0):
        other = posterior * torch.exp(size * torch.randn(cost.shape, dtype=F64, generator=rng))
        assert paid(reports * other / other.sum(0)) > least
    # Its own record side is another law than `law`, or there would be no gap: a round of EM.
    assert (posterior.sum(1) - law).abs().max() > 0.01


def losses_of(laws, channel, reports):
    """Matched values, nats, of ``laws`` against ``reports``, and the ranges of their potentials."""
    solved = [solve(-channel.log(), 1.0, p, reports, tol=1e-12, max_iter=20_000) for p in laws]
    return [r.value.item() for r in solved], [np.ptp(r.f.numpy()) for r in solved]


def test_a_channel_that_hides_a_direction_has_many_minimisers_and_says_so_before():
    """One of two attributes is reported: laws with equal margins give equal reports."""
    bit = pg.RandomizedResponse.calibrate(epsilon=2.0, k=2)
    one = pg.mechanisms.Sampled((slice(0, 2), bit), (slice(2, 4), bit), choose=1)
    letters = torch.eye(2, dtype=F64)
    records = torch.cat([letters.repeat_interleave(2, 0), letters.repeat(2, 1)], 1)
    both = pg.Product((slice(0, 2), bit), (slice(2, 4), bit))
    blank = torch.zeros(2, 3, dtype=F64)
    mark = torch.ones(2, 1, dtype=F64)
    answers = torch.cat(
        [torch.cat([letters, mark, blank], 1), torch.cat([blank, letters, mark], 1)]
    )
    apart = torch.tensor([0.25, 0.25, 0.25, 0.25], dtype=F64)
    alike = torch.tensor([0.5, 0.0, 0.0, 0.5], dtype=F64) * 0.9 + 0.1 * apart
    uneven = torch.tensor([0.4, 0.3, 0.2, 0.1], dtype=F64)
    for mech, reports, same in ((one, answers, True), (both, records, False)):
        channel = mech.log_density(records, reports).exp()
        values, slopes = losses_of((apart, alike, uneven), channel, apart @ channel)
        assert values[2] > values[0] + 1e-3
        assert (values[1] == pytest.approx(values[0], abs=1e-10)) == same
        assert max(slopes[:2]) < 1e-8 if same else slopes[1] > 0.1
        told = identifiability(mech, records)
        assert told.resolved(10**9) == (2 if same else 3)
        assert (told.singular_values[-1] < 1e-6) == same


def test_two_outputs_tell_a_mean_and_nothing_else():
    """Duchi, Jordan and Wainwright's channel on [-1, 1]: the odds of one answer, linear in x."""
    x = torch.linspace(-1, 1, 5, dtype=F64)
    up = 0.5 + 0.4 * x
    channel = torch.stack([up, 1 - up], 1)
    narrow = torch.tensor([0.01, 0.2, 0.58, 0.2, 0.01], dtype=F64)
    wide = torch.tensor([0.4, 0.05, 0.1, 0.05, 0.4], dtype=F64)
    shifted = torch.tensor([0.1, 0.1, 0.2, 0.2, 0.4], dtype=F64)
    (first, second, third), _ = losses_of((narrow, wide, shifted), channel, narrow @ channel)
    assert second == pytest.approx(first, abs=1e-10)
    assert third > first + 1e-3


def test_noise_with_a_zero_in_its_characteristic_function_hides_that_frequency():
    """Noise uniform on three of twelve places: a wave of period three leaves no trace."""
    place = torch.arange(12)
    k = torch.where(((place[None] - place[:, None]) % 12) < 3, 1 / 3 - 1e-12, 4e-13).double()
    k = k / k.sum(1, keepdim=True)
    even = torch.full((12,), 1 / 12, dtype=F64)
    hidden = even + 0.05 * torch.cos(2 * math.pi * place.double() / 3)
    shown = even + 0.05 * torch.cos(2 * math.pi * place.double() / 4)
    for law, seen in ((hidden, False), (shown, True)):
        assert ((law @ k - even @ k).abs().max().item() > 1e-3) == seen
        assert (torch.fft.fft(k[0])[4 if law is hidden else 3].abs().item() > 1e-6) == seen


def test_a_normaliser_that_depends_on_the_record_belongs_into_the_cost():
    """Noise whose width depends on the record: without log s(x) another law is the minimiser."""
    s = torch.tensor([0.3, 0.4, 0.6, 0.8, 1.0], dtype=F64)[:, None]
    bare = (X - Y.T) ** 2 / (2 * s**2)
    full = bare + bare.neg().logsumexp(1, keepdim=True)
    reports = (LAW @ torch.exp(-full)).numpy()
    for cost, off in ((full, False), (bare, True)):
        found = oracles.maximum_likelihood(torch.exp(-cost).numpy(), reports)
        distance = abs(found - LAW.numpy()).sum() / 2
        assert (distance > 0.05) == off
        assert off or distance < 1e-6


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
