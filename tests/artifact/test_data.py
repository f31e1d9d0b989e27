import gzip
import math
from functools import partial

import numpy as np
import pooch
import pytest
import requests
import torch

from privgan.artifact import data


@pytest.mark.parametrize("draw", data.MANIFOLDS.values(), ids=lambda f: f.__name__)
def test_manifolds_are_seeded_float32_points_near_the_unit_scale(draw):
    x = draw(5000, seed=0)
    assert x.shape == (5000, 2)
    assert x.dtype == torch.float32
    assert torch.equal(x, draw(5000, seed=0))
    assert not torch.equal(x, draw(5000, seed=1))
    assert x.abs().max() < 1.5
    assert x.mean(0).abs().max() < 0.3
    with pytest.raises(ValueError, match="n must be at least 1"):
        draw(0, seed=0)


def test_circle_has_radius_one():
    assert torch.allclose(data.circle(100, seed=0).norm(dim=1), torch.ones(100))


def test_moons_lie_on_two_half_circles():
    x = data.moons(2000, seed=0) / 0.8
    upper = (x - torch.tensor([-0.5, -0.25])).norm(dim=1)
    lower = (x - torch.tensor([0.5, 0.25])).norm(dim=1)
    assert torch.minimum((upper - 1).abs(), (lower - 1).abs()).max() < 1e-5


def test_spiral_radius_grows_with_the_angle():
    x = data.spiral(2000, seed=0)
    radius = x.norm(dim=1)
    turns = torch.atan2(x[:, 1], x[:, 0]) - 3 * math.pi * radius / 1.2
    assert (turns / (2 * math.pi) - (turns / (2 * math.pi)).round()).abs().max() < 1e-4


def test_eight_gaussians_sit_on_the_compass():
    x = data.eight_gaussians(8000, seed=0)
    nearest = torch.round(torch.atan2(x[:, 1], x[:, 0]) / (math.pi / 4)).long() % 8
    assert (torch.bincount(nearest, minlength=8) > 850).all()
    assert (x.norm(dim=1) - 1).std() == pytest.approx(0.05, rel=0.1)


def test_checkerboard_fills_the_dark_cells_evenly():
    cell = ((data.checkerboard(16_000, seed=0) + 1) * 2).floor().long()
    assert (cell.sum(1) % 2 == 0).all()
    counts = torch.bincount(cell[:, 0] * 4 + cell[:, 1], minlength=16)
    assert (counts[counts > 0] > 1700).all()
    assert (counts > 0).sum() == 8


def test_a_curve_of_ones_own_is_uniform_in_length():
    """An L of arms 3 and 1, and a separate bar of length 2: shares 3, 1 and 2 of 6."""
    gap = [float("nan")] * 2
    draw = data.curve([[0, 3], [0, 0], [1, 0], gap, [4, 0], [4, 2]])
    x = draw(6000, seed=0)
    assert x.dtype == torch.float32
    assert torch.equal(x, draw(6000, seed=0))
    assert torch.allclose(x.amax(0), torch.tensor([1.0, 0.75]), atol=1e-2)  # 4 by 3, centred
    assert torch.allclose(x.amin(0), torch.tensor([-1.0, -0.75]), atol=1e-2)
    bar = x[:, 0] > 0.99
    upright = x[:, 0] < -0.9999
    assert bar.double().mean().item() == pytest.approx(2 / 6, abs=0.03)
    assert upright.double().mean().item() == pytest.approx(3 / 6, abs=0.03)
    assert not ((x[:, 0] > -0.49) & ~bar).any()  # nothing between: the pen was lifted


def test_a_text_is_its_outline():
    x = data.curve("OT")(4000, seed=0)
    assert x.abs().amax(0).max().item() == pytest.approx(1, abs=1e-2)
    radius = (x[x[:, 0] < -0.1] - x[x[:, 0] < -0.1].mean(0)).norm(dim=1)
    assert radius.min() > 0.15  # the O is hollow
    assert not torch.equal(x, data.curve("TO")(4000, seed=0))


@pytest.mark.parametrize("shape", ["", " ", [[0.0, 0.0]], [[1.0, 1.0], [1.0, 1.0]]])
def test_a_curve_without_a_line_is_refused(shape):
    with pytest.raises(ValueError, match="no line to draw"):
        data.curve(shape)


def test_a_curve_is_in_the_plane():
    with pytest.raises(ValueError, match="corners of a line are"):
        data.curve([[0.0, 1.0, 2.0], [0.0, 0.0, 1.0]])


def test_bundled_digits():
    train, test = data.digits("train"), data.digits("test")
    assert train.pixels.shape == (1500, 64)
    assert test.pixels.shape == (297, 64)
    assert (train.pixels.min(), train.pixels.max()) == (0.0, 1.0)
    assert train.labels.unique().tolist() == list(range(10))
    with pytest.raises(ValueError, match="split must be"):
        data.digits("validation")


def test_mnist_when_it_is_here():
    try:
        train, test = data.mnist("train"), data.mnist("test")
    except data.DataUnavailable:
        pytest.skip("MNIST is not on this machine and cannot be downloaded")
    assert train.pixels.shape == (60_000, 784)
    assert test.pixels.shape == (10_000, 784)
    assert train.labels[:5].tolist() == [5, 0, 4, 1, 9]
    assert train.pixels.max() == 1.0
    assert train.pixels.mean().item() == pytest.approx(0.1307, abs=1e-4)


