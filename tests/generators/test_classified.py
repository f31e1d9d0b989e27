"""Records whose class is read off their latents."""

import pytest
import torch

import privgan as pg


def model(**settings):
    return pg.Classified(pg.MLP(3, 2, hidden=(8,)), 4, **settings)


def test_a_record_is_the_decoders_and_probabilities_of_its_class():
    made = model()
    z = torch.randn(50, 3)
    x = made.eval()(z)
    assert torch.equal(x[:, :2], made.decoder(z))
    assert torch.allclose(x[:, 2:].sum(1), torch.ones(50))
    assert (x[:, 2:] > 0).all()


def test_a_sampled_class_is_drawn_by_its_probabilities():
    made = model()
    z = torch.randn(1, 3).repeat(20_000, 1)
    x = made.eval()(z)
    drawn = made.draw(x, torch.Generator().manual_seed(0))
    assert ((drawn[:, 2:] == 0) | (drawn[:, 2:] == 1)).all()
    assert torch.allclose(drawn[:, 2:].mean(0), x[0, 2:], atol=0.02)


def test_records_of_a_class_are_those_that_were_drawn_with_it():
    made = model()
    whole = made.sample(8192, seed=3)
    found = made.sample_class(2, 40, seed=3)
    size = 2 * 4 * 40
    first = made.sample(size, seed=3)
    expected = first[first[:, 4] == 1, :2]
    assert found.shape == (40, 2)
    assert torch.equal(found[: len(expected)], expected[:40])
    assert whole.shape == (8192, 6)


def test_a_class_that_never_occurs_is_no_endless_search():
    made = model()
    with torch.no_grad():
        made.reader.net[-1].bias[1] = -1e4
    with pytest.raises(ValueError, match="label 1: hardly any records"):
        made.sample_class(1, 5, seed=0)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: pg.Classified(pg.MLP(3, 2), 1), "k"),
        (lambda: model().sample_class(4, 5), "label"),
        (lambda: model().sample_class(0, 0), "n must"),
    ],
)
def test_what_does_not_fit_is_refused(build, message):
    with pytest.raises(ValueError, match=message):
        build()


def test_it_learns_a_class_from_noisy_answers(tmp_path):
    """Two clusters: the class that is read off says which, although half of the answers lie."""
    g = torch.Generator().manual_seed(0)
    label = torch.randint(2, (4000,), generator=g)
    place = 4.0 * label[:, None].float() - 2.0 + 0.3 * torch.randn(4000, 1, generator=g)
    raw = torch.cat([place, torch.nn.functional.one_hot(label, 2).float()], 1)
    answer = pg.RandomizedResponse(2, 0.65)
    mechanism = pg.Product((slice(0, 1), pg.Gaussian(0.5)), (slice(1, 3), answer))
    reports = pg.simulate(raw, mechanism, seed=1)
    made = pg.Classified(pg.MLP(2, 1, hidden=(32, 32)), 2)
    loss = pg.AmortizedLoss.matched(mechanism)
    pg.fit(made, reports, loss, steps=600, batch_size=200, lr=5e-3, progress=False)
    x = made.sample(2000, seed=0)
    assert ((x[:, 0] > 0) == (x[:, 2] == 1)).double().mean() > 0.9
    made.save(tmp_path / "model.safetensors")
    again = pg.load(tmp_path / "model.safetensors")
    assert torch.equal(again.sample(20, seed=1), made.sample(20, seed=1))
