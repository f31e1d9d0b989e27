"""Independent mechanisms on the columns of one record: numbers and categories in one table."""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Self

import torch
from torch import Tensor

from privgan import checks
from privgan.mechanisms.base import Mechanism, in_words, refuse_sensitivity
from privgan.mechanisms.budget import Budget
from privgan.mechanisms.columns import ByColumns
from privgan.sinkhorn import Cost


@dataclass(frozen=True, eq=False, repr=False)
class BlockCost(ByColumns):
    """Sum over blocks (columns, cost, reg) of cost(x[:, columns], y[:, columns]) / reg."""

    def matrix(self, x: Tensor, y: Tensor) -> Tensor:
        self._check(x, y)
        parts = (cost.matrix(x[:, s], y[:, s]) / reg for s, cost, reg in self.blocks)
        return sum(parts, x.new_zeros(()))

    def paired(self, x: Tensor, y: Tensor) -> Tensor:
        parts = (cost.paired(x[:, s], y[:, s]) / reg for s, cost, reg in self.blocks)
        return sum(parts, x.new_zeros(()))

    def reduced_in(self, x: Tensor, y: Tensor, storage: Tensor) -> tuple[Tensor, Tensor | float]:
        """The blocks' own reduced costs: a wide block's may be much smaller than its cost."""
        total = storage.zero_()
        offset: Tensor | float = 0.0
        for s, cost, reg in self.blocks:
            part, own = cost.reduced_in(x[:, s], y[:, s], storage.new_empty(storage.shape))
            total.add_(part, alpha=1 / reg)
            offset = offset + own / reg
        return total, offset

    def gradient(self, x: Tensor, y: Tensor, plan: Tensor) -> Tensor:
        parts = [cost.gradient(x[:, s], y[:, s], plan) / reg for s, cost, reg in self.blocks]
        return torch.cat(parts, 1)

    @property
    def T(self) -> Cost:
        return BlockCost([(s, cost.T, reg) for s, cost, reg in self.blocks])


@dataclass(frozen=True, eq=False, repr=False)
class Product(Mechanism):
    """Reports blocks of columns independently: ``Product((slice(0, 2), mechanism), ...)``.

    The blocks must cover every column of a record once: nothing goes out as it is. Reports hold
    the blocks side by side in the order of their columns. Budgets add, and the matched costs
    add, each in units of its own reg.

    >>> place = pg.Laplace(1.0, bounds=pg.Box(0, 1, dim=2))  # 2 nats
    >>> answer = pg.RandomizedResponse.calibrate(epsilon=1.0, k=3)
    >>> pg.Product((slice(0, 2), place), (slice(2, 5), answer)).epsilon()
    3.0
    """

    blocks: tuple[tuple[slice, Mechanism], ...]
    reports: tuple[slice, ...] = field(init=False)  # the columns of each block's reports

    def __init__(self, *blocks: tuple[slice, Mechanism]):
        ordered = partition(blocks, "Product")
        recovery = (f"columns {s.start}:{s.stop}, {m.recovery}" for s, m in ordered)
        vars(self).update(
            blocks=ordered,
            reports=side_by_side(ordered),
            dim=ordered[-1][0].stop,
            noise=f"independent on {len(ordered)} blocks of columns",
            recovery="the joint law can be recovered, each block as far as its own mechanism "
            "allows: " + "; ".join(recovery),
        )
        cost, reg = self.heated(1.0)
        vars(self).update(cost=cost, reg=reg)

    @classmethod
    def calibrate(
        cls,
        *blocks: tuple[slice, Callable[..., Mechanism]],
        epsilon: float,
        shares: Sequence[float] | None = None,
    ) -> Self:
        """Split a whole-record ``epsilon`` over the blocks, evenly or in proportion to ``shares``.

        blocks: (columns, calibrate), where ``calibrate(epsilon=...)`` makes the block's mechanism:
        ``(slice(0, 2), functools.partial(pg.Laplace.calibrate, bounds=box))``.
        """
        epsilon = checks.positive("epsilon", epsilon)
        if not blocks:
            raise ValueError("a Product needs at least one block: (columns, calibrate)")
        try:
            shares = [1.0] * len(blocks) if shares is None else [*shares]
        except TypeError:
            got = checks.shown(shares)
            raise TypeError(f"shares must be a number for each block, got {got}") from None
        if len(shares) != len(blocks):
            raise ValueError(f"shares has {len(shares)} numbers for {len(blocks)} blocks")
        shares = [checks.positive(f"shares[{k}]", share) for k, share in enumerate(shares)]
        total = checks.positive("the sum of shares", sum(shares))
        # Rounded down by a few units, so that the sum of the parts never exceeds the whole.
        unit = epsilon * (1 - 1e-15 * len(blocks)) / total
        return cls(*calibrated(blocks, [unit * share for share in shares]))

    def forward(self, x: Tensor) -> Tensor:
        self._check_dim(x)
        return torch.cat([mechanism.forward(x[:, s]) for s, mechanism in self.blocks], 1)

    def unbiased(self, y: Tensor) -> Tensor:
        pairs = zip(self.reports, self.blocks, strict=True)
        return torch.cat([m.unbiased(y[:, reports]) for reports, (_, m) in pairs], 1)

    def heated(self, times: float) -> tuple[Cost, float]:
        pairs = zip(self.reports, self.blocks, strict=True)
        return BlockCost([(reports, *m.heated(times)) for reports, (_, m) in pairs]), 1.0

    def evidence(self, y: Tensor, columns: slice) -> Tensor:
        for reports, (own, mechanism) in zip(self.reports, self.blocks, strict=True):
            if own == columns:
                answers = torch.eye(columns.stop - columns.start, dtype=y.dtype, device=y.device)
                return mechanism.cost.matrix(answers, y[:, reports]).T / -mechanism.reg
        return super().evidence(y, columns)

    def report_dim(self, d: int) -> int:
        return int(self.reports[-1].stop)

    def budget(self, sensitivity: float | None = None) -> Budget:
        refuse_sensitivity(self, sensitivity)
        return sum((mechanism.budget() for _, mechanism in self.blocks), Budget())

    def _location(self, reports: Tensor) -> tuple[Tensor, Tensor]:
        pairs = zip(self.reports, self.blocks, strict=True)
        centres, spreads = zip(*(m._location(reports[:, s]) for s, (_, m) in pairs), strict=True)
        return torch.cat(centres), torch.cat(spreads)

    def _admit(self, x: Tensor, clip: bool) -> Tensor:
        """``clip`` reaches the blocks that have bounds, those of products within too."""
        self._check_dim(x)

        def admitted(part: Mechanism, columns: Tensor) -> Tensor:
            return part._admit(
                columns, clip and (isinstance(part, Product) or part.bounds is not None)
            )

        return torch.cat([admitted(part, x[:, columns]) for columns, part in self.blocks], 1)

    def _check_pair(self, x: Tensor, y: Tensor) -> None:
        super()._check_pair(x, y)
        for s, (_, mechanism) in zip(self.reports, self.blocks, strict=True):
            mechanism._check_pair(x[:, s], y[:, s])

    def _draw(self, x: Tensor, generator: torch.Generator) -> Tensor:
        pairs = zip(self.reports, self.blocks, strict=True)
        return torch.cat([m._draw(x[:, s], generator) for s, (_, m) in pairs], 1)

    def _log_normaliser(self, y: Tensor) -> Tensor | float:
        pairs = zip(self.reports, self.blocks, strict=True)
        return sum(m._log_normaliser(y[:, s]) for s, (_, m) in pairs)

    def _budgets_in_words(self, delta: float) -> dict[str, str]:
        words = {
            f"columns {s.start}:{s.stop}": f"{in_words(m, delta)}, {m!r}" for s, m in self.blocks
        }
        return words | {"whole record": in_words(self, delta)}

    def __repr__(self) -> str:
        blocks = (f"(slice({s.start}, {s.stop}), {m!r})" for s, m in self.blocks)
        return f"Product({', '.join(blocks)})"


