"""Data: manifolds and curves in the plane, MNIST, scikit-learn's bundled digits."""

import gzip
import math
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pooch
import requests
import torch
from torch import Tensor

from privgan import checks
from privgan.streams import stream

# --- 2D manifolds: every sampler takes (n, seed) and returns float32 points (n, 2) ---------


def circle(n: int, *, seed: int) -> Tensor:
    """Uniform on the unit circle."""
    t = 2 * math.pi * torch.rand(n, generator=_generator(n, seed))
    return torch.stack([t.cos(), t.sin()], 1)


def moons(n: int, *, seed: int) -> Tensor:
    """Two interleaved half circles of radius 0.8, uniform in angle, centred."""
    generator = _generator(n, seed)
    t = math.pi * torch.rand(n, generator=generator)
    upper = torch.rand(n, generator=generator) < 0.5
    x = torch.where(upper, t.cos() - 0.5, 0.5 - t.cos())
    y = torch.where(upper, t.sin() - 0.25, 0.25 - t.sin())
    return 0.8 * torch.stack([x, y], 1)


def spiral(n: int, *, seed: int) -> Tensor:
    """An Archimedean spiral, one and a half turns out to radius 1.2, about uniform in length."""
    t = 3 * math.pi * torch.rand(n, generator=_generator(n, seed)).sqrt()
    return (1.2 * t / (3 * math.pi))[:, None] * torch.stack([t.cos(), t.sin()], 1)


def eight_gaussians(n: int, *, seed: int) -> Tensor:
    """Eight equal Gaussians of std 0.05 spaced evenly on the unit circle."""
    generator = _generator(n, seed)
    t = torch.randint(0, 8, (n,), generator=generator) * (math.pi / 4)
    return torch.stack([t.cos(), t.sin()], 1) + 0.05 * torch.randn((n, 2), generator=generator)


def checkerboard(n: int, *, seed: int) -> Tensor:
    """Uniform on the dark cells of a 4 x 4 board over [-1, 1]^2."""
    generator = _generator(n, seed)
    row = torch.randint(0, 4, (n,), generator=generator)
    column = 2 * torch.randint(0, 2, (n,), generator=generator) + row % 2
    corner = torch.stack([column, row], 1)
    return (corner + torch.rand((n, 2), generator=generator)) / 2 - 1


MANIFOLDS: dict[str, Callable[..., Tensor]] = {
    f.__name__: f for f in (circle, moons, spiral, eight_gaussians, checkerboard)
}


def curve(shape: str | np.ndarray | Sequence[Sequence[float]]) -> Callable[..., Tensor]:
    """A sampler ``draw(n, seed=...)`` of a curve of one's own, uniform in length.

    shape: the corners of a line, (k, 2), where a row of NaN lifts the pen; or a text, whose
    outline in DejaVu Sans Bold is drawn. Either is centred and scaled so that its longer side
    is 2.
    """
    corners = _outline(shape) if isinstance(shape, str) else _corners(shape)
    if corners.ndim != 2 or corners.shape[1] != 2:
        raise ValueError(f"shape has shape {corners.shape}; the corners of a line are (k, 2)")
    start, step = corners[:-1], np.diff(corners, axis=0)
    drawn = np.isfinite(step).all(1)
    start, step = start[drawn], step[drawn]
    length = np.hypot(*step.T)
    if not length.sum() > 0:
        raise ValueError("shape has no line to draw: give two different corners next to each other")
    ends = np.concatenate([start, start + step])
    low, high = ends.min(0), ends.max(0)
    scale = 2 / (high - low).max()
    starts, steps = (torch.from_numpy(scale * v).float() for v in (start - (low + high) / 2, step))
    share = torch.from_numpy(length / length.sum())

    def draw(n: int, *, seed: int) -> Tensor:
        generator = _generator(n, seed)
        piece = share.multinomial(n, replacement=True, generator=generator)
        return starts[piece] + torch.rand((n, 1), generator=generator) * steps[piece]

    return draw


def _corners(shape: np.ndarray | Sequence[Sequence[float]]) -> np.ndarray:
    corners: np.ndarray = checks.as_tensor("shape", shape).double().numpy()
    return corners


