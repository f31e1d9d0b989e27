"""Directions and the caps that report them: shares, moments, draws and budgets by quadrature."""

import math

import numpy as np
import pytest
import torch
from scipy import integrate, stats
from scipy.special import betaln

import privgan as pg
from privgan.audit import audit

F64 = torch.float64


def unit(dim, epsilon):
    return pg.PrivUnit.calibrate(epsilon=epsilon, bounds=pg.Sphere(dim))


def cap(mech, power, low, high):
    """Integral of t^power over uniform directions with x.y in (low, high)."""
    a = (mech.dim - 3) / 2
    angles = math.acos(high), math.acos(low)  # t = cos: no end of the integral is singular

    def density(angle):
        return math.cos(angle) ** power * math.sin(angle) ** (2 * a + 1)

    found = integrate.quad(density, *angles, epsabs=1e-15, epsrel=1e-9, limit=400)[0]
    return found * math.exp(-betaln(0.5, (mech.dim - 1) / 2))


dims = pytest.mark.parametrize("dim", [2, 3, 8, 63])
budgets = pytest.mark.parametrize("epsilon", [0.3, 2.0, 8.0, 15.0])


@dims
@budgets
def test_budget_and_moments_are_those_of_the_integrals(dim, epsilon):
    mech = unit(dim, epsilon)
    share = cap(mech, 0, mech.height, 1.0)
    log_ratio = math.log(mech.keep / share) - math.log((1 - mech.keep) / (1 - share))
    assert mech.epsilon() == pytest.approx(log_ratio, rel=1e-8)
    assert mech.epsilon() == pytest.approx(epsilon, rel=1e-8)
    assert mech.epsilon() <= epsilon
    inside, outside = mech.keep / share, (1 - mech.keep) / (1 - share)
    for power, found in ((1, mech.slope), (2, mech.square)):
        expected = inside * cap(mech, power, mech.height, 1.0)
        expected += outside * cap(mech, power, -1.0, mech.height)
        assert found == pytest.approx(expected, rel=1e-8)


@dims
@budgets
def test_the_height_is_of_least_variance_among_those_of_the_budget(dim, epsilon):
    mech = unit(dim, epsilon)
    for moved in (0.97, 1.03):
        height = mech.height * moved
        if height < 1.0:
            share = cap(mech, 0, height, 1.0)
            odds = math.exp(epsilon) * share / (1 - share)
            other = pg.PrivUnit(height, odds / (1 + odds), bounds=mech.bounds)
            assert other.epsilon() == pytest.approx(epsilon, rel=1e-6)
            assert other.slope < mech.slope * (1 + 2e-4)  # heights are tried on a grid


@dims
def test_draws_follow_the_density_along_the_record_and_none_across(dim):
    mech = unit(dim, 2.0)
    x = torch.randn(1, dim, generator=torch.Generator().manual_seed(0), dtype=F64)
    x = x / x.norm()
    y = mech.privatize(x.repeat(20_000, 1), seed=1)
    assert torch.allclose(y.norm(dim=1), torch.ones(20_000, dtype=F64))
    t = (y @ x[0]).numpy()
    grid = -np.cos(np.linspace(0, np.pi, 801))
    share = cap(mech, 0, mech.height, 1.0)
    below = np.array([cap(mech, 0, -1.0, g) for g in grid])
    inside = np.clip((below - (1 - share)) / share, 0, 1)
    law = (1 - mech.keep) * np.minimum(below / (1 - share), 1) + mech.keep * inside
    assert stats.kstest(t, lambda v: np.interp(v, grid, law)).pvalue > 0.01
    across = y - torch.from_numpy(t)[:, None] * x
    if dim > 2:
        direction = torch.nn.functional.normalize(across, dim=1)
        moment = direction.T @ direction / len(y)
        expected = (torch.eye(dim, dtype=F64) - x.T @ x) / (dim - 1)
        assert (moment - expected).abs().max() < 5 / math.sqrt(len(y)) / dim**0.5
    assert across.mean(0).abs().max() < 5 / math.sqrt(len(y))


