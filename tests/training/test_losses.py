import math

import numpy as np
import ot
import pytest
import torch

import privgan as pg
from privgan.artifact import contrast, data, oracles
from privgan.sinkhorn import L1, SquaredL2


def batch(n=40, d=3, dtype=torch.float64):
    g = torch.Generator().manual_seed(0)
    return tuple(torch.randn((n, d), dtype=dtype, generator=g) for _ in range(2))


def test_exact_loss_is_pots_value_and_gradient():
    x, y = batch()
    x.requires_grad_()
    loss = contrast.ExactLoss(SquaredL2())
    value = loss(x, y)
    value.backward()
    cost = ot.dist(x.detach().numpy(), y.numpy())
    plan = ot.emd(np.full(40, 1 / 40), np.full(40, 1 / 40), cost)
    assert np.isclose(value.item(), (plan * cost).sum())
    expected = 2 * (x.detach().numpy() / 40 - plan @ y.numpy())
    assert np.allclose(x.grad, expected)
    assert loss.solve(x, y).converged


def test_matched_loss_takes_cost_and_reg_from_the_mechanism():
    mech = pg.Laplace(0.7)
    loss = pg.EntropicLoss.matched(mech, tol=1e-4)
    assert (loss.cost, loss.reg, loss.mechanism, loss.tol) == (mech.cost, mech.reg, mech, 1e-4)


def test_entropic_loss_decreases_to_exact_as_reg_falls():
    x, y = batch()
    exact = contrast.ExactLoss(SquaredL2())(x, y).item()
    values = [
        pg.EntropicLoss(SquaredL2(), reg, tol=1e-6, max_iter=100_000)(x, y).item()
        for reg in (1.0, 0.1, 0.02)
    ]
    assert values == sorted(values, reverse=True)
    assert exact <= values[-1] <= exact + 0.02 * np.log(40)


def test_only_the_matched_reg_prefers_the_raw_law():
    """Theorem 1 in one dimension: shrink or stretch the raw sample and the loss must rise."""
    x = torch.linspace(-2, 2, 300, dtype=torch.float64)[:, None]
    nodes = torch.special.ndtri(torch.linspace(0.02, 0.98, 21, dtype=torch.float64))
    y = (x + 0.5 * nodes).reshape(-1, 1)  # quantile noise: no sampling error to speak of
    mech = pg.Gaussian(0.5 * nodes.std(correction=0).item())

    def best_scale(reg):
        loss = pg.EntropicLoss(SquaredL2(), reg, tol=1e-8, max_iter=100_000)
        scales = [0.8, 0.9, 1.0, 1.1, 1.2]
        return min(scales, key=lambda s: loss(s * x, y).item())

    assert best_scale(mech.reg) == 1.0
    assert best_scale(mech.reg / 4) > 1.0
    assert best_scale(mech.reg * 4) < 1.0


def test_weights_of_the_batch_count_points():
    """A point of weight 2/n is two points; and the gradient in the weights is a difference."""
    x, y = batch(6)
    doubled = torch.cat([x, x[:1]])
    a = torch.full((6,), 1 / 7, dtype=torch.float64)
    a[0] = 2 / 7
    step = 1e-4 * torch.tensor([1.0, -1.0, 0.5, -0.5, 0.0, 0.0], dtype=torch.float64)
    for loss in (
        contrast.ExactLoss(SquaredL2()),
        pg.EntropicLoss(SquaredL2(), 2.0, tol=1e-12, max_iter=50_000),
    ):
        weighted = a.clone().requires_grad_()
        value = loss(x, y, weighted)
        assert torch.isclose(value, loss(doubled, y))
        value.backward()
        slope = (loss(x, y, a + step) - loss(x, y, a - step)) / 2
        assert torch.isclose(weighted.grad @ step, slope, rtol=1e-3)


@pytest.mark.parametrize("name", ["reg", "tol", "max_iter"])
def test_settings_are_checked(name):
    with pytest.raises(ValueError, match=f"{name} must be"):
        pg.EntropicLoss(L1(), **({"reg": 1.0} | {name: 0}))


def test_losses_describe_themselves_in_full():
    assert repr(pg.EntropicLoss(L1(), 0.1 + 0.2)) == (
        "EntropicLoss(cost=L1(), reg=0.30000000000000004, tol=0.01, max_iter=500, mechanism=None)"
    )
    assert repr(contrast.ExactLoss(L1())) == "ExactLoss(cost=L1())"


def test_the_divergence_vanishes_between_equal_samples_and_has_the_gradient_of_its_value():
    g = torch.Generator().manual_seed(0)
    x = torch.randn(6, 2, generator=g).double().requires_grad_()
    y = torch.randn(5, 2, generator=g).double()
    loss = contrast.SinkhornDivergence(SquaredL2(), 0.5, tol=1e-10, max_iter=5000)
    assert loss(y, y).item() == pytest.approx(0, abs=1e-9)
    assert loss(x, y).item() > 0
    assert torch.autograd.gradcheck(lambda x: loss(x, y), (x,), rtol=1e-4, atol=1e-6)
    solved = loss.solve(x, y)
    assert solved.converged
    assert solved.n_iter >= 3


