import pytest
import torch

import privgan as pg

MODELS = [
    lambda seed=0: pg.Linear(3, 5, seed=seed),
    lambda seed=0: pg.MLP(3, 5, seed=seed),
    lambda seed=0: pg.MLP(3, 5, hidden=(8,), norm=True, bounds=(-1.0, 2.0), seed=seed),
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
        model(model.latent(20_000, torch.Generator().manual_seed(0))[:5]).detach(),
        atol=1e-6,
    )


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
