import pytest
import torch

import privgan as pg
from privgan.streams import stream

MODELS = [
    lambda seed=0: pg.Linear(3, 5, seed=seed),
    lambda seed=0: pg.MLP(3, 5, seed=seed),
    lambda seed=0: pg.MLP(3, 5, hidden=(8,), norm=True, bounds=(-1.0, 2.0), seed=seed),
    lambda seed=0: pg.MLP(3, 5, hidden=(8,), categories=[slice(3, 5)], seed=seed),
]
each = pytest.mark.parametrize("make", MODELS)


@each
def test_samples_repeat_with_a_seed(make):
    model = make()
    assert model.sample(7, seed=1).shape == (7, 5)
    assert torch.equal(model.sample(7, seed=1), model.sample(7, seed=1))
    assert not torch.equal(model.sample(7, seed=1), model.sample(7, seed=2))
    assert not torch.equal(model.sample(7), model.sample(7))


@each
def test_initial_weights_come_from_the_seed_alone(make):
    before = torch.random.get_rng_state()
    same, again, other = make(1), make(1), make(2)
    assert torch.equal(before, torch.random.get_rng_state())
    x = [m.sample(4, seed=0) for m in (same, again, other)]
    assert torch.equal(x[0], x[1])
    assert not torch.equal(x[0], x[2])


@each
def test_sampling_leaves_mode_and_weights_alone(make):
    model = make().train()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    assert not model.sample(20, seed=0).requires_grad
    assert model.training
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


def test_large_samples_equal_small_ones_of_the_same_latents():
    model = pg.MLP(2, 2)
    assert torch.allclose(
        model.sample(20_000, seed=0)[:5],
        model(model.latent(20_000, stream(0, "sample"))[:5]).detach(),
        atol=1e-6,
    )


def test_even_latents_are_normal_and_spread_better_than_independent_ones():
    model = pg.MLP(2, 2)

    def drawn(even):
        seeds = (torch.Generator().manual_seed(s) for s in range(40))
        return torch.stack([model.latent(256, seed, even=even) for seed in seeds])

    even, independent = drawn(True), drawn(False)
    assert even.dtype == torch.float32
    assert torch.equal(even, drawn(True))
    assert not torch.equal(even[0], even[1])
    pooled = even.flatten(0, 1)
    assert torch.allclose(torch.cov(pooled.T), torch.eye(2), atol=0.03)
    assert pooled.isfinite().all()
    far = (pooled.norm(dim=1) > 2).double().mean()  # a tail: exp(-2)
    assert far.item() == pytest.approx(0.1353, abs=0.01)
    assert even.mean(1).std() < 0.2 * independent.mean(1).std()
    seen = (v[..., 0].sign().mul(v[..., 1].sign()).mean(1).std() for v in (even, independent))
    assert next(seen) < 0.2 * next(seen)  # jointly too, and not each alone


def test_bounds_hold():
    x = pg.MLP(2, 3, bounds=(-1.0, 2.0)).double().sample(1000, seed=0)
    assert x.min() > -1.0
    assert x.max() < 2.0
    assert x.dtype == torch.float64


def test_bad_settings_are_named():
    with pytest.raises(ValueError, match="bounds"):
        pg.MLP(2, 2, bounds=(1, 0))
    with pytest.raises(ValueError, match="latent_dim must be at least 1"):
        pg.MLP(0, 2)
    with pytest.raises(TypeError, match="out_dim must be an integer"):
        pg.Linear(2, 2.0)
    with pytest.raises(ValueError, match="n must be at least 1"):
        pg.Linear(2, 2).sample(0)


def test_categories_are_probabilities_in_training_and_one_hot_in_samples():
    model = pg.MLP(2, 7, bounds=(0.0, 1.0), categories=[slice(4, 7), slice(0, 2)])
    p = model(torch.randn(50, 2))
    for block in (p[:, 0:2], p[:, 4:7]):
        assert torch.allclose(block.sum(1), torch.ones(50))
        assert (block > 0).all()
    x = model.sample(20_000, seed=0)
    for block in (x[:, 0:2], x[:, 4:7]):
        assert torch.equal(block.sum(1), torch.ones(20_000))
        assert ((block == 0) | (block == 1)).all()
    assert ((x[:, 2:4] > 0) & (x[:, 2:4] < 1)).all()
    z = model.latent(20_000, torch.Generator().manual_seed(0))
    expected = model(z)[:, 4:7].mean(0)
    assert torch.allclose(x[:, 4:7].mean(0), expected, atol=0.02)


