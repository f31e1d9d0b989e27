import numpy as np
import pytest
import torch
from scipy import stats

import privgan as pg
from privgan.sinkhorn import L1, SquaredL2

BOX = pg.Box(0.0, 1.0, dim=4)
ADDITIVE = [pg.Gaussian, pg.Laplace, pg.EuclideanLaplace]
MECHANISMS = [
    (pg.Gaussian(sigma=0.7), stats.norm(scale=0.7)),
    (pg.Laplace(scale=0.4), stats.laplace(scale=0.4)),
]
each = pytest.mark.parametrize(("mech", "law"), MECHANISMS, ids=lambda v: repr(v)[:8])


@each
def test_noise_follows_its_law(mech, law):
    noise = mech.privatize(torch.zeros(20_000, 3), seed=0).numpy().ravel()
    assert stats.kstest(noise, law.cdf).pvalue > 0.01


@each
def test_log_density_is_the_normalised_density(mech, law):
    x, y = torch.randn(4, 3).double(), torch.randn(5, 3).double()
    expected = law.logpdf(y[None].numpy() - x[:, None].numpy()).sum(-1)
    assert np.allclose(mech.log_density(x, y), expected)


@each
def test_matching_cost_over_reg_is_minus_log_density_up_to_a_constant(mech, law):
    x, y = torch.randn(4, 2).double(), torch.randn(6, 2).double()
    leftover = mech.log_density(x, y) + mech.cost.matrix(x, y) / mech.reg
    assert np.ptp(leftover.numpy()) < 1e-12


def test_the_table_of_the_paper():
    assert isinstance(pg.Gaussian(0.3).cost, SquaredL2)
    assert pg.Gaussian(0.3).reg == pytest.approx(2 * 0.3**2)
    assert isinstance(pg.Laplace(0.3).cost, L1)
    assert pg.Laplace(0.3).reg == 0.3


@each
def test_privatize_repeats_with_a_seed_and_differs_without(mech, law):
    x = torch.rand(10, 2)
    assert torch.equal(mech.privatize(x, seed=3), mech.privatize(x, seed=3))
    assert not torch.equal(mech.privatize(x, seed=3), mech.privatize(x, seed=4))
    assert not torch.equal(mech.privatize(x), mech.privatize(x))


@each
def test_privatize_keeps_type_and_leaves_the_global_generator_alone(mech, law):
    before = torch.random.get_rng_state()
    out = mech.privatize(np.zeros((3, 2)), seed=0)
    assert isinstance(out, np.ndarray)
    assert out.dtype == np.float64
    assert mech.privatize(torch.zeros(3, 2), seed=0).dtype == torch.float32
    assert torch.equal(before, torch.random.get_rng_state())


@pytest.mark.parametrize("seed", [0, 7, None])
@each
def test_noise_is_not_the_data_of_the_same_seed(mech, law, seed):
    """Nor a shift or a scaling of it: whatever drew the data, the noise has its own stream."""
    torch.manual_seed(0 if seed is None else seed)
    x = torch.randn(4000, 1)
    own = torch.Generator().manual_seed(0 if seed is None else seed)
    others = [x, torch.empty(4000, 1).exponential_(generator=own)]
    others.append(torch.rand(4000, 1, generator=own.manual_seed(own.initial_seed())))
    for data in others:
        noise = mech.privatize(data, seed=seed) - data
        for a, b in ((noise, data), (noise.abs(), data), (noise.abs(), data.abs())):
            assert torch.corrcoef(torch.cat([a, b], 1).T)[0, 1].abs() < 5 / 4000**0.5


def test_laplace_is_finite_over_as_many_draws_as_there_are_float32_uniforms():
    noise = pg.Laplace(1.0).privatize(torch.zeros(2**13, 2**12), seed=0)
    assert torch.isfinite(noise).all()


@pytest.mark.parametrize("make", [pg.Gaussian, pg.Laplace])
@pytest.mark.parametrize("value", [0.0, -1.0, float("nan"), float("inf")])
def test_scales_must_be_positive(make, value):
    with pytest.raises(ValueError, match="must be positive and finite"):
        make(value)


