import subprocess
import sys

import numpy as np
import pytest
import torch

import privgan as pg
from privgan.files import load_tensors, save_tensors
from privgan.generators import saved
from privgan.generators.base import FORMAT
from privgan.mechanisms import low_frequencies

KEPT = sorted(path.stem for path in saved.FOLDER.glob("*.safetensors"))


def test_there_is_one():
    assert "mnist_gaussian_1" in KEPT


@pytest.mark.parametrize("name", KEPT)
def test_a_kept_generator_draws_labelled_images(name):
    assert (saved.FOLDER / f"{name}.safetensors").stat().st_size < 3_000_000
    model = pg.load(name)
    x = model.sample(500, seed=0)
    assert x.shape == (500, 794)
    assert ((x >= 0) & (x <= 1)).all()
    assert torch.equal(x[:, 784:].sum(0), torch.full((10,), 50.0))
    assert model.about["notebook"]
    means = torch.stack([model.sample_class(c, 50).mean(0) for c in range(10)])
    apart = torch.cdist(means, means) + 100 * torch.eye(10)
    assert apart.min() > 1.5  # ten digits, not one


@pytest.mark.parametrize("name", KEPT)
def test_a_kept_generator_that_is_damaged_is_refused(name, tmp_path):
    whole = (saved.FOLDER / f"{name}.safetensors").read_bytes()
    header = 8 + int.from_bytes(whole[:8], "little")
    rng = np.random.default_rng(0)
    path = tmp_path / "kept"
    for top in [header] * 5 + [len(whole)] * 5:
        damaged = bytearray(whole)
        damaged[rng.integers(top)] ^= 1 << rng.integers(8)
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=r"generator .*kept cannot be read"):
            pg.load(path)
        path.write_bytes(whole[: rng.integers(top)])
        with pytest.raises(ValueError, match=r"generator .*kept cannot be read"):
            pg.load(path)


def settled():
    model = pg.MLP(2, 3, hidden=(8,), norm=True)
    model.settle(
        torch.tensor([1.7e9, 0.0, 1.0]).double(), torch.tensor([3600.0, 1.0, 2.0]).double()
    )
    return model


class Mine(pg.generators.Generator):
    """Somebody's own."""

    def __init__(self, latent_dim, out_dim, *, width):
        super().__init__()
        self.latent_dim, self.out_dim, self.width = latent_dim, out_dim, width
        self.net = torch.nn.Sequential(torch.nn.Linear(latent_dim, width), torch.nn.Tanh())
        self.last = torch.nn.Linear(width, out_dim)

    def forward(self, z):
        return self.last(self.net(z))


class Free(Mine):
    """Somebody's own, with any arguments."""

    def __init__(self, latent_dim, *widths, out_dim, **more):
        super().__init__(latent_dim, out_dim, width=widths[0])
        self.widths, self.more = widths, more


class Wrapped(pg.MLP):
    def __init__(self, latent_dim, **settings):
        super().__init__(latent_dim, 3, **settings)
        self.settings = settings


MODELS = {
    "free": lambda: Free(2, 4, 5, out_dim=3, name="mine", seen=None),
    "wrapped": lambda: Wrapped(2, hidden=(4,), bounds=(0.0, 1.0)),
    "linear": lambda: pg.Linear(2, 3),
    "mlp": lambda: pg.MLP(2, 3, hidden=(8, 4), bounds=(-1.0, 2.0)),
    "settled": settled,
    "categories": lambda: pg.MLP(4, 6, categories=[slice(*np.array([2, 5]))]),
    "basis": lambda: pg.MLP(4, 64, basis=low_frequencies(8, 3)),
    "double": lambda: pg.MLP(2, 2).double(),
    "images": lambda: pg.ConvDecoder(5, 8, channels=4, hidden=16, bounds=None),
    "labelled": lambda: pg.Labelled(pg.ConvDecoder(5, 8), 3, prior=[0.5, 0.25, 0.25]),
    "atoms": lambda: pg.Atoms(torch.eye(4).double()),
    "own": lambda: Mine(2, 3, width=7),
}


@pytest.mark.parametrize("name", MODELS)
def test_a_saved_generator_comes_back_to_the_bit(tmp_path, name):
    model = MODELS[name]().eval()
    model.save(tmp_path / "model.pt", about={"notebook": "none"})
    again = pg.load(tmp_path / "model.pt")
    assert type(again) is type(model)
    assert not again.training
    assert again.about == {"notebook": "none"}
    own = model.sample(20, seed=1)
    assert again.sample(20, seed=1).dtype == own.dtype
    assert torch.equal(again.sample(20, seed=1), own)
    again.save(tmp_path / "again")
    assert torch.equal(pg.load(tmp_path / "again").sample(20, seed=1), own)


def test_half_precision_takes_half_the_space(tmp_path):
    model = pg.Labelled(pg.ConvDecoder(5, 8), 3).eval()
    model.save(tmp_path / "whole")
    model.save(tmp_path / "half", half=True)
    assert (tmp_path / "half").stat().st_size < 0.6 * (tmp_path / "whole").stat().st_size
    again = pg.load(tmp_path / "half").sample(20, seed=1)
    assert again.dtype == torch.float32
    assert torch.allclose(again, model.sample(20, seed=1), atol=1e-2)