def test_heating_raises_reg_but_leaves_categories_alone():
    mech = pg.Product((slice(0, 2), pg.Gaussian(0.5)), (slice(2, 5), pg.RandomizedResponse(3, 0.6)))
    x = torch.cat([torch.zeros(1, 2), torch.eye(3)[:1]], 1)
    y = torch.cat([torch.ones(1, 2), torch.eye(3)[1:2]], 1)
    loss = pg.EntropicLoss.matched(mech, tol=1e-5)
    label = -math.log(0.2)
    assert loss(x, y).item() == pytest.approx(2 / 0.5 + label, rel=1e-5)
    hot = loss.heated(4.0)
    assert hot(x, y).item() == pytest.approx(2 / 2.0 + label, rel=1e-5)
    assert (hot.tol, hot.max_iter, hot.mechanism) == (loss.tol, loss.max_iter, mech)
    plain = pg.EntropicLoss(SquaredL2(), 0.5).heated(3.0)
    assert plain.reg == pytest.approx(1.5)
    with pytest.raises(TypeError, match="leave anneal at 1"):
        contrast.ExactLoss(SquaredL2()).heated(2.0)
    features = pg.LinearMap(torch.eye(2), pg.Gaussian(0.5, bounds=pg.Ball(1.0, dim=2)))
    assert features.heated(3.0) == (features.cost, pytest.approx(1.5))


@pytest.mark.parametrize("over", [0.97, 1.03])
def test_points_collapse_from_twice_the_reports_largest_eigenvalue(over):
    """Spread the mean by a little along the first axis: it pays exactly below reg = 2 s.

    With a coupling density 1 + h the spread costs E|X|^2 - 2 E[X.Y h] + reg E[h^2] / 2, least at
    h = 2 X.Y / reg, where it is E|X|^2 (1 - 2 s / reg).
    """
    y = data.moons(300, seed=0).double()
    y = y - y.mean(0)
    s, axes = torch.linalg.eigh(y.T @ y / len(y))
    x = 1e-2 * torch.stack([axes[:, -1], -axes[:, -1]])
    loss = pg.EntropicLoss(SquaredL2(), float(2 * s[-1]) * over, tol=1e-12, max_iter=10_000)
    gain = float(loss(x, y) - loss(0 * x, y))
    assert gain == pytest.approx(1e-4 * (1 - 1 / over), rel=0.05)


def test_likelihood_is_below_transport_and_equal_at_the_best_law():
    """On a grid: any weights, then the raw law behind the reports."""
    x = torch.linspace(0, 1, 12).double()[:, None]
    y = torch.linspace(-1.5, 2.5, 200).double()[:, None]
    channel = torch.from_numpy(oracles.gaussian_channel(x[:, 0].numpy(), y[:, 0].numpy(), 0.3))
    law = torch.rand(12, generator=torch.Generator().manual_seed(0)).double() + 0.2
    law /= law.sum()
    counts = (20_000 * law @ channel).round().long()
    reports = y.repeat_interleave(counts, 0)
    mech = pg.Gaussian(0.3)
    transport = pg.EntropicLoss.matched(mech, tol=1e-10, max_iter=50_000)
    likelihood = pg.LikelihoodLoss.matched(mech)

    def gap(weights):
        return (transport(x, reports, weights) - likelihood(x, reports, weights)).item()

    ramp = torch.arange(1.0, 13.0).double().softmax(0)  # nearly all at one end
    assert gap(ramp) > 1e-3
    assert 0 <= gap(law) < 1e-5  # rounding the counts is all that is left
    assert likelihood(x, reports, law) < likelihood(x, reports, ramp)


def test_likelihood_is_the_report_nll_up_to_the_mechanisms_constant():
    x, y = batch()
    mech = pg.Laplace(0.7)
    value = pg.LikelihoodLoss.matched(mech)(x, y).item() / mech.reg
    assert value + 3 * math.log(2 * 0.7) == pytest.approx(pg.report_nll(x, y, mech))


def test_likelihood_has_the_gradient_of_its_value():
    x, y = batch(6)
    a = torch.linspace(1, 2, 6).double()
    loss = pg.LikelihoodLoss(SquaredL2(), 0.7)
    settled = loss.solve(x, y)
    assert settled.converged
    x.requires_grad_()
    a = (a / a.sum()).requires_grad_()
    assert torch.autograd.gradcheck(lambda x, a: loss(x, y, a), (x, a))
    assert torch.isclose(loss(x, y), loss(x, y, torch.full((6,), 1 / 6).double()))


def test_a_zero_weight_leaves_its_point_out_of_the_likelihood():
    g = torch.Generator().manual_seed(0)
    x, y = torch.randn(4, 2, generator=g).double(), torch.randn(6, 2, generator=g).double()
    a = torch.tensor([0.5, 0.0, 0.3, 0.2], dtype=torch.float64, requires_grad=True)
    loss = pg.LikelihoodLoss(SquaredL2(), 0.5)
    value = loss(x.requires_grad_(), y, a)
    value.backward()
    kept = a.detach() > 0
    assert value.item() == pytest.approx(loss(x.detach()[kept], y, a.detach()[kept]).item())
    assert a.grad.isfinite().all()
    assert x.grad.isfinite().all()
    assert not x.grad[1].any()
