r"""One of several mechanisms for each record, and reports that say which: several levels of noise.

Let block b of the reports hold a share s_b of them, drawn by mechanism k_b. Who reports through
which is public and has nothing to do with the record, so that a report is the pair (b, y) and the
whole is a channel itself, with density s_b k_b(y | x). Each mechanism is matched,
k_b(y | x) = h_b(y) exp(-c_b(x, y) / reg_b), and so is the channel:

    cost(x, (b, y)) = c_b(x, y) / reg_b,    reg = 1,    h(b, y) = s_b h_b(y).

Its entropic transport cost is then smallest at the raw law, whatever the shares, by the argument in
`base`. `training.blocks` has the loss that is followed.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import TypeVar

import torch
from torch import Tensor

from privgan import checks
from privgan.mechanisms.base import Mechanism, refuse_sensitivity
from privgan.mechanisms.budget import Budget
from privgan.mechanisms.columns import ByColumns
from privgan.sinkhorn import Cost

Block = TypeVar("Block")


@dataclass(frozen=True, eq=False, repr=False)
class BlocksCost(ByColumns):
    """``cost_b(x[:, columns_b], y[:, columns_b]) / reg_b`` for reports y of block b.

    The last column of y is b; that of x is not used.
    """

    def matrix(self, x: Tensor, y: Tensor) -> Tensor:
        self._check(x, y)
        found, order = [], []
        for rows, (s, cost, reg) in by_number(y, self.blocks):
            found.append(cost.matrix(x[:, s], y[rows][:, s]) / reg)
            order.append(rows)
        return torch.cat(found, 1)[:, torch.cat(order).argsort()]

    def paired(self, x: Tensor, y: Tensor) -> Tensor:
        found, order = [], []
        for rows, (s, cost, reg) in by_number(y, self.blocks):
            found.append(cost.paired(x[rows][:, s], y[rows][:, s]) / reg)
            order.append(rows)
        return torch.cat(found)[torch.cat(order).argsort()]

    def gradient(self, x: Tensor, y: Tensor, plan: Tensor) -> Tensor:
        total = torch.zeros_like(x)
        for rows, (s, cost, reg) in by_number(y, self.blocks):
            total[:, s] = cost.gradient(x[:, s], y[rows][:, s], plan[:, rows]) / reg
        return total


@dataclass(frozen=True, eq=False, repr=False)
class Blocks(Mechanism):
    """Reports of a record through any one of ``mechanisms``: ``Blocks(first, second, ...)``.

    dim: columns of a record, where no mechanism says. A report has columns for every mechanism side
    by side, of which only those of its own mean something, and its number last. `privatize` takes
    the mechanisms in turn, row by row. The budget is the largest.
    """

    mechanisms: tuple[Mechanism, ...]
    dim: int
    columns: tuple[slice, ...] = field(init=False)  # of a report: those of each mechanism

    def __init__(self, *mechanisms: Mechanism, dim: int | None = None):
        if not mechanisms:
            raise ValueError("Blocks needs at least one mechanism")
        for k, mechanism in enumerate(mechanisms):
            checks.instance(f"mechanisms[{k}]", mechanism, Mechanism)
        given = None if dim is None else checks.positive_int("dim", dim)
        dims = {d for d in (given, *(m.dim for m in mechanisms)) if d is not None}
        if len(dims) != 1:
            said = f"these say {sorted(dims)}" if dims else "pass dim, for none of these says it"
            raise ValueError(f"the records of all mechanisms need one number of columns; {said}")
        (dim,) = dims
        columns, start = [], 0
        for mechanism in mechanisms:
            width = mechanism.report_dim(dim)
            columns.append(slice(start, start + width))
            start += width
        recovery = (f"{m!r}, {m.recovery}" for m in mechanisms)
        vars(self).update(
            mechanisms=mechanisms,
            dim=dim,
            columns=tuple(columns),
            noise=f"one of {len(mechanisms)} mechanisms for each record: "
            + "; ".join(m.noise for m in mechanisms),
            recovery="as well as the best of the mechanisms allows: " + "; ".join(recovery),
        )
        cost, reg = self.heated(1.0)
        vars(self).update(cost=cost, reg=reg)

    def forward(self, x: Tensor) -> Tensor:
        """What every mechanism would add its noise to, and a column where reports have a number."""
        return torch.cat([*(m.forward(x) for m in self.mechanisms), x.new_zeros((len(x), 1))], 1)

    def heated(self, times: float) -> tuple[Cost, float]:
        pairs = zip(self.columns, self.mechanisms, strict=True)
        return BlocksCost([(s, *m.heated(times)) for s, m in pairs]), 1.0

    def report_dim(self, d: int) -> int:
        return int(self.columns[-1].stop) + 1

    def budget(self, sensitivity: float | None = None) -> Budget:
        """Of the mechanism that reveals the most, in each of its two parts."""
        refuse_sensitivity(self, sensitivity)
        budgets = [mechanism.budget() for mechanism in self.mechanisms]
        return Budget(max(b.pure for b in budgets), max(b.mu for b in budgets))

    def split(self, y: Tensor) -> Iterator[tuple[Tensor, slice, Mechanism]]:
        """Row numbers, columns and mechanism of every block that ``y`` (m, d') has reports of."""
        for rows, pair in by_number(y, zip(self.columns, self.mechanisms, strict=True)):
            yield rows, *pair

    def _location(self, reports: Tensor) -> tuple[Tensor, Tensor]:
        """For every column that of the block which finds the least spread: it sees the sharpest.

        Blocks whose reports lie elsewhere than records, features say, are asked if there are no
        others: they may not see a column at all.
        """
        found = {m: m._location(reports[rows][:, s]) for rows, s, m in self.split(reports)}
        direct = [v for m, v in found.items() if m.report_dim(self.dim) == self.dim]
        pairs = zip(*(direct or found.values()), strict=True)
        centres, spreads = (torch.stack(parts) for parts in pairs)
        spread, sharpest = spreads.min(0)
        return centres.gather(0, sharpest[None])[0], spread

    def _admit(self, x: Tensor, clip: bool) -> Tensor:
        """``clip`` reaches the mechanisms that have bounds."""
        if x.shape[1] != self.dim:
            raise ValueError(f"x has {x.shape[1]} columns and records have {self.dim}")
        admitted = x.clone()
        for b, m in enumerate(self.mechanisms):
            rows = slice(b, None, len(self.mechanisms))
            admitted[rows] = m._admit(x[rows], clip and m.bounds is not None)
        return admitted

    def _check_pair(self, x: Tensor, y: Tensor) -> None:
        super()._check_pair(x, y)
        known = torch.isin(y[:, -1], torch.arange(len(self.mechanisms)).to(y))
        if not known.all():
            row = int((~known).nonzero()[0])
            raise ValueError(f"y[{row}] does not end in the number of one of {self!r}")
        for rows, s, mechanism in self.split(y):
            mechanism._check_pair(x[:, s], y[rows][:, s])

    def _draw(self, x: Tensor, generator: torch.Generator) -> Tensor:
        reports = torch.zeros_like(x)
        for b, (s, mechanism) in enumerate(zip(self.columns, self.mechanisms, strict=True)):
            rows = slice(b, None, len(self.mechanisms))
            reports[rows, s] = mechanism._draw(x[rows, s], generator)
            reports[rows, -1] = b
        return reports

    def _log_normaliser(self, y: Tensor) -> Tensor:
        """Given which mechanism a report comes through."""
        height = y.new_empty(len(y))
        for rows, s, mechanism in self.split(y):
            height[rows] = mechanism._log_normaliser(y[rows][:, s])
        return height


def by_number(y: Tensor, blocks: Iterable[Block]) -> Iterator[tuple[Tensor, Block]]:
    """Row numbers of every block that ``y`` (m, d') has reports of, and what is said of it."""
    marks = y[:, -1].round()
    for b, block in enumerate(blocks):
        rows = (marks == b).nonzero()[:, 0]
        if len(rows):
            yield rows, block
