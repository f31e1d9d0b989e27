import numpy as np
import pytest
import torch
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist

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


@pytest.mark.parametrize("size", [1e-9, 1.0, 1e9])
def test_w2_is_exact_at_any_scale(size):
    """POT's own tolerance is absolute: at 1e-9 it would pair points that lie far apart."""
    g = torch.Generator().manual_seed(0)
    x, y = (torch.randn((60, 2), generator=g, dtype=torch.float64) for _ in range(2))
    rows, columns = linear_sum_assignment(torch.cdist(x, y).square())
    best = (x[rows] - y[columns]).square().sum(1).mean().sqrt().item()
    assert metrics.w2(size * x, size * y) == pytest.approx(size * best, rel=1e-12)


def test_w2_between_samples_far_apart_pairs_them_as_if_they_were_near():
    x, y = sample(60, 2, 0), sample(60, 2, 1)
    far = y + 1e6
    apart = (x.mean(0) - far.mean(0)).square().sum().item()
    near = metrics.w2(x - x.mean(0), y - y.mean(0)) ** 2
    assert metrics.w2(x, far) ** 2 - apart == pytest.approx(near, rel=1e-2)


@pytest.mark.parametrize("dim", [1, 2, 784])
def test_w2_of_timestamps_is_their_shift(dim):
    g = torch.Generator().manual_seed(0)
    x = 1.7e9 + torch.randn((30, dim), generator=g, dtype=torch.float64)
    assert metrics.w2(x, x + 5.0) == pytest.approx(5 * dim**0.5, rel=1e-6)


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


