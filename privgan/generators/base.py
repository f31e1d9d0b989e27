"""What every generator is: an ``nn.Module`` that pushes latents forward to records.

A record may hold categories as one-hot columns. A generator in training gives probabilities
there, in which every channel on categories is linear; `Generator.sample` draws the category.
"""

from collections.abc import Iterator
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

    def latent(self, n: int, generator: torch.Generator, *, even: bool = False) -> Tensor:
        """Standard normal latents (n, latent_dim), drawn with a CPU ``generator``.

        even: each is normal but together they are a scrambled Sobol set, which a mean over the
        batch misses the law's by far less than it would by with independent ones. Owen 1997.
        """
        like = next(self.parameters())
        if even:
            seed = int(torch.randint(2**31, (1,), generator=generator))
            sobol = torch.quasirandom.SobolEngine(self.latent_dim, scramble=True, seed=seed)
            u = sobol.draw(n, dtype=torch.float64) + 2.0**-31  # half a step, off zero
            return torch.special.ndtri(u).to(like)
        z = torch.randn((n, self.latent_dim), dtype=like.dtype, generator=generator)
        return z.to(like.device)

    def batch(
        self, n: int, generator: torch.Generator, *, even: bool = False
    ) -> tuple[Tensor, Tensor | None]:
        """Points of the law to train on, and their weights, (n,); None where these are uniform."""
        return self(self.latent(n, generator, even=even)), None

    def _draw(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """Records, given what `forward` made of latents; the same here."""
        return x

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
            return torch.cat([self._draw(self(part), generator) for part in z.split(SLICE)])
        finally:
            self.train(was_training)


def limits(bounds: tuple[float, float] | None) -> tuple[float, float] | None:
    if bounds is not None and not bounds[0] < bounds[1]:
        raise ValueError(f"bounds must be (low, high) with low < high, got {bounds}")
    return bounds


def within(bounds: tuple[float, float], x: Tensor) -> Tensor:
    """Any numbers to numbers between the bounds."""
    low, high = bounds
    return low + (high - low) * torch.sigmoid(x)


def invert(p: Tensor, u: Tensor) -> Tensor:
    """The first index at which the running sum of probabilities exceeds ``u``."""
    total = p.cumsum(-1)
    index = torch.searchsorted(total, u * total[..., -1:], right=True)
    return index.clamp_max(p.shape[-1] - 1)


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Initialise layers from ``seed`` and put the global CPU generator back afterwards."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(checks.integer("seed", seed))
        yield
