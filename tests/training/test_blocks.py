"""Reports of several mechanisms in one training: they say as much as each of them, and together."""

import pytest
import torch

import privgan as pg
from privgan.artifact import data
from privgan.mechanisms import Blocks
from privgan.plain import digest, from_plain, to_plain
from privgan.reports import together
from privgan.reports.collection import KINDS
from privgan.training.blocks import BlocksLoss

RAW = data.circle(900, seed=0)
A, B = pg.Gaussian(0.2), pg.Laplace(0.4, bounds=pg.Box(-2.0, 2.0, dim=2))
PARTS = [pg.simulate(RAW[:300], A, seed=1), pg.simulate(RAW[300:], B, seed=2)]


def test_the_likelihood_is_that_of_each_block():
    x = RAW[:50] * 1.1
    joint = together(PARTS)
    density = joint.mechanism.log_density(x, joint.values)
    apart = [part.mechanism.log_density(x, part.values) for part in PARTS]
    assert torch.allclose(density, torch.cat(apart, 1), atol=1e-5)
    one, other = (pg.report_nll(x, part) for part in PARTS)
    assert pg.report_nll(x, PARTS) == pytest.approx((one + 2 * other) / 3, rel=1e-6)


def test_the_cost_is_matched_and_its_gradient_is_its_own():
    joint = together(PARTS)
    cost, y = joint.mechanism.cost, joint.values.double()
    order = torch.randperm(900, generator=torch.Generator().manual_seed(0))
    y = y[order]
    x = joint.mechanism.forward(RAW[:20].double()).requires_grad_()
    plan = torch.rand(20, 900, dtype=torch.float64)
    (expected,) = torch.autograd.grad(cost.matrix(x, y), x, plan)
    assert torch.allclose(cost.gradient(x.detach(), y, plan), expected)
    back = cost.T.matrix(y, x.detach())
    assert torch.allclose(back, cost.matrix(x.detach(), y).T)
    shift = torch.where(cost.shiftable(5), 3.0, 0.0).double()
    assert torch.allclose(cost.matrix(x + shift, y + shift), cost.matrix(x, y))
    assert cost.shiftable(5).tolist() == [True] * 4 + [False]


def test_a_training_on_both_is_nearer_than_on_the_noisy_ones_alone():
    raw = torch.tensor([[-1.0], [1.0]]).repeat(1000, 1)
    box = pg.Box(-1.0, 1.0, dim=1)
    sharp = pg.simulate(raw[:400], pg.Laplace(0.2, bounds=box), seed=1)
    noisy = pg.simulate(raw[400:], pg.Laplace(2.0, bounds=box), seed=2)

    def spread(reports):
        generator = pg.MLP(1, 1, hidden=(16,))
        pg.fit(generator, reports, steps=400, batch_size=200, lr=1e-2)
        return (generator.sample(1000, seed=0).abs() - 1).abs().mean()

    assert spread([sharp, noisy]) < 0.75 * spread([noisy])


def test_blocks_may_report_other_columns_and_the_origin_costs_no_digits():
    far = 1.7e9 + RAW.double()
    box = pg.Box(1.7e9 - 3, 1.7e9 + 3, dim=2)
    feature = pg.LinearMap(
        torch.tensor([[1.0, 0.0]]), pg.Laplace(0.3, bounds=pg.Box(1.69e9, 1.71e9, dim=1))
    )
    parts = [
        pg.simulate(far, pg.Gaussian(0.3, bounds=box), seed=1),
        pg.simulate(far, feature, seed=2),
    ]
    joint = together(parts)
    assert joint.values.shape == (1800, 4)
    assert joint.values.dtype == torch.float64
    centre, spread = joint.mechanism.location(joint.values)
    assert (centre - 1.7e9).abs().max() < 0.2
    assert ((spread > 0.4) & (spread < 1.5)).all()
    generator = pg.Linear(2, 2)
    history = pg.fit(generator, parts, steps=5, batch_size=200)
    assert all(history.converged)
    assert (generator.sample(50, seed=0).double() - 1.7e9).abs().max() < 10