def sample(n, d, seed):
    return torch.randn((n, d), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize(("n", "d"), [(40, 3), (5, 20)], ids=["full rank", "singular"])
@pytest.mark.parametrize("place", [0.0, 1e9])
def test_frechet_has_closed_forms(n, d, place):
    u = place + sample(n, d, 0).mul(2**20).round().div(2**20)
    spread = u.var(0).sum().item()
    own = u - place
    assert metrics.frechet(u, u) == 0.0
    assert metrics.frechet(u, u.flip(0)) < 1e-13 * spread
    assert metrics.frechet(u, u + 8.0) == pytest.approx(64.0 * d, rel=1e-9)
    wider = spread / 4 + own.mean(0).square().sum().item() / 4
    assert metrics.frechet(u, place + 1.5 * own) == pytest.approx(wider, rel=1e-6)
    # A millionth wider: a part in 1e12 of either trace, which a difference of traces would lose.
    if place == 0.0:
        wider = (spread + own.mean(0).square().sum().item()) * 1e-12
        assert metrics.frechet(u, (1 + 1e-6) * u) == pytest.approx(wider, rel=1e-3)


def test_frechet_of_samples_in_planes_at_right_angles_is_the_sum_of_their_spreads():
    u, v = sample(10, 4, 0), sample(12, 4, 1)
    u[:, 2:], v[:, :2] = 1.0, 2.0
    apart = (u.mean(0) - v.mean(0)).square().sum()
    expected = (u.var(0).sum() + v.var(0).sum() + apart).item()
    assert metrics.frechet(u, v) == pytest.approx(expected, rel=1e-12)


def test_precision_and_recall_on_a_line():
    real = torch.tensor([0.0, 1.0, 3.0, 7.0])[:, None]  # to the nearest: 1, 1, 2 and 4
    generated = torch.tensor([-1.1, -1.0, 5.0, 11.0, 11.1])[:, None]
    precision, _ = metrics.precision_recall(real, generated, k=1)
    assert precision == 3 / 5
    _, recall = metrics.precision_recall(generated, real, k=1)
    assert recall == 3 / 5
    second, _ = metrics.precision_recall(real, generated, k=2)  # 3, 2, 3 and 6
    assert second == 1.0


def test_precision_of_repeated_points_is_that_of_the_definition(monkeypatch):
    real, generated = sample(30, 20, 0).round(), sample(40, 20, 1).round()
    real[5:15] = real[0]  # so that some radius is zero
    generated[:10] = real[0]

    def share(x, own):
        radius = [sorted((p - q).square().sum() for q in own)[2] for p in own]
        inside = [
            any((p - q).square().sum() <= r for q, r in zip(own, radius, strict=True)) for p in x
        ]
        return sum(inside) / len(x)

    expected = share(generated, real), share(real, generated)
    assert metrics.precision_recall(real, generated, k=2) == expected
    monkeypatch.setattr(metrics, "BLOCK", 7 * 40)  # a few rows at a time
    assert metrics.precision_recall(real, generated, k=2) == expected


@pytest.mark.parametrize(("n", "m"), [(60, 40), (40, 60), (64, 64)])
def test_precision_holds_no_more_distances_than_a_block(n, m, monkeypatch):
    held = []

    def watched(*arguments):
        held.append(cdist(*arguments))
        return held[-1]

    monkeypatch.setattr(metrics, "cdist", watched)
    monkeypatch.setattr(metrics, "BLOCK", 7 * 64)
    metrics.precision_recall(sample(n, 2, 0), sample(m, 2, 1))
    assert max(distances.size for distances in held) <= 7 * 64


@pytest.mark.parametrize("place", [0.0, 1e9])
def test_precision_of_the_sample_itself_is_one(place):
    x = place + sample(50, 3, 0)
    assert metrics.precision_recall(x, x.flip(0)) == (1.0, 1.0)
    near = place + 1e-3 * sample(50, 3, 1)
    far = place + 1e-3 * sample(50, 3, 2) + 1e3
    assert metrics.precision_recall(torch.cat([near, far]), far) == pytest.approx((1.0, 0.5), 0.1)


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


def test_the_floor_is_the_mean_over_pairs_of_seeds_that_share_none():
    seeds = []

    def draw(n, seed):
        seeds.append(seed)
        return data.circle(n, seed=seed)

    pairs = [metrics.w2(data.circle(20, seed=s), data.circle(20, seed=s + 1)) for s in (4, 6)]
    assert metrics.w2_floor(draw, 20, repeats=2, seed=4) == pytest.approx(sum(pairs) / 2)
    assert seeds == [4, 5, 6, 7]
    seeds.clear()
    metrics.w2_floor(draw, 20)
    assert seeds == [0, 1, 2, 3, 4, 5]


def test_the_smallest_samples_that_can_be_judged_are():
    x, y = sample(5, 2, 0), sample(5, 2, 1)
    assert metrics.w2_draws(x, y, 5).tolist() == [metrics.w2(x, y)]
    assert metrics.frechet(x[:2], x[:2] + 3.0) == pytest.approx(18.0)
    assert metrics.precision_recall(x[:4], y[:4]) == metrics.precision_recall(x[:4], y[:4], k=3)


def test_one_point_held_against_itself_is_at_distance_zero():
    x = torch.ones(1, 2)
    assert metrics.w2(x, x) == 0.0


@pytest.mark.parametrize(
    ("name", "call"),
    [
        ("x", lambda bad, good: metrics.w2(bad, good)),
        ("y", lambda bad, good: metrics.w2(good, bad)),
        ("x", lambda bad, good: metrics.w2_draws(bad, good, 2)),
        ("y", lambda bad, good: metrics.w2_draws(good, bad, 2)),
        ("u", lambda bad, good: metrics.frechet(bad, good)),
        ("v", lambda bad, good: metrics.frechet(good, bad)),
        ("real", lambda bad, good: metrics.precision_recall(bad, good)),
        ("generated", lambda bad, good: metrics.precision_recall(good, bad)),
    ],
)
def test_a_sample_that_is_not_finite_is_named_as_the_argument_is(name, call):
    good = sample(6, 2, 0)
    with pytest.raises(ValueError, match=rf"^{name} has 1 non-finite row"):
        call(torch.where(good == good[3, 0], torch.nan, good), good)


@pytest.mark.parametrize(
    ("name", "call"),
    [
        ("n", lambda bad, x: metrics.w2_draws(x, x, bad)),
        ("repeats", lambda bad, x: metrics.w2_floor(data.circle, 5, repeats=bad)),
        ("k", lambda bad, x: metrics.precision_recall(x, x, k=bad)),
    ],
)
def test_a_number_that_is_no_count_is_named_as_the_argument_is(name, call):
    with pytest.raises(ValueError, match=rf"^{name} must be"):
        call(0, sample(6, 2, 0))


def test_precision_holds_no_more_distances_than_it_says(monkeypatch):
    cdist, held = metrics.cdist, []

    def counted(*args):
        found = cdist(*args)
        held.append(found.size)
        return found

    monkeypatch.setattr(metrics, "cdist", counted)
    monkeypatch.setattr(metrics, "BLOCK", 240)
    metrics.precision_recall(sample(30, 2, 0), sample(40, 2, 1))
    assert max(held) == 240
    assert min(held) > 100  # and not one row at a time


@pytest.mark.parametrize("far", [0.0, 1e4, 1e7, 1e9, 1e12])
@pytest.mark.parametrize("sizes", [(40, 40), (40, 60)])
def test_w2_does_not_lose_the_many_to_an_outlier_that_both_share(far, sizes):
    """On a line the best plan is monotone: both samples' quantiles, side by side."""
    rng = np.random.default_rng(0)
    x, y = (np.append(rng.normal(size=n - n // 20), np.full(n // 20, far)) for n in sizes)
    grid = np.lcm(*sizes)
    quantiles = [np.sort(v)[np.arange(grid) * len(v) // grid] for v in (x, y)]
    expected = np.sqrt(np.mean((quantiles[0] - quantiles[1]) ** 2))
    assert metrics.w2(x[:, None], y[:, None]) == pytest.approx(expected, rel=1e-6)


def test_the_support_distance_counts_strays_and_not_where_the_mass_is():
    raw = torch.tensor([[float(k), 0.0] for k in range(101)])
    on_one_end = torch.zeros(10, 2)
    assert metrics.support_distance(on_one_end, raw) == 0
    assert metrics.support_distance(on_one_end + torch.tensor([0.0, 2.0]), raw) == 2