def _outline(text: str) -> np.ndarray:
    """The outline of a text as corners, (k, 2), with a row of NaN after each closed line."""
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import TextPath

    if not text.strip():  # matplotlib fails on a text without ink
        return np.empty((0, 2))
    path = TextPath((0, 0), text, size=100, prop=FontProperties(weight="bold"))
    pen_up = np.full((1, 2), np.nan)
    lines = [np.concatenate([line, pen_up]) for line in path.to_polygons()]
    return np.concatenate(lines) if lines else np.empty((0, 2))


def _generator(n: int, seed: int, columns: int = 2) -> torch.Generator:
    checks.rows("n", n, columns)
    return stream(seed, "data")


# --- Laws in any dimension, (n, d) -----------------------------------------------------------


def normal(n: int, *, std: Sequence[float], seed: int) -> Tensor:
    """Independent centred normal columns, one for every entry of ``std``, which are positive."""
    entries = enumerate(checks.sequence("std", std, "numbers"))
    widths = torch.tensor([checks.positive(f"std[{k}]", entry) for k, entry in entries])
    if not len(widths):
        raise ValueError("std is empty; give a standard deviation for each column")
    return torch.randn((n, len(widths)), generator=_generator(n, seed, len(widths))) * widths


def student(n: int, *, dof: float, dim: int, seed: int) -> Tensor:
    """Independent Student t columns: moments below ``dof`` exist; 1 is Cauchy's law.

    In float64: costs between the extremes of heavy tails overflow float32.
    """
    dim = checks.positive_int("dim", dim)
    entropy = torch.randint(2**63 - 1, (2,), generator=_generator(n, seed, dim))
    draws = np.random.default_rng(entropy.tolist()).standard_t(
        checks.positive("dof", dof), (n, dim)
    )
    return torch.from_numpy(draws)


# --- Images ---------------------------------------------------------------------------------


class DataUnavailable(OSError):
    """The files are neither on this machine nor reachable; the message says how to fill in."""


@dataclass(frozen=True)
class Images:
    """Flattened grey images: ``pixels`` (n, side * side) in [0, 1], ``labels`` (n,) int64."""

    name: str
    pixels: Tensor
    labels: Tensor
    side: int


MNIST_SHA256 = {
    f"{name}-ubyte.gz": digest
    for name, digest in (
        ("train-images-idx3", "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609"),
        ("train-labels-idx1", "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c"),
        ("t10k-images-idx3", "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6"),
        ("t10k-labels-idx1", "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6"),
    )
}
MNIST_MIRRORS = (
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
)
# Of the publisher's files, and of the same contents compressed anew.
FASHION_HASHES = {
    "train-images-idx3-ubyte.gz": (
        "md5:8d4fb7e6c68d591d4c3dfef9ec88bf0d",
        "b0564c3eedabfbf835052cff8503ea422014ce006caf5b757f851416ee8300c7",
    ),
    "train-labels-idx1-ubyte.gz": (
        "md5:25c81989df183df01b3e8a0aad5dffbe",
        "0ae29f65d86684f32d1b9c85147786c547b9c6aebcaf235f0400a0cce308b056",
    ),
    "t10k-images-idx3-ubyte.gz": (
        "md5:bef4ecab320f06d8554ea6380940ec79",
        "cc1d090a38ace84dfa1aa66e3ada7c336ef481a96936906477e6dd344da56eaa",
    ),
    "t10k-labels-idx1-ubyte.gz": (
        "md5:bb300cfdad3c16e7a12a480ee83cd310",
        "8d3605d196f4be44669e46906da9733c8131fef761fdbfec72c424d5222f1a05",
    ),
}
FASHION_MIRRORS = (
    "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
    "https://github.com/zalandoresearch/fashion-mnist/raw/master/data/fashion/",
)
DOWNLOAD_TIMEOUT = 20.0  # seconds without an answer before the next mirror is tried


def data_dir() -> Path:
    """``$PRIVGAN_DATA_DIR``, where ``~`` is the home folder, or the user's cache folder.

    MNIST lives in ``mnist/`` below it, Fashion-MNIST in ``fashion_mnist/``.
    """
    named = os.environ.get("PRIVGAN_DATA_DIR")
    return checks.as_path("PRIVGAN_DATA_DIR", named) if named else Path(pooch.os_cache("privgan"))


