"""What every generator is: an ``nn.Module`` that pushes latents forward to records.

A record may hold categories as one-hot columns. A generator in training gives probabilities
there, in which every channel on categories is linear; `Generator.sample` draws the category.
"""

import functools
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.quasirandom import SobolEngine

from privgan import checks
from privgan.files import save_tensors
from privgan.generators.latents import NormalMixture
from privgan.plain import Plain, to_plain
from privgan.streams import ambient, sent, stream
from privgan.surroundings import usual

# Samples are drawn in slices of this many rows, so that a large request stays in cache.
SLICE = 8192
FORMAT = "privgan generator 1"
BITS = 30  # of a coordinate of torch's Sobol points


class Generator(nn.Module):
    """Base: ``latent_dim`` inputs, ``out_dim`` outputs, sampling, and a file to live in.

    A subclass sets both and writes ``forward``: latents (n, latent_dim) to records (n, out_dim). To
    be saved, it keeps its constructor's arguments as attributes of the same names; to train alike
    in all units, it ends in `Units` and hands `settle` on to them. Where a constructor has a
    ``seed``, that fixes the initial weights, without touching torch's global generator. Whatever
    torch's defaults are set to, these are float32 and on the CPU (``.double()`` and ``.to(device)``
    are yours to call), and ``forward`` finds torch as it comes, without autocast.
    """

    latent_dim: int
    out_dim: int
    classes: int = 0  # how many of the last latents are the one-hot row of a class
    side: int | None = None  # of the square images in the first columns, where there are any
    law: NormalMixture | None  # of the latents, where a training found a better one than normal
    about: Mapping[str, Any]  # what made it, where a file said so

    def __init__(self) -> None:
        super().__init__()
        self.law = None

    def latent(self, n: int, generator: torch.Generator, *, even: bool = False) -> Tensor:
        """Latents (n, latent_dim), from their `law`, drawn with a CPU ``generator``."""
        z = self.normals(n, generator, even=even)
        if self.law is None:
            return z
        return self.law.draw(z, generator, torch.zeros(n, dtype=torch.long))

    def normals(self, n: int, generator: torch.Generator, *, even: bool = False) -> Tensor:
        """Standard normal numbers (n, latent_dim), drawn with a CPU ``generator``.

        even: each is normal, but together they are a Sobol set with its binary digits flipped at
        random, which a mean over the batch misses the law's by far less than it would by with
        independent ones (Owen, "Monte Carlo extension of quasi-Monte Carlo", 1998). Beyond the
        21 201 dimensions that such sets exist in, latents are independent.
        """
        like = next(self.parameters(), torch.empty(0))  # one without parameters is float32
        if even and self.latent_dim <= SobolEngine.MAXDIM:
            digits = _sobol(n, self.latent_dim, like.device)
            shift = torch.randint(2**BITS, (self.latent_dim,), generator=generator)
            u = (digits ^ sent(shift, like.device)).double().add_(0.5).mul_(2.0**-BITS)
            return torch.special.ndtri(u).to(like.dtype)
        z = torch.randn((n, self.latent_dim), dtype=like.dtype, generator=generator)
        return sent(z, like.device)

    def batch(
        self, n: int, generator: torch.Generator, *, even: bool = False
    ) -> tuple[Tensor, Tensor | None]:
        """Points of the law to train on, and their weights, (n,); None where these are uniform."""
        return self(self.latent(n, generator, even=even)), None

    def settle(self, centre: Tensor, spread: Tensor) -> None:
        """Start from records that lie about ``centre`` (out_dim,) with this ``spread`` (out_dim,).

        `fit` calls it once, with what the reports say. Nothing happens here, nor to a generator
        that has already been trained: see `Units`.
        """

    def hold(self, offset: Tensor, matrix: Tensor) -> bool:
        """Become ``offset + matrix @ z`` (out_dim,), (out_dim, latent_dim), and say whether it did.

        In the units of records; in a category's columns, of logarithms of probabilities. What
        weights there were is lost. Nothing happens here, nor where layers cannot hold a linear map
        exactly: `fit` then brings them near it.
        """
        return False

    def log_prior(self) -> Tensor:
        """Log-probabilities of the classes, (classes,)."""
        return torch.zeros(self.classes)

    def draw(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """Records, given what ``forward`` made of latents: here the same, elsewhere categories."""
        return x

    @usual(grad=False)
    def sample(
        self, n: int, *, seed: int | None = None, device: str | torch.device = "cpu"
    ) -> Tensor:
        """``n`` generated records (n, out_dim), on the CPU unless ``device`` says otherwise.

        The layers run in evaluation mode; the mode is restored afterwards. ``seed=None``
        takes fresh entropy.
        """
        where = as_device("device", device)
        for name in ("latent_dim", "out_dim"):
            checks.positive_int(f"{type(self).__name__}.{name}", getattr(self, name, None))
        n = checks.rows("n", n, self.latent_dim + self.out_dim)
        return self.draw_records(n, stream(seed, "sample")).to(where)

    @usual(grad=False)
    def draw_records(self, n: int, generator: torch.Generator) -> Tensor:
        """As `sample`, with a CPU ``generator`` of one's own, on the device of the weights."""
        z = self.latent(n, generator)
        with in_mode(self, training=False):
            return torch.cat([self.draw(self(part), generator) for part in z.split(SLICE)])

    @usual()
    def save(
        self, path: str | Path, *, about: Mapping[str, Any] | None = None, half: bool = False
    ) -> None:
        """Write the weights and how to build the generator to ``path``, for `load`; no pickle.

        about: what made it, in plain types; it comes back as ``about``. half: parameters in half
        precision, in half the space. Raises TypeError for a generator that does not keep its
        constructor's arguments, OSError naming ``path``.
        """
        place = checks.as_path("path", path)
        weights = {f"weights {name}": value for name, value in self.state_dict().items()}
        if half:
            weights |= {f"weights {name}": p.half() for name, p in self.named_parameters()}
        arguments: dict[str, Tensor] = {}
        try:
            plain = to_plain(self, arguments, (Generator,))
        except TypeError as error:
            alone = "torch.save(generator.state_dict(), path)"
            raise TypeError(f"{error}; or keep its weights alone: {alone}") from None
        if about is not None:
            checks.instance("about", about, Mapping)
        said = {"generator": plain, "about": dict(about or {})}
        save_tensors(place, FORMAT, said, weights | arguments, "generator")

    def _load_from_state_dict(self, state: dict[str, Any], prefix: str, *rest: Any) -> None:
        parts = [f"{prefix}law.{name}" for name in ("weights", "means", "factors")]
        known = all(part in state for part in parts)
        self.law = NormalMixture(*(state[part] for part in parts)) if known else None
        super()._load_from_state_dict(state, prefix, *rest)


def as_device(name: str, value: Any) -> torch.device:
    """``value`` as a device that this machine has, and that holds numbers."""
    try:
        found = torch.device(value)
        torch.empty(1, device=found).item()
    except (TypeError, RuntimeError, AssertionError):
        raise ValueError(
            f"{name} {checks.shown(value)} cannot be used here; name one that this machine has: "
            "cpu, or cuda where there is a GPU"
        ) from None
    return found


class Units(nn.Module):
    """``centre + spread * x``: from the standard units that a network works in to the records'.

    Both (dim,) are 0 and 1 until `settle` finds them so, and then stay, in the precision given.
    """

    centre: Tensor
    spread: Tensor

    def __init__(self, dim: int):
        super().__init__()
        self.register_buffer("centre", torch.zeros(dim))
        self.register_buffer("spread", torch.ones(dim))

    def forward(self, x: Tensor) -> Tensor:
        return self.centre + self.spread * x

    def settle(self, centre: Tensor, spread: Tensor) -> None:
        for name, given in (("centre", centre), ("spread", spread)):
            if given.shape != self.centre.shape:
                raise ValueError(
                    f"{name} has shape {tuple(given.shape)}; records of this generator need "
                    f"{tuple(self.centre.shape)}"
                )
        if not self.centre.any() and (self.spread == 1).all():
            self.centre = centre.to(self.centre.device, copy=True)
            self.spread = spread.to(self.spread.device, copy=True)

    def undone(self, offset: Tensor, matrix: Tensor) -> tuple[Tensor, Tensor]:
        """The linear map that comes out as ``offset + matrix @ z``."""
        offset, matrix = offset.to(self.centre), matrix.to(self.centre)
        return (offset - self.centre) / self.spread, matrix / self.spread[:, None]

    def _load_from_state_dict(self, state: dict[str, Any], prefix: str, *rest: Any) -> None:
        for name in ("centre", "spread"):  # in the precision they come in: torch would round them
            own, other = getattr(self, name), state.get(prefix + name)
            if other is not None and other.shape == own.shape:
                setattr(self, name, other.to(own.device, copy=True))
        super()._load_from_state_dict(state, prefix, *rest)


class Bounded(nn.Module):
    """Any numbers to numbers between ``low`` and ``high``, which are public, by a sigmoid."""

    low: float
    high: float

    def __init__(self, low: float, high: float):
        super().__init__()
        self.low, self.high = low, high

    def forward(self, x: Tensor) -> Tensor:
        return self.low + (self.high - self.low) * torch.sigmoid(x)

    def settle(self, centre: Tensor, spread: Tensor) -> None:
        """Nothing: the bounds say what is to be known of the units."""


def limits(bounds: Any) -> tuple[float, float] | None:
    """Public bounds of outputs as two floats, the lower first; None where there are none."""
    if bounds is None:
        return None
    try:
        low, high = bounds
    except (TypeError, ValueError):
        raise TypeError(f"bounds must be (low, high), got {checks.shown(bounds)}") from None
    low, high = checks.number("bounds[0]", low), checks.number("bounds[1]", high)
    if not -math.inf < low < high < math.inf:
        raise ValueError(f"bounds must be (low, high) with low < high, got {(low, high)}")
    return low, high


def output(dim: int, bounds: tuple[float, float] | None) -> Units | Bounded:
    """The last step of a network with ``dim`` outputs."""
    return Units(dim) if bounds is None else Bounded(*bounds)


def structure(module: nn.Module) -> Plain:
    """What a module is beside its parameters and buffers: its parts' classes and their settings.

    A setting that cannot be written down, an activation say, goes by its name.
    """
    found: dict[str, Plain] = {}
    for name, part in module.named_modules():
        settings: dict[str, Plain] = {"class": type(part).__qualname__}
        for key, value in vars(part).items():
            if not key.startswith("_") and key not in ("training", "about"):
                settings[key] = _setting(value)
        found[name] = settings
    return found


def _setting(value: Any) -> Plain:
    try:
        return to_plain(value)
    except (TypeError, ValueError):
        named = value if hasattr(value, "__qualname__") else type(value)
        return f"{named.__module__}.{named.__qualname__}"


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Initialise layers from ``seed`` and put the global CPU generator back afterwards."""
    with usual(grad=True), ambient(seed, "initialisation"):
        try:
            yield
        except RuntimeError as error:
            if not any(word in str(error) for word in ("memory", "Storage size")):
                raise
            raise ValueError(
                "the layers do not fit into memory; lower latent_dim, out_dim or what sets widths"
            ) from error


@contextmanager
def in_mode(module: nn.Module, *, training: bool) -> Iterator[None]:
    """Layers in training or evaluation mode, and each as it was afterwards."""
    before = [(part, part.training) for part in module.modules()]
    module.train(training)
    try:
        yield
    finally:
        for part, was in before:
            part.training = was


@functools.lru_cache(maxsize=8)
def _sobol(n: int, dim: int, device: torch.device) -> Tensor:
    """One scrambled Sobol set, (n, dim), as integers below 2^BITS; always the same."""
    points = SobolEngine(dim, scramble=True, seed=0).draw(n, dtype=torch.float64)
    return points.mul_(2**BITS).long().to(device)