def test_a_checkpoint_knows_its_blocks(tmp_path):
    settings = {"steps": 3, "batch_size": 64, "checkpoint": tmp_path / "run"}
    pg.fit(pg.Linear(2, 2), PARTS, **settings)
    other = [PARTS[0], pg.Reports(PARTS[1].values, pg.Laplace(0.5, bounds=B.bounds), True)]
    with pytest.raises(ValueError, match="belongs to another training"):
        pg.fit(pg.Linear(2, 2), other, **settings)


def test_blocks_are_a_value_and_a_mechanism(tmp_path):
    blocks = Blocks(A, B)
    assert from_plain(to_plain(blocks), KINDS) == blocks
    assert digest(blocks) != digest(Blocks(B, A))
    y = blocks.privatize(RAW, seed=3)
    assert y.shape == (900, 5)
    assert torch.equal(y[:, -1], torch.arange(900.0) % 2)
    assert (y[::2, :2] - RAW[::2]).std() == pytest.approx(0.2, rel=0.1)
    assert (y[1::2, 2:4] - RAW[1::2]).abs().mean() == pytest.approx(0.4, rel=0.1)
    pg.Reports(y, blocks, simulation=True).save(tmp_path / "r.npz")
    assert torch.equal(pg.Reports.load(tmp_path / "r.npz").values, y)
    bounded = Blocks(B, pg.Laplace(0.1, bounds=B.bounds), dim=2)
    assert bounded.epsilon() == pytest.approx(80.0)
    with pytest.raises(ValueError, match="outside"):
        bounded.privatize(RAW + 5.0)
    assert bounded.privatize(RAW + 5.0, clip=True, seed=0)[1::2, 2:4].mean() == pytest.approx(
        2.0, abs=0.1
    )


def test_one_or_none_stays_as_it_is_and_others_are_refused():
    assert together([PARTS[0]]) is PARTS[0]
    assert together(RAW) is RAW
    rows = [[1.0, 2.0]]
    assert together(rows) is rows
    with pytest.raises(TypeError, match="every one of the reports must be a Reports"):
        together([PARTS[0], RAW])
    wide = pg.simulate(torch.zeros(4, 3), pg.Gaussian(1.0), seed=0)
    with pytest.raises(ValueError, match="different numbers of columns"):
        together([PARTS[0], wide])
    with pytest.raises(ValueError, match="need one number of columns"):
        Blocks(pg.Gaussian(1.0))
    y = torch.tensor([[0.0, 0.0, 0.0, 0.0, 1.0], [0.0, 0.0, 0.0, 0.0, 2.0]])
    with pytest.raises(ValueError, match=r"y\[1\] does not end in the number"):
        Blocks(A, B).log_density(RAW[:3], y)


def test_the_loss_is_each_blocks_own_by_its_share():
    joint = together(PARTS)
    loss = BlocksLoss(joint.mechanism)
    x = RAW[:40] * 1.1
    order = torch.randperm(900, generator=torch.Generator().manual_seed(0))
    solved = loss.solve(x, joint.values[order])
    own = [pg.EntropicLoss.matched(p.mechanism).solve(x, p.values) for p in PARTS]
    expected = own[0].value / A.reg / 3 + 2 * own[1].value / B.reg / 3
    assert solved.value.item() == pytest.approx(expected.item(), rel=1e-3)
    assert solved.converged
    assert solved.error == pytest.approx(max(s.error for s in own), abs=1e-3)
    hot = loss.heated(8.0).heated(0.5).solve(x, joint.values).value
    own = [pg.EntropicLoss.matched(p.mechanism).heated(4.0)(x, p.values) for p in PARTS]
    assert hot.item() == pytest.approx(
        (own[0] / A.reg / 3 + 2 * own[1] / B.reg / 3).item(), rel=1e-3
    )
    hasty = BlocksLoss(joint.mechanism, tol=1e-9, max_iter=1).solve(x, joint.values)
    assert not hasty.converged
    history = pg.fit(pg.Linear(2, 2), PARTS, steps=3, batch_size=64, anneal=4.0)
    assert len(history.loss) == 3
