"""Generators of numbers and categories: a linear map, and a fully connected network."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from privgan import checks
from privgan.generators.base import Bounded, Generator, Units, limits, output, seeded
from privgan.generators.latents import invert
from privgan.streams import sent


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
        self.seed = checks.integer("seed", seed)
        with seeded(self.seed):
            self.net = nn.Linear(self.latent_dim, self.out_dim)
            self.units = Units(self.out_dim)

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

    @torch.no_grad()
    def hold(self, offset: Tensor, matrix: Tensor) -> bool:
        bias, weight = self.units.undone(offset, matrix)
        self.net.bias.copy_(bias)
        self.net.weight.copy_(weight)
        return True


class MLP(Generator):
    """A fully connected generator with ReLU layers.

    hidden: widths of the hidden layers. norm: batch normalisation before each ReLU, which
    deep, wide outputs such as images need. bounds: (low, high) squashes every output into
    that public range with a sigmoid; None leaves outputs unbounded. categories: slices of
    columns that are one category each: `forward` gives probabilities there, by a softmax, and
    `sample` one-hot rows. basis: (k, out_dim); the last layer then gives k coefficients of these
    public rows, smooth ones say, instead of every output by itself.

    >>> pg.MLP(latent_dim=2, out_dim=3).sample(100, seed=0).shape
    torch.Size([100, 3])
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
        self.seed, self.bounds = checks.integer("seed", seed), limits(bounds)
        self.categories = _blocks(categories, self.out_dim)
        self.norm = checks.flag("norm", norm)
        self.hidden = checks.positive_ints("hidden", hidden)
        rows = None if basis is None else checks.as_records("basis", basis).detach().float().cpu()
        if rows is not None and rows.shape[1] != self.out_dim:
            raise ValueError(f"basis has {rows.shape[1]} columns for out_dim = {self.out_dim}")
        layers: list[nn.Module] = []
        width = self.latent_dim
        with seeded(self.seed):
            for h in self.hidden:
                layers.append(nn.Linear(width, h))
                if self.norm:
                    layers.append(nn.BatchNorm1d(h))
                layers.append(nn.ReLU())
                width = h
            layers.append(nn.Linear(width, self.out_dim if rows is None else len(rows)))
            self.net = nn.Sequential(*layers)
            self.register_buffer("basis", None if rows is None else rows.clone())
            self.output = output(self.out_dim, self.bounds)

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

    @torch.no_grad()
    def hold(self, offset: Tensor, matrix: Tensor) -> bool:
        r"""Two units a latent carry it through every layer, and the last one maps it.

        With S = (I; -I), relu(S z) holds both halves of z, and S' relu(S z) = z. So the first layer
        is S, those within are S S' and the last is ``matrix`` S', there; other units keep their
        weights, and the last layer has none for them yet. Batch normalisation leaves standard
        normal latents as they are; a basis makes the nearest that it spans. False where a layer has
        too few units, or outputs have bounds.
        """
        carried = 2 * self.latent_dim
        if isinstance(self.output, Bounded) or carried > min(self.hidden, default=carried):
            return False
        bias, weight = self.output.undone(offset, matrix)
        if self.basis is not None:
            back = torch.linalg.pinv(self.basis.to(weight))
            bias, weight = back.T @ bias, back.T @ weight
        layers = [part for part in self.net if isinstance(part, nn.Linear)]
        z = torch.eye(self.latent_dim).to(weight)
        signs, seen = torch.cat([z, -z]), z
        for layer in layers[:-1]:
            layer.bias[:carried] = 0.0
            layer.weight[:carried] = 0.0
            layer.weight[:carried, : seen.shape[1]] = signs @ seen
            seen = signs.T
        layers[-1].bias.copy_(bias)
        layers[-1].weight.zero_()
        layers[-1].weight[:, : seen.shape[1]] = weight @ seen
        for part in self.net:
            if isinstance(part, nn.BatchNorm1d):
                part.reset_parameters()
        return True

    def draw(self, x: Tensor, generator: torch.Generator) -> Tensor:
        return _replaced(x, [(s, _one_of(x[:, s], generator)) for s in self.categories])


def _blocks(categories: Sequence[slice], out_dim: int) -> tuple[slice, ...]:
    """Slices with both ends, inside the columns and apart."""
    if isinstance(categories, slice):
        raise TypeError(f"categories must be a sequence of slices: use ({categories},)")
    found, taken = [], set[int]()
    for k, block in enumerate(checks.sequence("categories", categories, "slices")):
        name = f"categories[{k}]"
        checks.instance(name, block, slice)
        whole = block.start is not None and block.stop is not None and block.step in (None, 1)
        ends = [checks.integer(name, end) for end in (block.start, block.stop) if whole]
        if not whole or not 0 <= ends[0] < ends[1] - 1 < out_dim:
            raise ValueError(
                f"{name} is {block}; expected slice(start, stop) of at least two of the "
                f"{out_dim} columns"
            )
        columns = range(*ends)
        if taken & set(columns):
            raise ValueError(f"{name} is {block}, which overlaps another block")
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
    u = torch.rand((len(p), 1), dtype=torch.float64, generator=generator)
    category = invert(p.double(), sent(u, p.device)).squeeze(1)
    return nn.functional.one_hot(category, p.shape[1]).to(p.dtype)