@dims
def test_unbiased_rows_have_the_moments_that_are_promised(dim):
    mech = unit(dim, 8.0)
    x = torch.nn.functional.normalize(torch.ones(1, dim, dtype=F64) + torch.arange(dim), dim=1)
    u = mech.unbiased(mech.privatize(x.repeat(100_000, 1), seed=0))
    error = 5 * u.std(0) / math.sqrt(len(u))
    assert ((u.mean(0) - x[0]).abs() < error).all()
    a, b = mech.second_moment(dim)
    expected = a * x.T @ x + b * torch.eye(dim, dtype=F64)
    found = u.T @ u / len(u)
    assert (found - expected).abs().max() < 6 / math.sqrt(len(u)) * u.square().mean(0).max() + 1e-9
    assert a + dim * b == pytest.approx(1 / mech.slope**2)  # reports have length 1


def test_it_errs_far_less_than_gaussian_noise_of_the_same_budget():
    mech = unit(64, 5.0)
    noise = pg.Gaussian.calibrate(epsilon=5.0, delta=1e-5, sensitivity=2.0)
    ours, theirs = 1 / mech.slope**2 - 1, 64 * noise.sigma**2
    assert ours < 0.15 * theirs


def test_a_known_cap():
    """In three columns a cap's share is (1 - height) / 2, by Archimedes."""
    mech = pg.PrivUnit(0.5, 0.9, bounds=pg.Sphere(3))
    assert mech.epsilon() == pytest.approx(math.log(9 * 3))
    assert mech.slope == pytest.approx(0.9 * 0.75 - 0.1 * 0.25)
    x = torch.tensor([[0.0, 0.0, 1.0]], dtype=F64)
    y = torch.tensor([[0.0, 0.6, 0.8], [1.0, 0.0, 0.0], [0.0, 0.0, 2.0]], dtype=F64)
    found = mech.log_density(x, y)[0].exp()
    area = 4 * math.pi
    assert found.tolist() == pytest.approx([0.9 / (0.25 * area), 0.1 / (0.75 * area), 0.0])


@pytest.mark.parametrize(("dim", "epsilon"), [(2, 6.0), (4, 2.0)])
def test_an_audit_passes_and_one_of_too_little_epsilon_fails(dim, epsilon):
    mech = unit(dim, epsilon)
    found = audit(mech, epsilon, reports=20_000, seed=0)
    assert found.passed, found
    assert not audit(mech, 0.9 * epsilon, reports=20_000, seed=0).passed


def test_a_direction_that_is_reported_now_and_then_passes_too():
    answer = pg.RandomizedResponse.calibrate(epsilon=2.0, k=3)
    mech = pg.mechanisms.Sampled((slice(0, 4), unit(4, 2.0)), (slice(4, 7), answer), choose=1)
    found = audit(mech, mech.epsilon(), reports=20_000, seed=0)
    assert found.passed, found


class Crooked(pg.PrivUnit):
    """Draws as it should, but for what ``spoil`` does to a report."""

    def _draw(self, x, generator):
        return self.spoil(x, super()._draw(x, generator))


@pytest.mark.parametrize(
    "spoil",
    [
        lambda self, x, y: pg.Sphere(3).clip(y + 0.1 * x),
        lambda self, x, y: pg.Sphere(3).clip(y * torch.tensor([1.0, 1.2, 1.0])),
    ],
    ids=["nearer", "stretched"],
)
def test_an_audit_finds_a_sampler_that_draws_otherwise(monkeypatch, spoil):
    right = unit(3, 2.0)
    mech = Crooked(right.height, right.keep, bounds=right.bounds)
    monkeypatch.setattr(Crooked, "spoil", spoil, raising=False)
    product = pg.Product((slice(0, 3), mech), (slice(3, 5), pg.RandomizedResponse(2, 0.7)))
    found = audit(product, product.epsilon(), reports=20_000, seed=0)
    assert "goodness of fit" in [f.check for f in found.findings if not f.passed]


