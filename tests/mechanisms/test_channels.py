"""What holds for every channel there is."""

import math
import time

import numpy as np
import pytest
import torch
from channels import CASES, F64, weights
from scipy import stats

import privgan as pg
from privgan.sinkhorn import solve, solve_samples

each = pytest.mark.parametrize("case", CASES.values(), ids=CASES)
PURE = {name: case for name, case in CASES.items() if name not in ("gaussian", "product")}
numbers = pytest.mark.parametrize(
    "case", [CASES[n] for n in ("gaussian", "laplace", "piecewise", "wave", "linear")], ids=str
)


@each
def test_the_raw_law_is_recovered_exactly_on_a_grid(case):
    """At P_X the plan is P_X(x) k(y | x) and the potential on the x side is constant."""
    channel = case.mech.log_density(case.records, case.reports)[
        :, :: max(1, len(case.reports) // 800)
    ]
    channel = channel.log_softmax(1)
    raw = weights(len(case.records))
    solved = solve(-channel, 1.0, raw, raw @ channel.exp(), tol=1e-12, max_iter=10_000)
    assert torch.allclose(solved.plan(), raw[:, None] * channel.exp(), rtol=0, atol=1e-8)
    assert np.ptp(solved.f.numpy()) < 1e-8
    other = weights(len(case.records), 1)
    worse = solve(-channel, 1.0, other, raw @ channel.exp(), tol=1e-9, max_iter=10_000)
    assert worse.value > solved.value


@each
def test_paired_costs_are_the_diagonal(case):
    rows = min(len(case.records), len(case.reports))
    x, y = case.records[:rows].clone(), case.reports[-rows:]
    cost = case.mech.cost
    expected = cost.matrix(case.mech.forward(x), y).diagonal()
    assert torch.allclose(cost.paired(case.mech.forward(x), y), expected, atol=1e-12)
    assert torch.allclose(cost.T.paired(y, case.mech.forward(x)), expected, atol=1e-12)


@each
def test_densities_integrate_to_one(case):
    total = case.mech.log_density(case.records, case.reports).exp().sum(1) * case.volume
    tolerance = 1e-12 if case.volume == 1.0 else 3e-3  # bands end inside a cell; a corner at r = 0
    assert torch.allclose(total, torch.ones_like(total), rtol=0, atol=tolerance)


@each
def test_cost_over_reg_is_minus_log_density_up_to_a_term_in_the_report(case):
    reports = case.reports[:: max(1, len(case.reports) // 500)]
    log_k = case.mech.log_density(case.records, reports)
    leftover = (
        log_k + case.mech.cost.matrix(case.mech.forward(case.records), reports) / case.mech.reg
    )
    leftover = leftover[:, torch.isfinite(leftover).all(0)]
    assert leftover.shape[1] > 3
    assert np.ptp(leftover.numpy(), axis=0).max() < 1e-10


@numbers
def test_the_sampler_follows_the_density_of_numbers(case):
    x = case.records[1:2]
    drawn = case.mech.privatize(x.repeat(20_000, 1), seed=0)[:, 0].numpy()
    density = case.mech.log_density(x, case.reports)[0].exp().numpy() * case.volume
    edges = case.reports[:, 0].numpy() + case.volume / 2
    assert stats.kstest(drawn, lambda t: np.interp(t, edges, density.cumsum())).pvalue > 0.01


KINDS = ["response", "symmetric", "optimised", "subset", "window", "hashing", "sampled"]


@pytest.mark.parametrize("name", KINDS)
def test_the_sampler_follows_the_probabilities_of_categories(name):
    case = CASES[name]
    for x in case.records:
        drawn = case.mech.privatize(x.repeat(20_000, 1), seed=1)
        counts = (drawn[:, None] == case.reports[None]).all(2).sum(0).numpy()
        expected = 20_000 * case.mech.log_density(x[None], case.reports)[0].exp().numpy()
        assert counts.sum() == 20_000
        assert stats.chisquare(counts, expected).pvalue > 0.005


@pytest.mark.parametrize("name", ["euclidean", "wave2", "product"])
def test_the_sampler_follows_the_density_of_several_columns(name):
    """Counts in coarse regions of reports, against the cells that lie in each."""
    case = CASES[name]
    x = case.records[4:5]
    drawn = case.mech.privatize(x.repeat(40_000, 1), seed=2)
    cuts = []  # the drawn quartiles, moved to borders of cells
    for column, cells in zip(drawn.T, case.reports.T, strict=True):
        middles = cells.unique()
        borders = (middles[1:] + middles[:-1]) / 2
        quartiles = column.quantile(torch.tensor([0.25, 0.5, 0.75], dtype=F64))
        cuts.append(borders[(borders - quartiles[:, None]).abs().argmin(1)].contiguous())
    cell = case.mech.log_density(x, case.reports)[0].exp() * case.volume

    def region(y):
        place = torch.stack(
            [torch.bucketize(c, t) for c, t in zip(y.T.contiguous(), cuts, strict=True)]
        )
        return (place * 4 ** torch.arange(len(place))[:, None]).sum(0)

    size = 4 ** x.shape[1]
    counts = torch.bincount(region(drawn), minlength=size).double()
    expected = torch.zeros(size, dtype=F64).index_add_(0, region(case.reports), cell)
    expected *= 40_000 / expected.sum()
    kept = expected > 20
    statistic = ((counts - expected)[kept] ** 2 / expected[kept]).sum().item()
    assert counts[~kept].sum() < 100
    assert statistic < 1.5 * stats.chi2.ppf(0.999, int(kept.sum()))  # bands end inside cells


@pytest.mark.parametrize("case", PURE.values(), ids=PURE)
def test_a_pure_budget_bounds_every_likelihood_ratio_and_is_reached(case):
    if isinstance(case.mech, pg.LinearMap):
        corners = torch.tensor([[0.0], [1.0]], dtype=F64).repeat(1, 4)
    elif not isinstance(case.mech.bounds, pg.Box):
        corners = case.records
    else:
        box = case.mech.bounds
        corners = torch.tensor([box.low, box.high], dtype=F64)
    log_k = case.mech.log_density(corners, case.reports)
    worst = (log_k.amax(0) - log_k.amin(0))[torch.isfinite(log_k).all(0)].max().item()
    assert worst <= case.mech.epsilon() * (1 + 1e-12)
    assert worst >= 0.99 * case.mech.epsilon()


@each
def test_the_plan_weighted_gradient_is_right(case):
    x = case.mech.forward(case.records).clone() + 0.0123
    y = case.mech.privatize(case.records, seed=0)
    plan = torch.rand(len(x), len(y), dtype=F64, generator=torch.Generator().manual_seed(3))
    found, step = case.mech.cost.gradient(x, y, plan), 1e-6
    for i, j in [(0, 0), (len(x) - 1, x.shape[1] - 1)]:
        up, down = x.clone(), x.clone()
        up[i, j] += step
        down[i, j] -= step
        change = case.mech.cost.matrix(up, y) - case.mech.cost.matrix(down, y)
        assert math.isclose(
            found[i, j], (plan * change).sum() / (2 * step), rel_tol=1e-5, abs_tol=1e-6
        )
    assert bool((found == 0).all()) == case.flat
    turned = case.mech.cost.T
    assert torch.allclose(turned.matrix(y, x), case.mech.cost.matrix(x, y).T)
    assert turned.gradient(y, x, plan.T).shape == y.shape


@each
@pytest.mark.parametrize("dtype", [torch.float32, F64])
def test_dense_and_streaming_solves_agree(case, dtype):
    x = case.mech.forward(case.records.to(dtype)).detach()
    y = case.mech.privatize(case.records.to(dtype).repeat(7, 1), seed=0)
    results = []
    for backend in ("dense", "streaming"):
        points = x.clone().requires_grad_()
        solved = solve_samples(points, y, case.mech.cost, case.mech.reg, tol=1e-5, backend=backend)
        assert solved.converged
        solved.value.backward()
        results.append((solved.value.detach(), points.grad))
    (value, grad), (streamed, streamed_grad) = results
    assert torch.isclose(value, streamed, rtol=1e-4, atol=1e-5)
    assert torch.allclose(grad, streamed_grad, rtol=1e-3, atol=1e-4)


@each
def test_privatize_repeats_with_a_seed_and_keeps_type(case):
    x = case.records.float().repeat(50, 1)
    y = case.mech.privatize(x, seed=3)
    assert y.dtype == torch.float32
    assert y.shape == (len(x), case.mech.report_dim(x.shape[1])) == (len(x), case.reports.shape[1])
    assert torch.equal(y, case.mech.privatize(x, seed=3))
    assert not torch.equal(y, case.mech.privatize(x, seed=4))
    assert not torch.equal(y[: len(case.records)], y[len(case.records) : 2 * len(case.records)])
    assert isinstance(case.mech.privatize(x.numpy(), seed=3), np.ndarray)


@each
def test_descriptions_say_budget_and_recovery(case):
    words = case.mech.describe()
    assert words.startswith(repr(case.mech))
    assert "whole record    epsilon" in words
    assert "can be recovered" in words
    assert ("law of clip(X)" in words) == (case.mech.bounds is not None)


@each
def test_reports_train_weights_on_atoms(case):
    """Whatever the channel, and flat costs too: the weights move from uniform towards the law."""
    raw = torch.arange(1, len(case.records) + 1, dtype=F64) ** 2
    raw = raw / raw.sum()  # rising: what every channel here can tell
    labels = torch.multinomial(raw, 20_000, True, generator=torch.Generator().manual_seed(0))
    reports = case.mech.privatize(case.records[labels], seed=1)
    generator = pg.Atoms(case.records)
    loss = pg.EntropicLoss.matched(case.mech, tol=1e-3)
    pg.fit(generator, reports, loss, steps=60, batch_size=2000, lr=0.1, progress=False)
    start = (raw - 1 / len(raw)).abs().sum()
    assert (generator.weights - raw).abs().sum() < 0.7 * start


@each
def test_records_of_another_width_are_refused(case):
    with pytest.raises(ValueError, match="columns"):
        case.mech.privatize(torch.zeros(2, 9))
    with pytest.raises(ValueError, match="columns"):
        case.mech.log_density(case.records, torch.zeros(2, 23, dtype=F64))


@pytest.mark.parametrize("make", [pg.Gaussian, pg.Laplace])
def test_the_whole_of_mnist_is_privatized_in_seconds(make):
    mech = make(1.0, bounds=pg.Box(0.0, 1.0, dim=784))
    x = torch.zeros(60_000, 784)
    started = time.process_time()
    mech.privatize(x, seed=0)
    assert time.process_time() - started < 10.0
