"""Generators that the notebooks trained, kept with the package in half precision."""

import io
from pathlib import Path
from typing import Any

import torch

from privgan.files import write_atomically
from privgan.generators.images import ConvDecoder, Labelled

FOLDER = Path(__file__).with_name("weights")


def load(name: str) -> Labelled:
    """The kept generator ``name``: digits with their labels, ready for ``sample``.

    ``mnist_gaussian_1`` was trained on MNIST images with Gaussian noise of std 1 on every pixel and
    labels through randomized response at epsilon 2. ``about`` says which notebook made it.
    Raises ValueError, listing the names there are, for any other.
    """
    path = FOLDER / f"{name}.pt"
    if not path.exists():
        names = ", ".join(sorted(file.stem for file in FOLDER.glob("*.pt")))
        raise ValueError(f"there is no kept generator {name!r}; there are {names}")
    kept = torch.load(path, weights_only=True)
    model = Labelled(ConvDecoder(kept["latent_dim"], kept["side"]), kept["k"])
    model.load_state_dict(kept["weights"])  # into float32
    model.about = kept["about"]
    return model.eval()


def keep(model: Labelled, path: str | Path, about: dict[str, Any]) -> None:
    """Write ``model``, whose decoder is a `ConvDecoder` of the usual widths, for `load`.

    A file in `FOLDER` is found by its name. about: what made it, in plain types.
    """
    weights = {
        name: value.half() if value.is_floating_point() else value
        for name, value in model.state_dict().items()
    }
    shape = {"latent_dim": model.latent_dim, "side": round(model.decoder.out_dim**0.5)}
    buffer = io.BytesIO()
    torch.save({**shape, "k": model.k, "weights": weights, "about": about}, buffer)
    write_atomically(Path(path), buffer.getvalue(), "generator")