def partition(
    blocks: Sequence[tuple[slice, Mechanism]], whose: str
) -> tuple[tuple[slice, Mechanism], ...]:
    """The blocks in column order, if they cover the columns 0, 1, ... once each."""
    named = (_block(f"blocks[{k}]", block) for k, block in enumerate(blocks))
    ordered = sorted(named, key=lambda block: block[0].start)
    if not ordered:
        raise ValueError(f"a {whose} needs at least one block: (columns, mechanism)")
    covered = 0
    for columns, mechanism in ordered:
        if columns.start != covered:
            fault = "is in no block" if columns.start > covered else "is in two blocks"
            raise ValueError(
                f"column {min(covered, columns.start)} {fault}; every column needs one mechanism"
            )
        if mechanism.dim not in (None, columns.stop - columns.start):
            raise ValueError(f"{columns} does not fit {mechanism!r}, which has {mechanism.dim}")
        covered = columns.stop
    return tuple(ordered)


def side_by_side(blocks: Sequence[tuple[slice, Mechanism]], marks: int = 0) -> tuple[slice, ...]:
    """The columns of a report that hold each block's own, with so many ``marks`` after it."""
    widths = [m.report_dim(s.stop - s.start) + marks for s, m in blocks]
    ends = itertools.accumulate(widths, initial=0)
    return tuple(slice(a, b) for a, b in itertools.pairwise(ends))


def calibrated(
    blocks: Sequence[tuple[slice, Callable[..., Mechanism]]], epsilons: Sequence[float]
) -> list[tuple[slice, Mechanism]]:
    """Blocks (columns, mechanism) of blocks (columns, calibrate), each at its own epsilon."""
    made = []
    for k, (block, epsilon) in enumerate(zip(blocks, epsilons, strict=True)):
        if not isinstance(block, tuple | list) or len(block) != 2 or not callable(block[1]):
            raise TypeError(f"blocks[{k}] must be a pair (columns, calibrate)")
        made.append((block[0], block[1](epsilon=epsilon)))
    return made


def _block(name: str, block: tuple[slice, Mechanism]) -> tuple[slice, Mechanism]:
    """A block whose columns are two Python integers: equal blocks are written alike."""
    if not isinstance(block, tuple | list) or len(block) != 2:
        raise TypeError(f"{name} must be a pair (columns, mechanism), got a {type(block).__name__}")
    columns, mechanism = block
    checks.instance(f"{name}: columns", columns, slice)
    checks.instance(f"{name}: mechanism", mechanism, Mechanism)
    if columns.step not in (None, 1) or columns.start is None or columns.stop is None:
        raise ValueError(
            f"{name}: columns must be slice(start, stop) with both numbers, got {columns}"
        )
    start, stop = (checks.integer(f"{name}: columns", end) for end in (columns.start, columns.stop))
    if not 0 <= start < stop:
        raise ValueError(f"{name}: columns must count from 0 upwards, got {columns}")
    return slice(start, stop), mechanism
