"""Generators of numbers and categories: a linear map, and a fully connected network."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from privgan import checks
from privgan.generators.base import Bounded, Generator, Units, output, seeded
from privgan.generators.latents import invert


class Linear(Generator):
    """``x = W z + c``: the generator of the closed forms (its law is Gaussian).

    ``matrix`` is W (out_dim, latent_dim) and ``offset`` is c (out_dim,), in the records' units.
    """

    latent_dim: int
    out_dim: int
    seed: int
    net: nn.Linear
    units: Units

    def __init__(self, latent_dim: int, out_dim: int, *, seed: int = 0):
        super().__init__()
        self.latent_dim = checks.positive_int("latent_dim", latent_dim)
        self.out_dim = checks.positive_int("out_dim", out_dim)
        self.seed = seed
        with seeded(seed):
            self.net = nn.Linear(latent_dim, out_dim)
        self.units = Units(out_dim)

    @property
    def matrix(self) -> Tensor:
        return self.units.spread[:, None] * self.net.weight

    @property
    def offset(self) -> Tensor:
        return self.units(self.net.bias)

    def forward(self, z: Tensor) -> Tensor:
        return self.units(self.net(z))

    def settle(self, centre: Tensor, spread: Tensor) -> None:
        self.units.settle(centre, spread)


class MLP(Generator):
    """A fully connected generator with ReLU layers.

    hidden: widths of the hidden layers. norm: batch normalisation before each ReLU, which
    deep, wide outputs such as images need. bounds: (low, high) squashes every output into
    that public range with a sigmoid; None leaves outputs unbounded. categories: slices of
    columns that are one category each: `forward` gives probabilities there, by a softmax, and
    `sample` one-hot rows. basis: (k, out_dim); the last layer then gives k coefficients of these
    public rows, smooth ones say, instead of every output by itself.
    """

    latent_dim: int
    out_dim: int
    bounds: tuple[float, float] | None
    categories: tuple[slice, ...]
    norm: bool
    seed: int
    hidden: tuple[int, ...]
    net: nn.Sequential
    basis: Tensor | None
    output: Units | Bounded

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
        self.bounds = bounds
        self.categories = _blocks(categories, out_dim)
        self.norm, self.seed = norm, seed
        if isinstance(hidden, int):
            raise TypeError(f"hidden must be a sequence of widths, got {hidden}: use ({hidden},)")
        self.hidden = tuple(checks.positive_int("hidden", h) for h in hidden)
        layers: list[nn.Module] = []
        width = latent_dim
        with seeded(seed):
            for h in self.hidden:
                layers.append(nn.Linear(width, h))
                if norm:
                    layers.append(nn.BatchNorm1d(h))
                layers.append(nn.ReLU())
                width = h
            layers.append(nn.Linear(width, out_dim if basis is None else len(basis)))
        self.net = nn.Sequential(*layers)
        self.register_buffer("basis", None if basis is None else basis.float().clone())
        self.output = output(out_dim, bounds)
        if basis is not None and basis.shape[1] != out_dim:
            raise ValueError(f"basis has {basis.shape[1]} columns for out_dim = {out_dim}")

    def extra_repr(self) -> str:
        blocks = [f"{s.start}:{s.stop}" for s in self.categories]
        return f"bounds={self.bounds}" + (f", categories={blocks}" if blocks else "")

    def forward(self, z: Tensor) -> Tensor:
        x = self.net(z)
        if self.basis is not None:
            x = x @ self.basis
        numbers = self.output(x)
        return _replaced(numbers, [(s, x[:, s].softmax(1).to(numbers)) for s in self.categories])

    def settle(self, centre: Tensor, spread: Tensor) -> None:
        self.output.settle(centre, spread)

    def draw(self, x: Tensor, generator: torch.Generator) -> Tensor:
        return _replaced(x, [(s, _one_of(x[:, s], generator)) for s in self.categories])


def _blocks(categories: Sequence[slice], out_dim: int) -> tuple[slice, ...]:
    """Slices with both ends, inside the columns and apart."""
    if isinstance(categories, slice):
        raise TypeError(f"categories must be a sequence of slices: use ({categories},)")
    found, taken = [], set[int]()
    for block in categories:
        checks.instance("categories", block, slice)
        whole = block.start is not None and block.stop is not None and block.step in (None, 1)
        ends = [checks.integer("categories", end) for end in (block.start, block.stop) if whole]
        if not whole or not 0 <= ends[0] < ends[1] - 1 < out_dim:
            raise ValueError(
                f"categories holds {block}; expected slice(start, stop) of at least two of the "
                f"{out_dim} columns"
            )
        columns = range(*ends)
        if taken & set(columns):
            raise ValueError(f"categories holds {block}, which overlaps another block")
        taken |= set(columns)
        found.append(slice(*ends))
    return tuple(found)


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
