"""Generators of numbers and categories: a linear map, and a fully connected network."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from privgan import checks
from privgan.generators.base import Generator, invert, limits, seeded, within


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
