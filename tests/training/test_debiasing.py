"""The generator in closed form: moments of raw records, found from reports alone."""

import numpy as np
import pytest
import torch
from scipy import optimize

import privgan as pg
from privgan.mechanisms.moments import Moments, noise_of, parts
from privgan.training.debiasing import _raised, _simplest, regular

F64 = torch.float64


def normal_records(n, d=4, seed=0):
    rng = torch.Generator().manual_seed(seed)
    spread = torch.linspace(0.3, 2.0, d, dtype=F64)
    mixing = torch.linalg.qr(torch.randn(d, d, generator=rng, dtype=F64))[0]
    x = (spread * torch.randn(n, d, generator=rng, dtype=F64)) @ mixing.T
    return x + torch.arange(d, dtype=F64), mixing @ torch.diag(spread**2) @ mixing.T


def covariance_of(model, n=100_000):
    return torch.cov(model.sample(n, seed=0).double().T)


@pytest.mark.parametrize(
    "mechanism", [pg.Gaussian(1.0), pg.Laplace(0.7), pg.EuclideanLaplace(0.4)], ids=str
)
def test_mean_and_covariance_of_the_raw_records_come_back(mechanism):
    x, expected = normal_records(60_000)
    model = pg.closed_form(mechanism.privatize(x, seed=1), mechanism)
    assert (model.offset - x.mean(0)).abs().max() < 0.03
    assert (covariance_of(model) - expected).abs().max() < 0.1
    # The reports' own covariance is off by the noise's.
    assert (torch.cov(mechanism.privatize(x, seed=1).T) - expected).diagonal().min() > 0.5


def labelled(n=60_000):
    """Two classes, of which the first has the larger share and the smaller spread."""
    rng = torch.Generator().manual_seed(0)
    label = (torch.rand(n, generator=rng) > 0.7).long()
    spread = torch.tensor([[0.5, 1.0, 0.5], [1.0, 0.5, 1.0]])[label]
    x = torch.tensor([[0.0, 0.0, 1.0], [2.0, -1.0, 0.0]])[label]
    x = x + spread * torch.randn(n, 3, generator=rng)
    return torch.cat([x, pg.mechanisms.one_hot(label, 2)], 1), spread


def test_every_class_has_moments_of_its_own():
    raw, _ = labelled()
    answer = pg.RandomizedResponse.calibrate(epsilon=2.0, k=2)
    mech = pg.Product((slice(0, 3), pg.Gaussian(1.0)), (slice(3, 5), answer))
    model = pg.closed_form(mech.privatize(raw, seed=1), mech)
    assert model.prior.tolist() == pytest.approx([0.7, 0.3], abs=0.02)
    for c in range(2):
        made, own = model.sample_class(c, 50_000, seed=2), raw[raw[:, 3 + c] == 1, :3]
        assert (made.mean(0) - own.mean(0)).abs().max() < 0.05
        assert (torch.cov(made.T) - torch.cov(own.T)).abs().max() < 0.1


def test_directions_and_linear_maps_have_moments_too():
    raw = normal_records(60_000, d=6)[0] - torch.arange(6)
    matrix = torch.linalg.qr(torch.randn(6, 3, generator=torch.Generator().manual_seed(3)))[0].T
    unit = pg.PrivUnit.calibrate(epsilon=6.0, bounds=pg.Sphere(3))
    mech = pg.LinearMap(matrix, unit)
    model = pg.closed_form(mech.privatize(raw, seed=1), mech)
    made = model.sample(100_000, seed=0).double()
    directions = mech.forward(raw)
    features = made @ matrix.T.double()
    assert (features.mean(0) - directions.mean(0)).abs().max() < 0.02
    assert (torch.cov(features.T) - torch.cov(directions.T)).abs().max() < 0.02
    unseen = made - features @ matrix.double()
    assert unseen.abs().max() < 1e-5  # no detail that the map does not see