def test_records_are_checked():
    with pytest.raises(ValueError, match=r"x has 1 non-finite row, the first at row 1 \(col"):
        pg.Gaussian(1.0).privatize(torch.tensor([[0.0], [float("nan")]]))
    with pytest.raises(ValueError, match="records are"):
        pg.Gaussian(1.0).privatize(torch.zeros(3))
    with pytest.raises(TypeError, match="int64"):
        pg.Gaussian(1.0).privatize(np.zeros((2, 2), dtype=int))


@pytest.mark.parametrize("value", ["1e-3", True])
def test_strings_and_bools_are_no_scales(value):
    with pytest.raises(TypeError, match="must be a number"):
        pg.Gaussian(value)


def test_reversed_and_read_only_arrays_are_records():
    x = np.linspace(0, 1, 6).reshape(3, 2)
    frozen = x[::-1].copy()
    frozen.flags.writeable = False
    assert np.array_equal(
        pg.Laplace(1.0).privatize(x[::-1], seed=0), pg.Laplace(1.0).privatize(frozen, seed=0)
    )


def calibrated(make, epsilon, **domain):
    delta = {"delta": 1e-5} if make is pg.Gaussian else {}
    return make.calibrate(epsilon=epsilon, **delta, **domain)


additive = pytest.mark.parametrize("make", ADDITIVE, ids=lambda make: make.__name__)


@additive
@pytest.mark.parametrize("epsilon", [0.01, 0.5, 1.0, 2.0, 4.0, 8.0, 100.0])
def test_calibration_spends_what_was_asked_and_no_more(make, epsilon):
    for domain in ({"bounds": BOX}, {"bounds": pg.Ball(2.0, dim=4)}, {"sensitivity": 3.0}):
        mech = calibrated(make, epsilon, **domain)
        delta = 1e-5 if make is pg.Gaussian else 0.0
        spent = mech.epsilon(delta, domain.get("sensitivity"))
        assert spent <= epsilon
        assert spent == pytest.approx(epsilon, rel=1e-8)


def test_the_sensitivity_is_the_diameter_in_the_norm_of_the_noise():
    assert pg.Laplace.calibrate(epsilon=2.0, bounds=BOX).scale == pytest.approx(4.0 / 2.0)
    assert pg.EuclideanLaplace.calibrate(epsilon=2.0, bounds=BOX).scale == pytest.approx(2.0 / 2.0)
    one = pg.Gaussian.calibrate(epsilon=2.0, delta=1e-5, sensitivity=1.0).sigma
    assert pg.Gaussian.calibrate(epsilon=2.0, delta=1e-5, bounds=BOX).sigma == pytest.approx(
        2 * one
    )
    ball = pg.Ball(3.0, dim=9)  # the diameter is 2 R, not R
    assert pg.EuclideanLaplace.calibrate(epsilon=1.0, bounds=ball).scale == pytest.approx(6.0)


def test_the_noise_that_mnist_needs_for_a_whole_record():
    box = pg.Box(0.0, 1.0, dim=784)
    laplace = pg.Laplace.calibrate(epsilon=10.0, bounds=box)
    assert laplace.scale * 2**0.5 == pytest.approx(110.9, abs=0.05)
    gaussian = pg.Gaussian.calibrate(epsilon=10.0, delta=1e-5, bounds=box)
    assert gaussian.sigma == pytest.approx(14.0, abs=0.05)


@additive
def test_no_pair_in_the_box_exceeds_a_pure_budget(make):
    mech = calibrated(make, 1.5, bounds=pg.Box(-1.0, 2.0, dim=2))
    corners = torch.tensor([[a, b] for a in (-1.0, 2.0) for b in (-1.0, 2.0)]).double()
    y = 20 * torch.randn(4000, 2, generator=torch.Generator().manual_seed(0)).double()
    log_k = mech.log_density(corners, y)
    worst = (log_k.amax(0) - log_k.amin(0)).max()
    assert (worst <= 1.5 + 1e-12) == (make is not pg.Gaussian)  # whose budget needs a delta
    assert worst > 0.9 * 1.5


