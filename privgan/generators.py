"""Generators: ``nn.Module``s that push Gaussian latents forward to records."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from privgan import checks

# Samples are drawn in slices of this many rows, so that a large request stays in cache.
SLICE = 8192


class Generator(nn.Module):
    """Base: ``latent_dim`` inputs, ``out_dim`` outputs, and sampling.

    ``seed`` fixes the initial weights without touching torch's global generator.
    """

    latent_dim: int
    out_dim: int

    def latent(self, n: int, generator: torch.Generator) -> Tensor:
        """Standard normal latents (n, latent_dim), drawn with a CPU ``generator``."""
        like = next(self.parameters())
        z = torch.randn((n, self.latent_dim), dtype=like.dtype, generator=generator)
        return z.to(like.device)

    @torch.no_grad()
    def sample(self, n: int, *, seed: int | None = None) -> Tensor:
        """``n`` generated records (n, out_dim), on the device of the weights.

        The layers run in evaluation mode; the mode is restored afterwards. ``seed=None``
        takes fresh entropy.
        """
        checks.positive_int("n", n)
        generator = torch.Generator()
        generator.seed() if seed is None else generator.manual_seed(checks.integer("seed", seed))
        was_training = self.training
        self.eval()
        try:
            z = self.latent(n, generator)
            return torch.cat([self(part) for part in z.split(SLICE)])
        finally:
            self.train(was_training)


class Linear(Generator):
    """``x = W z + c``: the generator of the closed forms (its law is Gaussian)."""

    def __init__(self, latent_dim: int, out_dim: int, *, seed: int = 0):
        super().__init__()
        self.latent_dim = checks.positive_int("latent_dim", latent_dim)
        self.out_dim = checks.positive_int("out_dim", out_dim)
        with _seeded(seed):
            self.net = nn.Linear(latent_dim, out_dim)

    def forward(self, z: Tensor) -> Tensor:
        return self.net(z)


class MLP(Generator):
    """A fully connected generator with ReLU layers.

    hidden: widths of the hidden layers. norm: batch normalisation before each ReLU, which
    deep, wide outputs such as images need. bounds: (low, high) squashes every output into
    that public range with a sigmoid; None leaves outputs unbounded.
    """

    def __init__(
        self,
        latent_dim: int,
        out_dim: int,
        *,
        hidden: Sequence[int] = (256, 256, 256),
        norm: bool = False,
        bounds: tuple[float, float] | None = None,
        seed: int = 0,
    ):
        super().__init__()
        self.latent_dim = checks.positive_int("latent_dim", latent_dim)
        self.out_dim = checks.positive_int("out_dim", out_dim)
        if bounds is not None and not bounds[0] < bounds[1]:
            raise ValueError(f"bounds must be (low, high) with low < high, got {bounds}")
        self.bounds = bounds
        if isinstance(hidden, int):
            raise TypeError(f"hidden must be a sequence of widths, got {hidden}: use ({hidden},)")
        layers: list[nn.Module] = []
        width = latent_dim
        with _seeded(seed):
            for h in hidden:
                layers.append(nn.Linear(width, checks.positive_int("hidden", h)))
                if norm:
                    layers.append(nn.BatchNorm1d(h))
                layers.append(nn.ReLU())
                width = h
            layers.append(nn.Linear(width, out_dim))
        self.net = nn.Sequential(*layers)

    def extra_repr(self) -> str:
        return f"bounds={self.bounds}"

    def forward(self, z: Tensor) -> Tensor:
        x = self.net(z)
        if self.bounds is None:
            return x
        low, high = self.bounds
        return low + (high - low) * torch.sigmoid(x)


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Initialise layers from ``seed`` and put the global CPU generator back afterwards."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(checks.integer("seed", seed))
        yield
