"""What the contrasts do beyond what any loss does (tests/training/test_losses.py)."""

import pytest
import torch
from scipy.optimize import linear_sum_assignment

from privgan.artifact import contrast
from privgan.sinkhorn import L1, Euclidean, SquaredL2

X = torch.randn((6, 2), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
Y = torch.rand((5, 2), generator=torch.Generator().manual_seed(1), dtype=torch.float64)
WEIGHTS = torch.tensor([0.1, 0.0, 0.3, 0.2, 0.0, 0.4], dtype=torch.float64)
LOSSES = [contrast.ExactLoss(SquaredL2()), contrast.SinkhornDivergence(SquaredL2(), 0.5, tol=1e-9)]


@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: type(loss).__name__)
def test_a_zero_weight_is_as_if_the_point_were_not_there(loss):
    x, a = X.clone().requires_grad_(), WEIGHTS.clone().requires_grad_()
    value = loss(x, Y, a)
    value.backward()
    kept = WEIGHTS > 0
    less = X[kept].requires_grad_()
    expected = loss(less, Y, WEIGHTS[kept])
    expected.backward()
    assert value.item() == pytest.approx(expected.item(), rel=1e-6)
    assert torch.allclose(x.grad[kept], less.grad, atol=1e-6)
    assert (x.grad[~kept] == 0).all()
    assert a.grad.isfinite().all()


@pytest.mark.parametrize("cost", [SquaredL2(), L1(), Euclidean()], ids=repr)
def test_exact_transport_is_exact_at_any_scale_and_of_float32(cost):
    degree = 2 if cost == SquaredL2() else 1
    loss = contrast.ExactLoss(cost)
    expected = loss(X, Y).item()
    for unit in (2.0**-30, 2.0**30):
        assert loss(X * unit, Y * unit).item() / unit**degree == pytest.approx(expected, rel=1e-12)
    x, y = (v.float() + 4096 for v in (X, Y))
    assert loss(x, y).item() == pytest.approx(loss(x.double(), y.double()).item(), rel=1e-6)


@pytest.mark.parametrize("far", [1e6, 1e9])
def test_an_outlier_that_both_share_costs_no_digits(far):
    """The two outliers are each other's, and the others' best plan is theirs alone."""
    g = torch.Generator().manual_seed(2)
    x, y = (torch.randn((30, 2), generator=g, dtype=torch.float64) for _ in range(2))
    rows, columns = linear_sum_assignment(torch.cdist(x, y).square())
    outlier = torch.tensor([[far, 0.0]], dtype=torch.float64)
    loss, both = contrast.ExactLoss(SquaredL2()), torch.cat([x, outlier]).requires_grad_()
    solved = loss.solve(both, torch.cat([y, outlier]))
    solved.value.backward()
    assert solved.converged
    expected = (x[rows] - y[columns]).square().sum().item() / 31
    assert solved.value.item() == pytest.approx(expected, rel=1e-6)
    assert torch.allclose(both.grad[:30][rows], 2 * (x[rows] - y[columns]) / 31, atol=1e-9)

    a = torch.rand(31, generator=g, dtype=torch.float64) + 0.5
    a[-1] = a[:-1].sum() / 30  # as heavy as the other side's
    solved = loss.solve(both.detach(), torch.cat([y, outlier]), a / a.sum())
    assert loss.solve(x, y, a[:-1] / a[:-1].sum()).converged
    assert not solved.converged


def test_a_sample_is_transported_to_itself_exactly():
    for cost in (SquaredL2(), L1()):
        solved = contrast.ExactLoss(cost).solve(X, X.flip(0))
        assert (solved.value.item(), solved.converged) == (0.0, True)


def test_the_divergence_of_a_sample_from_itself_is_zero():
    assert LOSSES[1](X, X).item() == pytest.approx(0, abs=1e-8)
    assert LOSSES[1](X, Y).item() > 0.1


def test_a_divergence_is_solved_as_well_as_the_worst_of_its_parts():
    """Two parts have a single point on one side and are solved at once; the third is not."""
    loss = contrast.SinkhornDivergence(SquaredL2(), 1.0, tol=1e-6, max_iter=3)
    solved = loss.solve(torch.zeros((1, 2), dtype=torch.float64), X)
    parts = [loss._coupled(x, y, None) for x, y in ((X[:1] * 0, X), (X[:1] * 0,) * 2, (X, X))]
    assert [part.converged for part in parts] == [True, True, False]
    assert not solved.converged
    assert solved.error == max(part.error for part in parts) > 1e-6
    assert solved.n_iter == sum(part.n_iter for part in parts)


def test_the_unit_of_exact_transport_is_the_cost_between_two_halves():
    y = torch.tensor([[0.0], [1.0], [5.0], [7.0], [100.0]])
    assert contrast.ExactLoss(L1()).unit(y) == (5 + 7 + 4 + 6) / 4
    assert contrast.ExactLoss(L1()).unit(y[:1]) == 1.0
    assert contrast.ExactLoss(L1()).unit(y[:1].repeat(4, 1)) == 1.0