def test_many_columns_vary_where_they_stand_out_of_the_noise():
    rng = torch.Generator().manual_seed(0)
    x = torch.zeros(8000, 200)
    x[:, :2] = 3.0 * torch.randn(8000, 2, generator=rng)
    mech = pg.Gaussian(0.5)
    y = mech.privatize(x, seed=1)
    model = pg.closed_form(y, mech)
    assert model.latent_dim == 2
    assert (covariance_of(model)[:2, :2] - 9.0 * torch.eye(2)).abs().max() < 0.4
    assert pg.closed_form(y, mech, rank=5).latent_dim == 5


@pytest.mark.parametrize(("scale", "offset"), [(1e-9, 0.0), (1e9, 0.0), (1.0, 1e6)])
def test_units_and_origin_do_not_matter(scale, offset):
    x, _ = normal_records(20_000)
    base = pg.closed_form(pg.Gaussian(1.0).privatize(x, seed=1), pg.Gaussian(1.0))
    mech = pg.Gaussian(scale)
    moved = pg.closed_form(scale * pg.Gaussian(1.0).privatize(x, seed=1) + offset, mech)
    first, second = base.sample(1000, seed=4), moved.sample(1000, seed=4)
    assert torch.allclose(first, (second - offset) / scale, atol=1e-5)


def test_weak_noise_keeps_each_covariance_and_strong_noise_shares_one():
    raw, _ = labelled(6000)
    ratio = []
    for sigma, epsilon in ((0.1, 4.0), (8.0, 4.0)):
        answer = pg.RandomizedResponse.calibrate(epsilon=epsilon, k=2)
        mech = pg.Product((slice(0, 3), pg.Gaussian(sigma)), (slice(3, 5), answer))
        model = pg.closed_form(mech.privatize(raw, seed=1), mech)
        spreads = torch.stack([model.sample_class(c, 20_000, seed=2).var(0) for c in range(2)])
        ratio.append((spreads[1] / spreads[0])[0].item())
    assert ratio[0] == pytest.approx(4.0, rel=0.2)
    assert ratio[1] == pytest.approx(1.0, rel=0.1)


def test_a_raised_matrix_is_the_nearest_with_its_trace():
    rng = np.random.default_rng(0)
    a = rng.normal(size=(5, 5))
    matrix = torch.from_numpy(a + a.T + 2.0 * np.eye(5))
    found = _raised(matrix, 0.2)
    values = torch.linalg.eigvalsh(matrix).numpy()
    least = 0.2 * values.mean()
    assert values.min() < least
    nearest = optimize.minimize(
        lambda e: ((e - values) ** 2).sum(),
        np.full(5, values.mean()),
        bounds=[(least, None)] * 5,
        constraints={"type": "eq", "fun": lambda e: e.sum() - values.sum()},
        options={"ftol": 1e-14, "maxiter": 500},
    ).x
    assert np.allclose(torch.linalg.eigvalsh(found).numpy(), np.sort(nearest), atol=1e-5)
    assert torch.allclose(found.trace(), matrix.trace())
    level = values.mean() * torch.eye(5, dtype=F64)
    assert torch.allclose(_raised(matrix, 1.0), level, atol=1e-9)


def test_covariances_are_mixed_by_the_classes_shares():
    moments = Moments(
        torch.tensor([0.75, 0.25]), torch.zeros(2, 1), torch.tensor([[[1.0]], [[5.0]]])
    )
    assert regular(moments, 0.0, 0.1).covariances.ravel().tolist() == pytest.approx([2.0, 2.0])
    assert regular(moments, 0.5, 0.1).covariances.ravel().tolist() == pytest.approx([1.5, 3.5])


def test_the_simplest_choice_within_an_error_of_the_best_is_taken():
    rng = torch.Generator().manual_seed(0)
    own = torch.randn(3, 1000, generator=rng, dtype=F64)
    gain = torch.tensor([[-1.0], [0.0], [0.01]], dtype=F64)
    assert _simplest(own + gain) == 1
    assert _simplest(own[:1] + gain) == 2  # the same reports: the difference is certain


