import numpy as np
import pytest
import torch
from scipy import stats

import privgan as pg

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
    assert isinstance(pg.Gaussian(0.3).cost, pg.SquaredL2)
    assert pg.Gaussian(0.3).reg == pytest.approx(2 * 0.3**2)
    assert isinstance(pg.Laplace(0.3).cost, pg.L1)
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
