import math

import numpy as np
import pytest
import torch

import privgan as pg
from privgan.artifact import data, metrics, npmle, oracles

AXES = torch.linspace(-1.0, 1.0, 7), torch.linspace(-1.2, 1.2, 5)
MECHANISMS = [pg.Gaussian(0.4), pg.Laplace(0.3)]


def reports(mech, n=300):
    return mech.privatize(data.circle(n, seed=0), seed=1).double()


@pytest.mark.parametrize("mech", MECHANISMS, ids=repr)
def test_it_is_the_reference_em(mech):
    y = reports(mech)
    found = npmle.nonparametric_mle(y, mech, AXES, iterations=50)
    density = mech.log_density(found.points, y).exp().numpy()
    expected = oracles.maximum_likelihood_weights(density, iterations=50)
    assert np.allclose(found.weights.detach().numpy(), expected, atol=1e-10)
    assert found.points.shape == (35, 2)


@pytest.mark.parametrize("mech", MECHANISMS, ids=repr)
def test_at_the_maximum_no_grid_point_would_raise_the_likelihood(mech):
    """Kiefer and Wolfowitz: mean_j k(y_j | x) / (w k)_j is at most 1, and 1 where w has mass."""
    y = reports(mech)
    found = npmle.nonparametric_mle(y, mech, AXES, iterations=20_000)
    density = mech.log_density(found.points, y).exp()
    weights = found.weights.detach()
    slope = (density / (weights @ density)).mean(1)
    assert slope.max() < 1 + 1e-3
    assert torch.allclose(slope[weights > 1e-3], torch.ones(1).double(), atol=1e-3)


def test_it_continues_where_it_stopped():
    y = reports(pg.Laplace(0.3))
    once = npmle.nonparametric_mle(y, pg.Laplace(0.3), AXES, iterations=50)
    first = npmle.nonparametric_mle(y, pg.Laplace(0.3), AXES, iterations=20)
    then = npmle.nonparametric_mle(y, pg.Laplace(0.3), AXES, iterations=30, start=first)
    assert torch.allclose(then.weights, once.weights, atol=1e-12)
    with pytest.raises(ValueError, match="start has 35 points that are not the 25"):
        npmle.nonparametric_mle(y, pg.Laplace(0.3), (AXES[1], AXES[1]), start=first)
    with pytest.raises(TypeError, match="start"):
        npmle.nonparametric_mle(y, pg.Laplace(0.3), AXES, start=first.weights)


def test_far_reports_do_not_underflow():
    y = torch.tensor([[9.0, -9.0], [0.0, 0.1]])
    weights = npmle.nonparametric_mle(y, pg.Gaussian(0.1), AXES, iterations=5).weights
    assert weights.isfinite().all()
    assert weights.sum().item() == pytest.approx(1)


def test_it_undoes_noise():
    mech = pg.Gaussian(0.3)
    y = mech.privatize(data.circle(4000, seed=0), seed=1)
    axis = torch.linspace(-1.6, 1.6, 33)
    atoms = npmle.nonparametric_mle(y, mech, (axis, axis), iterations=300)
    fresh = data.circle(1000, seed=2)
    assert metrics.w2(atoms.sample(1000, seed=3), fresh) < 0.5 * metrics.w2(y[:1000], fresh)


def test_what_it_is_not_for_is_refused():
    with pytest.raises(ValueError, match="does not noise each coordinate on its own"):
        npmle.nonparametric_mle(torch.randn(9, 2), pg.EuclideanLaplace(0.3), AXES)
    with pytest.raises(ValueError, match="3 columns and 2 axes"):
        npmle.nonparametric_mle(torch.randn(9, 3), pg.Gaussian(0.3), AXES)


def test_a_weight_of_zero_in_the_start_stays_zero_and_is_as_if_the_point_were_not_there():
    y, mech = reports(pg.Gaussian(0.4)), pg.Gaussian(0.4)
    start = npmle.nonparametric_mle(y, mech, AXES, iterations=1)
    start.logits.data.reshape(7, 5)[5:] = -math.inf
    found = npmle.nonparametric_mle(y, mech, AXES, iterations=30, start=start)
    assert (found.weights.reshape(7, 5)[5:] == 0).all()
    less = npmle.nonparametric_mle(y, mech, (AXES[0][:5], AXES[1]), iterations=1)
    less.logits.data[:] = start.logits.data[:25]
    less = npmle.nonparametric_mle(y, mech, (AXES[0][:5], AXES[1]), iterations=30, start=less)
    assert torch.allclose(found.weights[:25], less.weights, atol=1e-12)


def test_a_report_that_cannot_be_is_named():
    y, mech = torch.tensor([[0.0, 0.1], [50.0, 0.0]]), pg.Gaussian(0.1)
    start = npmle.nonparametric_mle(y, mech, AXES, iterations=1)
    start.logits.data.reshape(7, 5)[1:] = -math.inf  # all far to the left
    with pytest.raises(ValueError, match=r"reports row 1 has density zero on all .* start has"):
        npmle.nonparametric_mle(y, mech, AXES, start=start)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_reports_far_from_the_origin_in_float32_are_computed_in_float64(dtype):
    """At 1e4 a float32 has three digits after the point: what they say is not lost further."""
    y = (reports(pg.Gaussian(0.4)) * 2**9).round() / 2**9
    axes = [(axis.double() * 2**9).round() / 2**9 for axis in AXES]
    near = npmle.nonparametric_mle(y, pg.Gaussian(0.4), axes, iterations=50)
    moved = [(v + 2.0**13).to(dtype) for v in (y, *axes)]
    far = npmle.nonparametric_mle(moved[0], pg.Gaussian(0.4), moved[1:], iterations=50)
    assert torch.allclose(far.weights.double(), near.weights, atol=1e-6)
    assert far.points.dtype == dtype
