import pytest
import torch

from privgan.artifact import data, metrics


def test_w2_in_one_dimension_is_the_sorted_distance():
    g = torch.Generator().manual_seed(0)
    x, y = torch.randn((50, 1), generator=g), torch.rand((50, 1), generator=g)
    expected = (x.sort(0).values - y.sort(0).values).square().mean().sqrt()
    assert metrics.w2(x, y) == pytest.approx(expected.item(), rel=1e-6)


def test_w2_of_a_translation_is_its_length():
    x = torch.randn(40, 3, generator=torch.Generator().manual_seed(0))
    assert metrics.w2(x, x + torch.tensor([3.0, 4.0, 0.0])) == pytest.approx(5.0, rel=1e-6)
    assert metrics.w2(x.numpy(), x.numpy()) == 0.0


def test_w2_draws_are_the_distances_of_the_pieces():
    x, y = data.circle(70, seed=0), data.circle(95, seed=1)
    expected = [metrics.w2(x[:30], y[:30]), metrics.w2(x[30:60], y[30:60])]
    assert metrics.w2_draws(x, y, 30).tolist() == expected
    with pytest.raises(ValueError, match="x has 70 rows and y has 95; each draw needs n = 71"):
        metrics.w2_draws(x, y, 71)


def test_floor_is_the_distance_of_two_samples():
    draw = data.circle
    expected = metrics.w2(draw(100, seed=4), draw(100, seed=5))
    assert metrics.w2_floor(draw, 100, repeats=1, seed=4) == pytest.approx(expected)
    assert metrics.w2_floor(draw, 800) < metrics.w2_floor(draw, 50)


def test_bad_input_is_named():
    with pytest.raises(ValueError, match="y has 1 non-finite row"):
        metrics.w2(torch.zeros(2, 2), torch.tensor([[0.0, float("nan")]]))
    with pytest.raises(ValueError, match="x has 3 columns and y has 2"):
        metrics.w2(torch.zeros(2, 3), torch.zeros(2, 2))


def test_frechet_of_gaussians_is_their_closed_form():
    g = torch.Generator().manual_seed(0)
    u = torch.randn(200_000, 3, generator=g)
    v = 2 * torch.randn(200_000, 3, generator=g) + torch.tensor([3.0, 0.0, 0.0])
    assert metrics.frechet(u, v) == pytest.approx(9 + 3, rel=0.02)
    assert metrics.frechet(u, u) == pytest.approx(0, abs=1e-6)


def test_frechet_agrees_with_the_matrix_square_root():
    scipy_linalg = pytest.importorskip("scipy.linalg")
    g = torch.Generator().manual_seed(1)
    u, v = torch.randn(50, 4, generator=g).double(), torch.rand(60, 4, generator=g).double()
    u[:, 3] = u[:, 2]  # a singular covariance, as dead features give
    a, b = torch.cov(u.T), torch.cov(v.T)
    root = scipy_linalg.sqrtm((a + 1e-14 * torch.eye(4)) @ b).real.trace()
    expected = (u.mean(0) - v.mean(0)).square().sum() + a.trace() + b.trace() - 2 * root
    assert metrics.frechet(u, v) == pytest.approx(expected.item(), rel=1e-4)
    with pytest.raises(ValueError, match="covariances need 2"):
        metrics.frechet(u[:1], v)


def test_precision_is_of_the_generated_and_recall_of_the_real():
    g = torch.Generator().manual_seed(0)
    real = torch.rand(500, 2, generator=g)
    corner = 0.3 * torch.rand(500, 2, generator=g)  # faithful, but a ninth of the variety
    precision, recall = metrics.precision_recall(real, corner)
    assert precision > 0.95
    assert recall < 0.25
    assert metrics.precision_recall(real, real + 5.0) == (0.0, 0.0)
    with pytest.raises(ValueError, match="k is 3, but real has 3 rows"):
        metrics.precision_recall(real[:3], real)