def test_a_class_that_never_occurs_has_no_share():
    raw, _ = labelled(5000)
    raw = torch.cat([raw, torch.zeros(5000, 1)], 1)
    answer = pg.RandomizedResponse.calibrate(epsilon=3.0, k=3)
    mech = pg.Product((slice(0, 3), pg.Gaussian(0.5)), (slice(3, 6), answer))
    model = pg.closed_form(mech.privatize(raw, seed=2), mech)
    assert model.prior[2] < 0.02
    assert model.sample(1000, seed=0).isfinite().all()


def test_a_training_goes_on_from_it():
    x, _ = normal_records(4000)
    mech = pg.Gaussian(1.0)
    y = mech.privatize(x, seed=1)
    model = pg.closed_form(y, mech)
    before = model.matrix.clone()
    loss = pg.AmortizedLoss.matched(mech)
    pg.fit(model, y, loss, steps=3, batch_size=100, lr=1e-3, progress=False)
    assert not torch.equal(model.matrix, before)
    assert torch.allclose(model.matrix, before, atol=0.05)


def test_it_is_saved_with_its_law(tmp_path):
    raw, _ = labelled(2000)
    answer = pg.RandomizedResponse.calibrate(epsilon=2.0, k=2)
    mech = pg.Product((slice(0, 3), pg.Gaussian(1.0)), (slice(3, 5), answer))
    model = pg.closed_form(mech.privatize(raw, seed=1), mech)
    model.save(tmp_path / "it.safetensors")
    again = pg.load(tmp_path / "it.safetensors")
    assert torch.equal(model.sample(50, seed=1), again.sample(50, seed=1))


ANSWER = pg.RandomizedResponse.calibrate(epsilon=1.0, k=2)
NOISE = pg.Gaussian(1.0)


@pytest.mark.parametrize(
    ("mechanism", "columns", "error", "message"),
    [
        (ANSWER, 2, TypeError, "is not alike in all directions"),
        (pg.SquareWave(1.0, bounds=pg.Box(0, 1, dim=2)), 2, TypeError, "no unbiased reports"),
        (
            pg.Product((slice(0, 2), ANSWER), (slice(2, 3), NOISE)),
            3,
            TypeError,
            "columns 0:2 are a category",
        ),
        (pg.Product((slice(0, 2), ANSWER)), 2, TypeError, "needs columns of numbers"),
    ],
    ids=["category", "bands", "category first", "only a category"],
)
def test_what_has_no_closed_form_is_refused(mechanism, columns, error, message):
    rows = torch.zeros(40, columns)
    rows[:, 0] = 1.0
    with pytest.raises(error, match=message):
        pg.closed_form(rows, mechanism)


def test_too_few_reports_are_refused():
    with pytest.raises(ValueError, match="reports has 9 rows; closed_form needs at least 10"):
        pg.closed_form(torch.zeros(9, 2), NOISE)


def test_a_rank_is_refused_where_directions_and_numbers_meet():
    unit = pg.PrivUnit.calibrate(epsilon=2.0, bounds=pg.Sphere(2))
    mech = pg.Product((slice(0, 2), unit), (slice(2, 4), NOISE))
    noise, movable = noise_of(parts(mech, 4)[0], 4)
    assert movable.tolist() == [0.0, 0.0, 1.0, 1.0]
    assert noise.scale[0, 1] == unit.second_moment(2)[0]
    assert noise.scale[0, 2] == noise.scale[2, 3] == 1.0
    y = mech.privatize(torch.tensor([[1.0, 0.0, 3.0, 4.0]]).repeat(50, 1), seed=0)
    assert pg.closed_form(y, mech).sample(5, seed=0).shape == (5, 4)
    with pytest.raises(ValueError, match="leave rank out"):
        pg.closed_form(y, mech, rank=2)