@pytest.mark.parametrize("scale", [1e-300, 1e-9, 1.0, 1e9, 1e300])
def test_clipping_takes_the_direction_at_every_scale(scale):
    x = torch.tensor([[3.0, 4.0], [-1.0, 0.0]], dtype=F64) * scale
    found = pg.Sphere(2).clip(x)
    assert torch.allclose(found, torch.tensor([[0.6, 0.8], [-1.0, 0.0]], dtype=F64))


def test_records_are_directions_and_clipping_makes_them_so():
    mech = unit(3, 4.0)
    x = torch.tensor([[1.0, 0.0, 0.0], [2.0, 0.0, 0.0]])
    with pytest.raises(ValueError, match=r"x has 1 row outside Sphere\(3\), the first at row 1"):
        mech.privatize(x)
    assert torch.equal(mech.privatize(x, seed=0, clip=True).isfinite().all(), torch.tensor(True))
    assert torch.equal(pg.Sphere(3).clip(torch.zeros(1, 3)), torch.tensor([[1.0, 0.0, 0.0]]))


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: pg.Sphere(1), "dim must be at least 2"),
        (lambda: unit(3, 700.0), "at most 600 nats"),
        (lambda: unit(2, 95.0), "float64 cannot hold so small a cap"),
        (lambda: unit(3, 0.0), "epsilon must be positive"),
        (lambda: pg.PrivUnit(1.0, 0.9, bounds=pg.Sphere(3)), "height must be at least 0"),
        (lambda: pg.PrivUnit(-0.1, 0.9, bounds=pg.Sphere(3)), "height must be at least 0"),
        (lambda: pg.PrivUnit(0.5, 0.2, bounds=pg.Sphere(3)), "keep must exceed the cap's share"),
        (lambda: unit(2, 24.0).privatize(torch.eye(2)), "pass float64"),
        (lambda: unit(3, 1.0).epsilon(sensitivity=2.0), "leave sensitivity out"),
    ],
)
def test_what_cannot_be_is_refused(build, message):
    with pytest.raises(ValueError, match=message):
        build()


def test_other_bounds_are_refused():
    with pytest.raises(TypeError, match="bounds must be a Sphere"):
        pg.PrivUnit.calibrate(epsilon=1.0, bounds=pg.Ball(1.0, dim=3))


@dims
def test_gaussian_noise_has_the_total_variance_of_unbiased_reports(dim):
    mech = unit(dim, 8.0)
    near = mech.as_gaussian()
    x = torch.zeros(40_000, dim, dtype=F64)
    x[:, 0] = 1.0
    away = mech.unbiased(mech.privatize(x, seed=1)) - x
    assert (away.mean(0).abs() < 4 * away.std(0) / 200).all()  # of 200^2 reports
    assert away.square().sum(1).mean().item() == pytest.approx(dim * near.sigma**2, rel=0.05)
    whole, each = mech.second_moment(dim)
    assert dim * near.sigma**2 == pytest.approx(whole + dim * each - 1.0, rel=1e-9)
    assert near.bounds == mech.bounds


def test_gaussian_cost_draws_a_direction_to_its_reports_where_a_cap_has_no_gradient():
    mech = unit(8, 15.0)
    y = mech.unbiased(mech.privatize(pg.Sphere(8).clip(torch.ones(50, 8)), seed=0))
    x = torch.eye(8, requires_grad=True)
    near = pg.LinearMap(torch.eye(8), mech.as_gaussian())
    near.cost.matrix(near.forward(2.0 * x[:1]), y).mean().backward()
    step = -x.grad[0]
    with pytest.raises(RuntimeError, match="does not require grad"):
        mech.cost.matrix(x, y).mean().backward()
    assert (step[1:] > 0.05).all()  # towards the record
    assert step[0].abs() < 1e-6  # a direction has no length to gain
