import pytest
import torch

import privgan as pg
from privgan.mechanisms import low_frequencies
from privgan.streams import stream


def test_conv_decoder_makes_images_in_their_bounds():
    model = pg.ConvDecoder(5, side=8, channels=4, hidden=16)
    x = model.sample(30, seed=0)
    assert x.shape == (30, 64)
    assert ((x >= 0) & (x <= 1)).all()
    assert torch.equal(x, pg.ConvDecoder(5, side=8, channels=4, hidden=16).sample(30, seed=0))
    assert pg.ConvDecoder(5, side=8, bounds=None).sample(99, seed=0).min() < 0
    with pytest.raises(ValueError, match="side must be a multiple of 4, got 10"):
        pg.ConvDecoder(5, side=10)


def labelled(**settings):
    return pg.Labelled(pg.MLP(6, 2, hidden=(8,)), 4, **settings)


def test_labelled_records_carry_the_class_they_were_made_from():
    model = labelled()
    z = model.latent(12, torch.Generator().manual_seed(0))
    x = model(z)
    assert x.shape == (12, 6)
    assert torch.equal(x[:, 2:], z[:, 2:])
    assert torch.equal(x[:, :2], model.decoder(z))


def test_classes_occur_as_often_as_their_prior_says():
    prior = [0.5, 0.25, 0.0, 0.25]
    counts = labelled(prior=prior).sample(400, seed=3)[:, 2:].sum(0)
    assert (counts - 400 * torch.tensor(prior)).abs().max() <= 1
    rare = torch.stack([labelled(prior=prior).sample(1, seed=s)[0, 2:] for s in range(400)])
    assert torch.allclose(rare.mean(0), torch.tensor(prior), atol=0.1)


def test_a_sample_of_one_class():
    model = labelled()
    x = model.sample_class(3, 5, seed=1)
    z = model.latent(5, stream(1, "sample"))
    z[:, -4:] = torch.eye(4)[3]
    assert torch.equal(x, model.decode(z))
    assert not torch.equal(model.sample_class(3, 5), model.sample_class(3, 5))
    with pytest.raises(ValueError, match="label must be 0 to 3, got 4"):
        model.sample_class(4, 5)


def test_the_decoders_categories_are_drawn():
    model = pg.Labelled(pg.MLP(6, 5, categories=[slice(2, 5)]), 3)
    for drawn in (model.sample(50, seed=0), model.sample_class(1, 50, seed=0)):
        assert ((drawn[:, 2:5] == 0) | (drawn[:, 2:5] == 1)).all()
        assert (drawn[:, 2:5].sum(1) == 1).all()
    twice = pg.Labelled(pg.Labelled(pg.MLP(8, 5, categories=[slice(2, 5)]), 3), 2)
    assert (twice.sample(50, seed=0)[:, 2:5].amax(1) == 1).all()


@pytest.mark.parametrize("prior", [[1.0], [0.5, 0.5, 0.5, 0.5], [2.0, -1.0, 0.0, 0.0]])
def test_a_prior_must_be_probabilities(prior):
    with pytest.raises(ValueError, match="prior must be 4 probabilities"):
        labelled(prior=prior)


def test_the_decoder_needs_latents_beside_the_class():
    with pytest.raises(ValueError, match="4 latents, 4 of which are the class"):
        pg.Labelled(pg.MLP(4, 2), 4)


def test_a_basis_makes_outputs_smooth():
    basis = low_frequencies(8, 3)
    model = pg.MLP(3, 64, basis=basis)
    x = model.sample(20, seed=0).double()
    assert torch.allclose(x @ basis.T @ basis, x, atol=1e-5)
    with pytest.raises(ValueError, match="basis has 64 columns for out_dim = 63"):
        pg.MLP(3, 63, basis=basis)


def test_even_latents_keep_the_class_frequencies():
    model = pg.Labelled(pg.MLP(5, 4, seed=0), 3)
    z = model.latent(12, torch.Generator().manual_seed(0), even=True)
    assert torch.equal(z[:, -3:].sum(0), torch.full((3,), 4.0))
    assert not torch.equal(z, model.latent(12, torch.Generator().manual_seed(0)))
