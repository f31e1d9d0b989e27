"""Generators in files: one's own, and those that the notebooks trained and the package keeps."""

from pathlib import Path

import torch

from privgan import checks
from privgan.files import load_tensors
from privgan.generators.base import FORMAT, Generator
from privgan.plain import from_plain
from privgan.surroundings import usual

FOLDER = Path(__file__).with_name("weights")  # of those that the package keeps


@usual(grad=True)
def load(path: str | Path, *, device: str | torch.device = "cpu") -> Generator:
    """The generator that ``Generator.save`` wrote to ``path``, ready for ``sample``.

    A bare name is that of a kept generator: ``load("mnist_gaussian_1")`` makes digits with their
    labels, trained on MNIST images with Gaussian noise of std 1 on every pixel and labels through
    randomized response at epsilon 2. ``about`` says what made it.

    Raises FileNotFoundError, which lists the kept ones; ValueError for a file that is damaged, and
    for a generator of a class that is not known here, or has changed since.
    """
    path = checks.as_path("path", path)
    kept = FOLDER / f"{path}.safetensors"
    if not path.exists() and path.name == str(path) and kept.exists():
        path = kept
    if not path.exists():
        names = ", ".join(sorted(file.stem for file in FOLDER.glob("*.safetensors")))
        raise FileNotFoundError(f"there is no file {path}; the kept generators are {names}")
    said, tensors = load_tensors(path, FORMAT, "generator")
    start = "weights "
    weights = {k.removeprefix(start): v for k, v in tensors.items() if k.startswith(start)}
    try:
        model = from_plain(said["generator"], (Generator,), tensors)
        if any(weights[name].dtype == torch.float64 for name, _ in model.named_parameters()):
            model.double()
        model.load_state_dict(weights)
    except (KeyError, ValueError, RuntimeError) as error:
        raise ValueError(
            f"{path} was made by other code than what is here, whose class or its parts differ: "
            f"{error}"
        ) from error
    broken = [name for name, value in weights.items() if not value.isfinite().all()]
    if broken:
        raise ValueError(f"{path} holds weights that are not finite, in {broken[0]}")
    model.about = said["about"]
    return model.to(device).eval()