@additive
def test_descriptions_put_the_two_budgets_side_by_side(make):
    mech = calibrated(make, 2.0, bounds=BOX)
    words = mech.describe()
    assert "whole record    epsilon 2" in words
    single = mech.epsilon(1e-5, sensitivity=1.0)  # half of the diagonal's, a quarter of the sum's
    assert f"one coordinate  epsilon {single:.4g}" in words
    assert single == pytest.approx({pg.Gaussian: 0.93, pg.Laplace: 0.5}.get(make, 1.0), abs=0.01)
    assert "law of clip(X)" in words
    assert "can be recovered" in words
    assert ("at delta 1e-05" in words) == (make is pg.Gaussian)
    assert "budget unknown: unbounded records have no epsilon" in make(1.0).describe()


@additive
def test_mechanisms_print_as_they_are_made(make):
    for mech in (make(0.25), make(0.25, bounds=BOX), make(0.25, bounds=pg.Ball(1.0, dim=2))):
        assert repr(eval(repr(mech), vars(pg))) == repr(mech)


def test_euclidean_laplace_has_the_gamma_radius_and_every_direction():
    for d in (1, 2, 7):
        noise = pg.EuclideanLaplace(0.4).privatize(torch.zeros(20_000, d), seed=0)
        radius = noise.norm(dim=1)
        assert stats.kstest(radius.numpy(), stats.gamma(d, scale=0.4).cdf).pvalue > 0.01
        directions = noise / radius[:, None]
        assert directions.mean(0).abs().max() < 0.03
        assert (directions.T @ directions / 20_000 * d - torch.eye(d)).abs().max() < 0.04


@pytest.mark.parametrize("d", [1, 2, 3])
def test_the_euclidean_laplace_density_integrates_to_one(d):
    """Over the radius: area of the sphere times the density at distance r."""
    r = torch.linspace(1e-6, 30.0, 200_001, dtype=torch.float64)
    area = {1: torch.full_like(r, 2.0), 2: 2 * torch.pi * r, 3: 4 * torch.pi * r**2}[d]
    y = torch.zeros(len(r), d, dtype=torch.float64)
    y[:, 0] = r
    density = pg.EuclideanLaplace(0.8).log_density(torch.zeros(1, d).double(), y).exp()[0]
    assert torch.trapezoid(area * density, r).item() == pytest.approx(1.0, abs=1e-5)


@additive
def test_records_outside_the_bounds_are_refused_or_clipped_when_asked(make):
    mech = make(1e-9, bounds=pg.Box(0.0, 1.0, dim=2))
    x = torch.tensor([[0.5, 0.5], [0.5, 3.0]])
    with pytest.raises(ValueError, match=r"x has 1 row outside Box.*row 1 \(column 1\); ask"):
        mech.privatize(x, seed=0)
    assert torch.allclose(mech.privatize(x, seed=0, clip=True), x.clamp(0, 1), atol=1e-6)
    with pytest.raises(ValueError, match="has no bounds to clip to"):
        make(1.0).privatize(x, clip=True)
    with pytest.raises(ValueError, match="x has 3 columns and Box"):
        mech.privatize(torch.zeros(2, 3))
    with pytest.raises(ValueError, match="non-finite"):  # before clipping makes it look sound
        mech.privatize(torch.tensor([[0.0, float("inf")]]), clip=True)


@additive
@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"epsilon": 1.0}, TypeError, "exactly one of sensitivity="),
        ({"epsilon": 1.0, "sensitivity": 1.0, "bounds": BOX}, TypeError, "exactly one"),
        ({"epsilon": 0.0, "sensitivity": 1.0}, ValueError, "epsilon must be positive"),
        ({"epsilon": 1.0, "sensitivity": -1.0}, ValueError, "sensitivity must be positive"),
        ({"epsilon": 1.0, "sensitivity": torch.tensor(1.0)}, TypeError, "not read off data"),
        ({"epsilon": 1.0, "sensitivity": np.ones(2).max()}, TypeError, "not read off data"),
        ({"epsilon": 1.0, "bounds": (0.0, 1.0)}, TypeError, "bounds must be a Bounds"),
    ],
)
def test_bad_calibrations_are_named(make, settings, error, message):
    with pytest.raises(error, match=message):
        calibrated(make, **settings)


@additive
def test_a_budget_needs_bounds_or_a_public_sensitivity(make):
    with pytest.raises(ValueError, match=r"unbounded records have no epsilon; give .* bounds="):
        make(1.0).epsilon(1e-5)
    with pytest.raises(TypeError, match="not read off data"):
        make(1.0).epsilon(1e-5, sensitivity=np.float64(1.0))