@pytest.mark.gpu
def test_a_generator_goes_from_one_device_to_another(tmp_path):
    model = pg.MLP(2, 3).cuda()
    model.save(tmp_path / "model")
    here, there = pg.load(tmp_path / "model"), pg.load(tmp_path / "model", device="cuda")
    assert not next(here.parameters()).is_cuda
    assert next(there.parameters()).is_cuda
    assert torch.allclose(here.sample(9, seed=0), there.sample(9, seed=0), atol=1e-5)


def test_a_name_that_is_neither_a_file_nor_kept():
    with pytest.raises(FileNotFoundError, match=r"no file yours; the kept .* mnist_gaussian_0.5"):
        pg.load("yours")


def test_a_generator_that_forgets_its_arguments_says_which(tmp_path):
    class Forgetful(Mine):
        def __init__(self, latent_dim, out_dim, *, slope):
            super().__init__(latent_dim, out_dim, width=3)

    with pytest.raises(TypeError, match=r"Forgetful .* takes slope, which it does not keep"):
        Forgetful(2, 2, slope=0.1).save(tmp_path / "model")
    assert not (tmp_path / "model").exists()


@pytest.mark.parametrize("held", [torch.tanh, torch.nn.Tanh(), torch.nn.Tanh, lambda z: z])
def test_a_generator_that_holds_what_no_file_can_says_so_and_how_to_keep_it(tmp_path, held):
    class Holding(Mine):
        def __init__(self, act):
            super().__init__(2, 2, width=3)
            self.act = act

    with pytest.raises(TypeError, match=r"cannot be written down; .* or keep its weights alone"):
        Holding(held).save(tmp_path / "model")
    assert not (tmp_path / "model").exists()


def test_a_class_that_a_notebook_defines_again_is_the_newest(tmp_path):
    def cell():
        class Cell(Mine):
            pass

        return Cell

    old = cell()
    old(2, 3, width=7).save(tmp_path / "model")
    new = cell()
    assert type(pg.load(tmp_path / "model")) is new


def test_a_class_that_is_not_known_here_is_named(tmp_path):
    Mine(2, 3, width=7).save(tmp_path / "model")
    script = "import sys, privgan as pg\npg.load(sys.argv[1])"
    call = [sys.executable, "-c", script, str(tmp_path / "model")]
    said = subprocess.run(call, capture_output=True, text=True).stderr
    assert "ValueError" in said
    assert "was made by other code" in said
    assert "'Mine' is no known Generator; if it is your own, import its module first" in said


def test_a_class_that_has_changed_since_is_named(tmp_path):
    model = Mine(2, 3, width=7)
    model.width = 9  # as if the file were older than the class
    model.save(tmp_path / "model")
    with pytest.raises(ValueError, match="was made by other code than what is here"):
        pg.load(tmp_path / "model")


def test_weights_that_are_not_finite_are_refused(tmp_path):
    model = pg.MLP(2, 3)
    model.net[0].bias.data[1] = float("nan")
    model.save(tmp_path / "model")
    with pytest.raises(ValueError, match=r"weights that are not finite, in net\.0\.bias"):
        pg.load(tmp_path / "model")


def test_a_damaged_file_is_refused(tmp_path):
    path = tmp_path / "model"
    pg.MLP(2, 3).save(path)
    damaged = bytearray(path.read_bytes())
    damaged[-5] ^= 4
    path.write_bytes(damaged)
    with pytest.raises(ValueError, match=r"generator .*model cannot be read: it is damaged"):
        pg.load(path)


def test_a_file_of_another_kind_is_refused(tmp_path):
    save_tensors(tmp_path / "t", "something else", {}, {}, "thing")
    with pytest.raises(ValueError, match="its format is 'something else'"):
        pg.load(tmp_path / "t")
    pg.MLP(2, 3).save(tmp_path / "m")
    assert load_tensors(tmp_path / "m", FORMAT, "generator")[0]["generator"]["object"] == "MLP"


@pytest.mark.parametrize(
    "change",
    [
        {"latent_dim": 10**6, "out_dim": 10**6},
        {"latent_dim": 10**300},
        {"hidden": [10**5] * 100},
        {"hidden": [1] * 10_000},
        {"latent_dim": 3},
        {"colour": 3},
        {"categories": [{"slice": ["x", 2, None]}]},
    ],
)
def test_a_file_that_asks_for_another_network_than_its_weights_is_refused(tmp_path, change):
    pg.MLP(2, 3, hidden=(8,)).save(tmp_path / "model")
    about, tensors = load_tensors(tmp_path / "model", FORMAT, "generator")
    about["generator"]["arguments"].update(change)
    save_tensors(tmp_path / "model", FORMAT, about, tensors, "generator")
    with pytest.raises(ValueError, match=r"generator .*model cannot be read") as caught:
        pg.load(tmp_path / "model")
    assert len(str(caught.value)) < 600
