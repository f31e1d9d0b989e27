"""Generators in files: one's own, and those that the notebooks trained and the package keeps."""

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from privgan import checks
from privgan.files import load_tensors, reading
from privgan.generators.base import FORMAT, Generator, as_device
from privgan.plain import Plain, from_plain
from privgan.surroundings import usual

# Tensors that a constructor makes: as many and as large as those in the file, several times over,
# and some more of its own. A small one counts as this many numbers.
TIMES, SPARE, LEAST = 8, 2**24, 2**14
LAW = "law."  # the latents' law: no constructor makes it, and it checks its own shapes
FOLDER = Path(__file__).with_name("weights")  # of those that the package keeps


@usual(grad=True)
def load(path: str | Path, *, device: str | torch.device = "cpu") -> Generator:
    """The generator that ``Generator.save`` wrote to ``path``, ready for ``sample``.

    A bare name is that of a kept generator: ``load("mnist_gaussian_1")`` makes digits with their
    labels, trained on MNIST images with Gaussian noise of std 1 on every pixel and labels through
    randomized response at epsilon 2. ``about`` says what made it.

    Raises FileNotFoundError, which lists the kept ones; ValueError for a file that is damaged, and
    for a generator of a class that is not known here, or has changed since.

    >>> pg.load("mnist_gaussian_1").sample(3, seed=0).shape  # pixels, then the label's ten columns
    torch.Size([3, 794])
    """
    path, where = checks.as_path("path", path), as_device("device", device)
    kept = FOLDER / f"{path}.safetensors"
    if not path.exists() and path.name == str(path) and kept.exists():
        path = kept
    if not path.exists():
        names = ", ".join(sorted(file.stem for file in FOLDER.glob("*.safetensors")))
        raise FileNotFoundError(f"there is no file {path}; the kept generators are {names}")
    said, tensors = load_tensors(path, FORMAT, "generator")
    with reading(path, f"generator {path} cannot be read"):
        start = "weights "
        weights = {k.removeprefix(start): v for k, v in tensors.items() if k.startswith(start)}
        broken = [name for name, value in weights.items() if not value.isfinite().all()]
        if broken:
            raise ValueError(f"it holds weights that are not finite, in {broken[0]}")
        try:
            model = _built(said["generator"], weights, tensors)
        except Exception as error:
            raise ValueError(
                f"it was made by other code than what is here, whose class or its parts differ: "
                f"{error}"
            ) from error
        model.about = said["about"]
    return model.to(where).eval()


def _built(said: Plain, weights: dict[str, Tensor], tensors: dict[str, Tensor]) -> Generator:
    """The generator that ``said`` describes, with ``weights`` in it."""
    held = sum(max(LEAST, tensor.numel()) for tensor in tensors.values())
    with _Sparing(SPARE + TIMES * held):
        model: Generator = from_plain(said, (Generator,), tensors)
    checks.instance("what it describes", model, Generator)
    check_weights(model.state_dict(), {k: v for k, v in weights.items() if not k.startswith(LAW)})
    if any(weights[name].dtype == torch.float64 for name, _ in model.named_parameters()):
        model.double()
    model.load_state_dict(weights)
    return model


class _Sparing(TorchFunctionMode):
    """Within it, torch makes tensors of only so many numbers: a file may ask for any."""

    def __init__(self, left: int):
        super().__init__()
        self.left = left

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        with contextlib.suppress(Exception):  # of what makes no tensor, and takes no device
            made = func(*args, **kwargs | {"device": "meta"})  # without memory
            self.left -= max(LEAST, made.numel())
        if self.left < 0:
            raise ValueError("it asks for more weights than the file holds")
        return func(*args, **kwargs)


def check_weights(own: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> None:
    """Raise ValueError unless the tensors ``found`` in a file can take the place of ``own``."""
    if own.keys() != found.keys():
        raise ValueError(f"{min(own.keys() ^ found.keys())} is in only one of the two")
    for name, there in found.items():
        here = own[name]
        alike = here.is_floating_point() == there.is_floating_point()
        if here.shape != there.shape or not alike:
            raise ValueError(
                f"{name} has shape {tuple(there.shape)} of {there.dtype}, and here "
                f"{tuple(here.shape)} of {here.dtype}"
            )
