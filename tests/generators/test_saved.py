import pytest
import torch

import privgan as pg
from privgan.generators import saved

KEPT = sorted(path.stem for path in saved.FOLDER.glob("*.pt"))


def test_there_is_one():
    assert "mnist_gaussian_1" in KEPT


@pytest.mark.parametrize("name", KEPT)
def test_a_kept_generator_draws_labelled_images(name):
    assert (saved.FOLDER / f"{name}.pt").stat().st_size < 3_000_000
    model = pg.load(name)
    x = model.sample(500, seed=0)
    assert x.shape == (500, 794)
    assert ((x >= 0) & (x <= 1)).all()
    assert torch.equal(x[:, 784:].sum(0), torch.full((10,), 50.0))
    assert model.about["notebook"]
    means = torch.stack([model.sample_class(c, 50).mean(0) for c in range(10)])
    apart = torch.cdist(means, means) + 100 * torch.eye(10)
    assert apart.min() > 1.5  # ten digits, not one


def test_what_is_kept_comes_back(tmp_path, monkeypatch):
    model = pg.Labelled(pg.ConvDecoder(5, 8), 3)
    monkeypatch.setattr(saved, "FOLDER", tmp_path)
    saved.keep(model, tmp_path / "mine.pt", {"notebook": "none"})
    own, again = model.sample(20, seed=1), pg.load("mine").sample(20, seed=1)
    assert torch.allclose(own, again, atol=1e-2)
    assert torch.equal(own[:, 64:], again[:, 64:])
    with pytest.raises(ValueError, match="no kept generator 'yours'; there are mine"):
        pg.load("yours")
