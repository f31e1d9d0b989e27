"""Generators: ``nn.Module``s that push latents forward to records, and learned weights on atoms.

A record may hold categories as one-hot columns. A generator in training gives probabilities
there, in which every channel on categories is linear; `Generator.sample` draws the category.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
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


class Linear(Generator):
    """``x = W z + c``: the generator of the closed forms (its law is Gaussian)."""

    def __init__(self, latent_dim: int, out_dim: int, *, seed: int = 0):
        super().__init__()
        self.latent_dim = checks.positive_int("latent_dim", latent_dim)
        self.out_dim = checks.positive_int("out_dim", out_dim)
        with seeded(seed):
            self.net = nn.Linear(latent_dim, out_dim)

    def forward(self, z: Tensor) -> Tensor:
        return self.net(z)


class MLP(Generator):
    """A fully connected generator with ReLU layers.

    hidden: widths of the hidden layers. norm: batch normalisation before each ReLU, which
    deep, wide outputs such as images need. bounds: (low, high) squashes every output into
    that public range with a sigmoid; None leaves outputs unbounded. categories: slices of
    columns that are one category each: `forward` gives probabilities there, by a softmax, and
    `sample` one-hot rows. basis: (k, out_dim); the last layer then gives k coefficients of these
    public rows, smooth ones say, instead of every output by itself.
    """

    def __init__(
        self,
        latent_dim: int,
        out_dim: int,
        *,
        hidden: Sequence[int] = (256, 256, 256),
        norm: bool = False,
        bounds: tuple[float, float] | None = None,
        categories: Sequence[slice] = (),
        basis: Tensor | None = None,
        seed: int = 0,
    ):
        super().__init__()
        self.latent_dim = checks.positive_int("latent_dim", latent_dim)
        self.out_dim = checks.positive_int("out_dim", out_dim)
        self.bounds = limits(bounds)
        self.categories = _blocks(categories, out_dim)
        if isinstance(hidden, int):
            raise TypeError(f"hidden must be a sequence of widths, got {hidden}: use ({hidden},)")
        layers: list[nn.Module] = []
        width = latent_dim
        with seeded(seed):
            for h in hidden:
                layers.append(nn.Linear(width, checks.positive_int("hidden", h)))
                if norm:
                    layers.append(nn.BatchNorm1d(h))
                layers.append(nn.ReLU())
                width = h
            layers.append(nn.Linear(width, out_dim if basis is None else len(basis)))
        self.net = nn.Sequential(*layers)
        self.register_buffer("basis", None if basis is None else basis.float().clone())
        if basis is not None and basis.shape[1] != out_dim:
            raise ValueError(f"basis has {basis.shape[1]} columns for out_dim = {out_dim}")

    def extra_repr(self) -> str:
        blocks = [f"{s.start}:{s.stop}" for s in self.categories]
        return f"bounds={self.bounds}" + (f", categories={blocks}" if blocks else "")

    def forward(self, z: Tensor) -> Tensor:
        x = self.net(z)
        if self.basis is not None:
            x = x @ self.basis
        numbers = x if self.bounds is None else within(self.bounds, x)
        return _replaced(numbers, [(s, x[:, s].softmax(1)) for s in self.categories])

    def _draw(self, x: Tensor, generator: torch.Generator) -> Tensor:
        return _replaced(x, [(s, _one_of(x[:, s], generator)) for s in self.categories])


class Atoms(Generator):
    """Fixed points with learned weights: the laws on a known finite set.

    points: (k, d), say an alphabet's one-hot rows ``torch.eye(k)`` or a grid; they are public.
    Training solves between all the atoms and a batch of reports, and follows the transport
    value's gradient in the weights: it works where a channel's cost has none in the points.
    """

    latent_dim = 1

    def __init__(self, points: Tensor | np.ndarray):
        super().__init__()
        self.register_buffer("points", checks.as_records("points", points).detach().clone())
        self.out_dim = self.points.shape[1]
        self.logits = nn.Parameter(self.points.new_zeros(len(self.points)))

    @property
    def weights(self) -> Tensor:
        """The probability of every atom, (k,)."""
        return self.logits.softmax(0)

    def batch(
        self, n: int, generator: torch.Generator, *, even: bool = False
    ) -> tuple[Tensor, Tensor | None]:
        """All the atoms with their weights, whatever ``n``."""
        return self.points, self.weights

    def latent(self, n: int, generator: torch.Generator, *, even: bool = False) -> Tensor:
        """Uniform on [0, 1), (n, 1)."""
        z = torch.rand((n, 1), dtype=torch.float64, generator=generator)
        return z.to(self.points.device)

    def forward(self, z: Tensor) -> Tensor:
        """The atom whose share of [0, 1) a latent falls in."""
        return self.points[invert(self.weights.double(), z[:, 0])]


def limits(bounds: tuple[float, float] | None) -> tuple[float, float] | None:
    if bounds is not None and not bounds[0] < bounds[1]:
        raise ValueError(f"bounds must be (low, high) with low < high, got {bounds}")
    return bounds


def within(bounds: tuple[float, float], x: Tensor) -> Tensor:
    """Any numbers to numbers between the bounds."""
    low, high = bounds
    return low + (high - low) * torch.sigmoid(x)


def _blocks(categories: Sequence[slice], out_dim: int) -> tuple[slice, ...]:
    """Slices with both ends, inside the columns and apart."""
    if isinstance(categories, slice):
        raise TypeError(f"categories must be a sequence of slices: use ({categories},)")
    taken: set[int] = set()
    for block in categories:
        checks.instance("categories", block, slice)
        ends = block.start, block.stop
        whole = all(isinstance(end, int) for end in ends) and block.step in (None, 1)
        if not whole or not 0 <= ends[0] < ends[1] - 1 < out_dim:
            raise ValueError(
                f"categories holds {block}; expected slice(start, stop) of at least two of the "
                f"{out_dim} columns"
            )
        columns = range(*ends)
        if taken & set(columns):
            raise ValueError(f"categories holds {block}, which overlaps another block")
        taken |= set(columns)
    return tuple(categories)


def _replaced(x: Tensor, blocks: list[tuple[slice, Tensor]]) -> Tensor:
    """``x`` with other values in some blocks of columns, out of place."""
    parts, start = [], 0
    for columns, values in sorted(blocks, key=lambda block: block[0].start):
        parts += [x[:, start : columns.start], values]
        start = columns.stop
    return torch.cat([*parts, x[:, start:]], 1) if blocks else x


def _one_of(p: Tensor, generator: torch.Generator) -> Tensor:
    """One-hot rows drawn from rows of probabilities."""
    u = torch.rand((len(p), 1), dtype=torch.float64, generator=generator).to(p.device)
    category = invert(p.double(), u).squeeze(1)
    return nn.functional.one_hot(category, p.shape[1]).to(p.dtype)


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