def test_atoms_are_drawn_by_their_weights():
    points = torch.tensor([[0.0, 1.0], [2.0, 3.0], [4.0, 5.0]])
    atoms = pg.Atoms(points)
    assert torch.allclose(atoms.weights, torch.full((3,), 1 / 3))
    with torch.no_grad():
        atoms.logits.copy_(torch.tensor([0.2, 0.0, 0.8]).log())
    x = atoms.sample(50_000, seed=0)
    counts = torch.tensor([(x == point).all(1).sum() for point in points])
    assert torch.allclose(counts / 50_000, torch.tensor([0.2, 0.0, 0.8]), atol=0.01)
    assert counts[1] == 0
    assert counts.sum() == 50_000
    assert torch.equal(x, atoms.sample(50_000, seed=0))


def test_a_batch_of_atoms_is_all_of_them_with_their_weights():
    atoms = pg.Atoms(torch.eye(4))
    x, a = atoms.batch(99, torch.Generator())
    assert torch.equal(x, torch.eye(4))
    assert a.requires_grad
    points, weights = pg.MLP(2, 3).batch(5, torch.Generator().manual_seed(0))
    assert points.shape == (5, 3)
    assert weights is None


@pytest.mark.parametrize(
    ("categories", "error", "message"),
    [
        (slice(0, 2), TypeError, "categories must be a sequence of slices"),
        ([3], TypeError, r"categories\[0\] must be a slice"),
        ([slice(3, 6)], ValueError, r"categories\[0\] is slice\(3, 6, None\)"),
        ([slice(2, 3)], ValueError, "at least two"),
        ([slice(None, 2)], ValueError, r"categories\[0\] is slice"),
        ([slice(0, 4, 2)], ValueError, r"categories\[0\] is slice"),
        ([slice(0, 3), slice(2, 5)], ValueError, "overlaps another block"),
    ],
)
def test_bad_categories_are_named(categories, error, message):
    with pytest.raises(error, match=message):
        pg.MLP(2, 5, categories=categories)


def test_bad_atoms_are_named():
    with pytest.raises(ValueError, match="points has shape"):
        pg.Atoms(torch.ones(3))
    with pytest.raises(ValueError, match="points has 1 non-finite row"):
        pg.Atoms(torch.tensor([[0.0], [torch.inf]]))


def test_units_of_another_shape_are_refused():
    for model in (pg.MLP(2, 3), pg.Linear(2, 3)):
        with pytest.raises(ValueError, match=r"spread has shape \(1,\); .* need \(3,\)"):
            model.settle(torch.zeros(3), torch.ones(1))
        with pytest.raises(ValueError, match=r"centre has shape \(3, 1\)"):
            model.settle(torch.zeros(3, 1), torch.ones(3))


@pytest.mark.parametrize(
    ("error", "message", "settings"),
    [
        (ValueError, r"hidden\[1\] must be at least 1, got -1", {"hidden": (64, -1)}),
        (TypeError, "hidden must be a sequence of integers, got '64'", {"hidden": "64"}),
        (
            TypeError,
            r"hidden must be a sequence of integers, got 64; .*\(hidden,\)",
            {"hidden": 64},
        ),
        (TypeError, r"bounds must be \(low, high\)", {"bounds": 1.0}),
        (TypeError, r"bounds\[1\] must be a number, got 'x'", {"bounds": (0.0, "x")}),
        (ValueError, "low < high", {"bounds": (0.0, float("inf"))}),
        (TypeError, "norm must be True or False", {"norm": "yes"}),
        (TypeError, "seed must be an integer", {"seed": None}),
        (ValueError, "basis has shape", {"basis": torch.ones(5)}),
        (TypeError, r"categories\[1\] must be a slice", {"categories": [slice(0, 2), 3]}),
    ],
)
def test_settings_in_lists_are_checked(error, message, settings):
    with pytest.raises(error, match=message):
        pg.MLP(2, 5, **settings)


@pytest.mark.parametrize("norm", [False, True])
@pytest.mark.parametrize("hidden", [(), (6,), (9, 7, 6)])
def test_layers_hold_a_linear_map_of_latents(hidden, norm):
    rng = torch.Generator().manual_seed(0)
    z, matrix = torch.randn(20, 3, generator=rng), torch.randn(5, 3, generator=rng)
    offset = torch.arange(5.0)
    model = pg.MLP(3, 5, hidden=hidden, norm=norm, categories=[slice(3, 5)]).eval()
    model.settle(torch.tensor([1.0, 2, 3, 0, 0]), torch.tensor([0.5, 2, 4, 1, 1]))
    assert model.hold(offset, matrix)
    expected = offset + z @ matrix.T
    expected[:, 3:] = expected[:, 3:].softmax(1)
    assert torch.allclose(model(z), expected, atol=1e-4)
    assert all(p.grad is None and p.requires_grad for p in model.parameters())


def test_where_a_linear_map_does_not_fit_nothing_changes():
    for model in (pg.MLP(3, 5, hidden=(6, 5)), pg.MLP(3, 5, hidden=(6,), bounds=(0.0, 1.0))):
        before = [v.clone() for v in model.state_dict().values()]
        assert not model.hold(torch.zeros(5), torch.ones(5, 3))
        assert all(map(torch.equal, before, model.state_dict().values()))