def mnist(split: str = "train") -> Images:
    """MNIST, 60 000 ("train") or 10 000 ("test") images of 28 x 28 pixels.

    Downloaded once and checked by SHA-256. A file whose hash is wrong raises ValueError and
    is left alone; DataUnavailable says which folder was searched and how to fill it.
    """
    return _idx_images("MNIST", "mnist", MNIST_MIRRORS, MNIST_SHA256, split)


def fashion_mnist(split: str = "train") -> Images:
    """Fashion-MNIST (Xiao, Rasul, Vollgraf, 2017): clothes of ten kinds; else as `mnist`."""
    return _idx_images("Fashion-MNIST", "fashion_mnist", FASHION_MIRRORS, FASHION_HASHES, split)


def _idx_images(
    title: str,
    folder: str,
    mirrors: Sequence[str],
    hashes: Mapping[str, str | tuple[str, ...]],
    split: str,
) -> Images:
    files = {"train": "train", "test": "t10k"}
    prefix = files[checks.one_of("split", split, files)]

    def fetched(part: str, header: int) -> np.ndarray:
        name = f"{prefix}-{part}-ubyte.gz"
        known = hashes[name]
        known = (known,) if isinstance(known, str) else known
        return _read_idx(_fetch(name, title, data_dir() / folder, mirrors, known), header)

    return Images(
        title,
        torch.from_numpy(fetched("images-idx3", 16).astype(np.float32) / 255.0).reshape(-1, 784),
        torch.from_numpy(fetched("labels-idx1", 8).astype(np.int64)),
        side=28,
    )


def digits(split: str = "train") -> Images:
    """scikit-learn's bundled 8 x 8 digits, 1500 for "train" and 297 for "test"; no network."""
    parts = {"train": slice(0, 1500), "test": slice(1500, None)}
    rows = parts[checks.one_of("split", split, parts)]
    from sklearn.datasets import load_digits  # half of the package's import time, so only here

    bunch = load_digits()
    return Images(
        "scikit-learn digits",
        torch.from_numpy(bunch.data[rows].astype(np.float32) / 16.0),
        torch.from_numpy(bunch.target[rows].astype(np.int64)),
        side=8,
    )


IMAGES: dict[str, Callable[[str], Images]] = {
    "mnist": mnist,
    "fashion_mnist": fashion_mnist,
    "digits": digits,
}


def _fetch(
    name: str, title: str, folder: Path, mirrors: Sequence[str], known: tuple[str, ...]
) -> Path:
    path = folder / name
    if path.exists():
        if not any(pooch.hashes.hash_matches(str(path), given) for given in known):
            raise ValueError(
                f"{path} has SHA-256 {pooch.file_hash(str(path))}, not {known[-1]}: it is damaged "
                "or another file. It is left as it is; move it away to download a fresh copy"
            )
        return path
    failures = []
    for mirror in mirrors:
        try:
            pooch.retrieve(
                mirror + name,
                known_hash=known[0],
                fname=name,
                path=path.parent,
                downloader=pooch.HTTPDownloader(
                    progressbar=sys.stderr.isatty(), timeout=DOWNLOAD_TIMEOUT
                ),
            )
            return path
        except requests.RequestException as error:
            failures.append(f"{mirror}: {type(error).__name__}")
        except ValueError:  # pooch's word for a wrong hash
            failures.append(f"{mirror}: what came has another SHA-256 and was not kept")
        except OSError as error:  # this machine's own trouble; another mirror would not help
            raise OSError(error.errno, f"cannot store {path}: {error.strerror or error}") from error
    raise DataUnavailable(
        f"{name} is not in {path.parent} and could not be downloaded ({'; '.join(failures)}). "
        f"Put the four {title} .gz files into {path.parent}, or point PRIVGAN_DATA_DIR at a "
        f"folder that holds {folder.name}/"
    )


def _read_idx(path: Path, header: int) -> np.ndarray:
    return np.frombuffer(gzip.decompress(path.read_bytes()), np.uint8, offset=header)