def test_fashion_mnist_when_it_is_here():
    try:
        train, test = data.fashion_mnist("train"), data.fashion_mnist("test")
    except data.DataUnavailable:
        pytest.skip("Fashion-MNIST is not on this machine and cannot be downloaded")
    assert train.pixels.shape == (60_000, 784)
    assert test.labels.bincount().tolist() == [1000] * 10
    assert train.pixels.mean().item() == pytest.approx(0.2860, abs=1e-4)
    assert train.pixels.std().item() == pytest.approx(0.3530, abs=1e-4)


@pytest.fixture
def tiny_mnist(tmp_path, monkeypatch):
    """Three 28 x 28 "training" images on a mirror that is a dictionary; no network."""
    images = bytes(16) + bytes(range(256))[: 784 // 4] * 4 * 3
    files = {
        "train-images-idx3-ubyte.gz": gzip.compress(images),
        "train-labels-idx1-ubyte.gz": gzip.compress(bytes(8) + bytes([7, 8, 9])),
    }
    source = tmp_path / "source"
    source.mkdir()
    for name, content in files.items():
        (source / name).write_bytes(content)
    hashes = {name: pooch.file_hash(str(source / name)) for name in files}
    monkeypatch.setattr(data, "MNIST_SHA256", hashes)
    monkeypatch.setenv("PRIVGAN_DATA_DIR", str(tmp_path / "data"))

    asked = []

    class Downloader:
        def __init__(self, **_):
            pass

        def __call__(self, url, output, _):
            asked.append(url)
            if url.startswith(data.MNIST_MIRRORS[0]):
                raise requests.ConnectionError("down")
            name = url.rsplit("/", 1)[1]
            with open(output, "wb") as file:
                file.write(files[name])

    monkeypatch.setattr(pooch, "HTTPDownloader", Downloader)
    return tmp_path / "data" / "mnist", asked


def test_download_falls_over_to_the_next_mirror_and_is_cached(tiny_mnist):
    folder, asked = tiny_mnist
    images = data.mnist("train")
    assert images.pixels.shape == (3, 784)
    assert images.labels.tolist() == [7, 8, 9]
    assert [url.startswith(data.MNIST_MIRRORS[1]) for url in asked] == [False, True] * 2
    data.mnist("train")
    assert len(asked) == 4
    assert {p.name for p in folder.iterdir()} == set(data.MNIST_SHA256)


def test_a_damaged_file_is_an_error_and_stays(tiny_mnist):
    folder, asked = tiny_mnist
    folder.mkdir(parents=True)
    damaged = folder / "train-images-idx3-ubyte.gz"
    damaged.write_bytes(b"not an image")
    with pytest.raises(ValueError, match=r"has SHA-256 .* left as it is"):
        data.mnist("train")
    assert damaged.read_bytes() == b"not an image"
    assert asked == []


def test_a_wrong_download_is_never_kept(tiny_mnist, monkeypatch):
    folder, _ = tiny_mnist
    monkeypatch.setattr(data, "MNIST_SHA256", dict.fromkeys(data.MNIST_SHA256, "0" * 64))
    with pytest.raises(data.DataUnavailable, match="what came has another SHA-256 and was not"):
        data.mnist("train")
    assert list(folder.iterdir()) == []


def test_offline_says_where_it_looked_and_how_to_fill_it(tiny_mnist, monkeypatch):
    folder, _ = tiny_mnist
    monkeypatch.setattr(data, "MNIST_MIRRORS", data.MNIST_MIRRORS[:1])
    with pytest.raises(data.DataUnavailable) as caught:
        data.mnist("train")
    assert str(folder) in str(caught.value)
    assert "PRIVGAN_DATA_DIR" in str(caught.value)


def test_a_tilde_is_the_home_folder(tiny_mnist, monkeypatch):
    folder, _ = tiny_mnist
    monkeypatch.setenv("HOME", str(folder.parent.parent))
    monkeypatch.setenv("PRIVGAN_DATA_DIR", "~/data")
    assert data.data_dir() == folder.parent
    data.mnist("train")
    assert folder.exists()


def test_without_a_folder_named_the_users_cache_is_searched(tiny_mnist, monkeypatch, tmp_path):
    monkeypatch.delenv("PRIVGAN_DATA_DIR")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(data, "MNIST_MIRRORS", data.MNIST_MIRRORS[:1])
    with pytest.raises(data.DataUnavailable) as caught:
        data.mnist("train")
    assert f"not in {tmp_path / 'cache' / 'privgan' / 'mnist'} and could" in str(caught.value)


def test_a_folder_that_cannot_be_written_is_not_mistaken_for_no_network(tiny_mnist):
    folder, _ = tiny_mnist
    folder.parent.write_text("a file where the data folder should be")
    with pytest.raises(OSError, match=r"cannot store .*train-images") as caught:
        data.mnist("train")
    assert not isinstance(caught.value, data.DataUnavailable)


def test_arrays_are_owned_and_writable():
    assert np.asarray(data.digits("test").pixels).flags.writeable


def test_laws_in_any_dimension():
    x = data.normal(20_000, std=(1.0, 0.5, 2.0), seed=0)
    assert x.shape == (20_000, 3)
    assert x.dtype == torch.float32
    assert x.std(0).tolist() == pytest.approx([1.0, 0.5, 2.0], rel=0.03)
    tails = data.student(20_000, dof=1.0, dim=2, seed=0)
    assert tails.shape == (20_000, 2)
    assert tails.dtype == torch.float64
    assert (tails.abs() < 1).double().mean().item() == pytest.approx(0.5, abs=0.02)
    for draw in (partial(data.normal, std=(1.0,)), partial(data.student, dof=3.0, dim=1)):
        assert torch.equal(draw(7, seed=1), draw(7, seed=1))
        assert not torch.equal(draw(7, seed=1), draw(7, seed=2))
