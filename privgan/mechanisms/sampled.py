r"""Sampled attributes: a random few of a record's blocks, each with its share of the budget.

A record of d blocks is reported through j of them, drawn by the device with probabilities that are
public and have nothing to do with the record; the others are left out. A report says which: with S
the set drawn, y its blocks, and k_b the blocks' own mechanisms,

    k((S, y) | x) = P(S) prod_{b in S} k_b(y_b | x),

so that a block left out adds nothing to the cost, and the matched cost is

    cost(x, (S, y)) = sum_{b in S} c_b(x, y_b) / reg_b,    reg = 1.

A report spends the budgets of the j blocks that tell the most. That an onlooker cannot foresee
which blocks are drawn saves nothing here, for the report says so: no amplification is claimed.
Nguyen et al., "Collecting and analyzing data from smart device users with local differential
privacy", 2016; Wang et al., "Collecting and analyzing multidimensional data with local differential
privacy", 2019.

Reports say at most what laws of j blocks together are: two laws with the same ones give the same
reports. Which blocks: the sets of j have P(S) proportional to the product of their weights.
"""

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Self

import torch
from torch import Tensor

from privgan import checks
from privgan.mechanisms.base import Mechanism, in_words, refuse_sensitivity
from privgan.mechanisms.budget import Budget
from privgan.mechanisms.chances import happens
from privgan.mechanisms.product import BlockCost, calibrated, partition, side_by_side
from privgan.sinkhorn import Cost
from privgan.sinkhorn.costs import check_points
from privgan.surroundings import full_precision


@dataclass(frozen=True, eq=False, repr=False)
class Present(Cost):
    """``cost`` where the last column of y is 1, nothing where it is 0; that of x is not used."""

    cost: Cost

    def matrix(self, x: Tensor, y: Tensor) -> Tensor:
        check_points(x, y)
        there = y[:, -1] > 0.5
        rows = there.nonzero()[:, 0]
        found = x.new_zeros((len(x), len(y)))
        if not len(rows):
            return found
        return found.index_copy(1, rows, self.cost.matrix(x[:, :-1], y[rows, :-1]))

    def gradient(self, x: Tensor, y: Tensor, plan: Tensor) -> Tensor:
        total = torch.zeros_like(x)
        rows = (y[:, -1] > 0.5).nonzero()[:, 0]
        if len(rows):
            with full_precision():
                total[:, :-1] = self.cost.gradient(x[:, :-1], y[rows, :-1], plan[:, rows])
        return total

    def paired(self, x: Tensor, y: Tensor) -> Tensor:
        return torch.where(y[:, -1] > 0.5, self.cost.paired(x[:, :-1], y[:, :-1]), 0.0)

    def flat(self, d: int) -> Tensor:
        found = super().flat(d)
        found[:-1] = self.cost.flat(d - 1)
        return found


@dataclass(frozen=True, eq=False, repr=False)
class Sampled(Mechanism):
    """Reports ``choose`` of the blocks: ``Sampled((slice(0, 2), mechanism), ..., choose=2)``.

    The blocks cover every column of a record once. A report has for each block the columns of its
    mechanism and one more, which is 1 where the block was drawn; where it was not, they are 0.
    weights: one for each block; sets of blocks are drawn in proportion to the product of theirs.
    """

    blocks: tuple[tuple[slice, Mechanism], ...]
    choose: int
    weights: tuple[float, ...]
    reports: tuple[slice, ...] = field(init=False)  # of each block, its mark last

    def __init__(
        self,
        *blocks: tuple[slice, Mechanism],
        choose: int,
        weights: Sequence[float] | None = None,
    ):
        ordered = partition(blocks, "Sampled")
        choose = checks.positive_int("choose", choose)
        if choose > len(ordered):
            raise ValueError(f"choose is {choose}, but there are {len(ordered)} blocks")
        given = (
            [1.0] * len(ordered)
            if weights is None
            else checks.sequence("weights", weights, "numbers")
        )
        if len(given) != len(ordered):
            raise ValueError(f"weights has {len(given)} numbers for {len(ordered)} blocks")
        positive = [checks.positive(f"weights[{b}]", w) for b, w in enumerate(given)]
        several = f"up to {choose} blocks of columns" if choose > 1 else "single blocks of columns"
        vars(self).update(
            blocks=ordered,
            choose=choose,
            weights=tuple(positive),
            reports=side_by_side(ordered, marks=1),
            dim=ordered[-1][0].stop,
            noise=f"{choose} of {len(ordered)} blocks of columns, drawn at random, each through "
            "its own mechanism; the others are left out",
            recovery=f"the laws of {several} can be recovered, and of more only what follows from "
            "them; each block as far as its own mechanism allows",
        )
        cost, reg = self.heated(1.0)
        vars(self).update(cost=cost, reg=reg)

    @classmethod
    def calibrate(
        cls,
        *blocks: tuple[slice, Callable[..., Mechanism]],
        epsilon: float,
        choose: int,
        weights: Sequence[float] | None = None,
    ) -> Self:
        """Each drawn block gets epsilon / choose, so that every report spends ``epsilon``.

        blocks: (columns, calibrate), where ``calibrate(epsilon=...)`` makes the block's mechanism.
        """
        each = checks.positive("epsilon", epsilon) / checks.positive_int("choose", choose)
        each *= 1 - 1e-15 * choose  # the sum of the parts never exceeds the whole
        return cls(*calibrated(blocks, [each] * len(blocks)), choose=choose, weights=weights)

    def forward(self, x: Tensor) -> Tensor:
        """What each mechanism adds its noise to, and a column where reports have the mark."""
        self._check_dim(x)
        mark = x.new_ones((len(x), 1))
        return torch.cat([torch.cat([m.forward(x[:, s]), mark], 1) for s, m in self.blocks], 1)

    def heated(self, times: float) -> tuple[Cost, float]:
        parts = []
        for s, (_, mechanism) in zip(self.reports, self.blocks, strict=True):
            cost, reg = mechanism.heated(times)
            parts.append((s, Present(cost), reg))
        return BlockCost(parts), 1.0

    def report_dim(self, d: int) -> int:
        return int(self.reports[-1].stop)

    def budget(self, sensitivity: float | None = None) -> Budget:
        """Of the sets of blocks that tell the most; pure and Gaussian parts each by themselves."""
        refuse_sensitivity(self, sensitivity)
        budgets = [mechanism.budget() for _, mechanism in self.blocks]
        pure = sum(sorted((b.pure for b in budgets), reverse=True)[: self.choose])
        mu = math.hypot(*sorted((b.mu for b in budgets), reverse=True)[: self.choose])
        return Budget(pure, mu)

    def drawn(self, reports: Tensor) -> Tensor:
        """Which blocks are in each of ``reports`` (m, d'), (m, blocks) bool."""
        return torch.stack([reports[:, s.stop - 1] for s in self.reports], 1) > 0.5

    def draw_sets(self, n: int, generator: torch.Generator) -> Tensor:
        """``n`` sets of blocks, (n, blocks) bool: block by block, by what is left to be drawn."""
        totals = _totals(self.weights, self.choose)
        left = torch.full((n,), self.choose)
        chosen = []
        for b, weight in enumerate(self.weights):
            # Of the sets of `left` blocks from b on, those that hold b have this share.
            share = weight * totals[b + 1, (left - 1).clamp_min(0)] / totals[b, left]
            here = (left > 0) & happens(share.clamp(0.0, 1.0), generator)
            left = left - here.long()
            chosen.append(here)
        return torch.stack(chosen, 1)

    def log_chance(self, sets: Tensor) -> Tensor:
        """log P(S) of sets of blocks (m, blocks) bool, (m,), float64."""
        logs = torch.tensor([math.log(w) for w in self.weights], dtype=torch.float64)
        return sets.cpu().double() @ logs - _totals(self.weights, self.choose)[0, self.choose].log()

    def chances(self) -> Tensor:
        """At [a, b] how likely a report holds both blocks, at [a, a] the one: (blocks, blocks)."""
        n, all_sets = len(self.weights), _totals(self.weights, self.choose)[0, self.choose]
        found = torch.zeros((n, n), dtype=torch.float64)
        for a, b in itertools.combinations_with_replacement(range(n), 2):
            both = {a, b}
            if len(both) <= self.choose:
                others = [w for c, w in enumerate(self.weights) if c not in both]
                left = self.choose - len(both)
                product = math.prod(self.weights[c] for c in both)
                found[a, b] = found[b, a] = product * _totals(others, left)[0, left] / all_sets
        return found

    def _draw(self, x: Tensor, generator: torch.Generator) -> Tensor:
        sets = self.draw_sets(len(x), generator)
        found = x.new_zeros((len(x), self.reports[-1].stop))
        for b, (s, (_, mechanism)) in enumerate(zip(self.reports, self.blocks, strict=True)):
            rows = sets[:, b].nonzero()[:, 0].to(x.device)
            if len(rows):
                own = mechanism._draw(x[rows, s.start : s.stop - 1], generator)
                found[rows, s] = torch.cat([own, own.new_ones((len(rows), 1))], 1)
        return found

    def _log_normaliser(self, y: Tensor) -> Tensor:
        sets = self.drawn(y)
        total = self.log_chance(sets).to(y)
        for b, (s, (_, mechanism)) in enumerate(zip(self.reports, self.blocks, strict=True)):
            rows = sets[:, b].nonzero()[:, 0]
            if len(rows):
                own = mechanism._log_normaliser(y[rows, s.start : s.stop - 1])
                total[rows] += own
        return total

    def _location(self, reports: Tensor) -> tuple[Tensor, Tensor]:
        sets, found = self.drawn(reports), []
        for b, (s, (_, mechanism)) in enumerate(zip(self.reports, self.blocks, strict=True)):
            own = reports[sets[:, b], s.start : s.stop - 1]
            if not len(own):
                raise ValueError(f"no report holds block {b}; give more of them, or more weight")
            found.append(mechanism._location(own))
        centres, spreads = zip(*found, strict=True)
        return torch.cat(centres), torch.cat(spreads)

    def _admit(self, x: Tensor, clip: bool) -> Tensor:
        """``clip`` reaches the blocks that have bounds."""
        self._check_dim(x)
        admitted = [m._admit(x[:, s], clip and m.bounds is not None) for s, m in self.blocks]
        return torch.cat(admitted, 1)

    def _check_pair(self, x: Tensor, y: Tensor) -> None:
        super()._check_pair(x, y)
        sets = self.drawn(y)
        wrong = sets.sum(1) != self.choose
        if wrong.any():
            row = int(wrong.nonzero()[0])
            raise ValueError(f"y[{row}] does not hold {self.choose} of the blocks of {self!r}")
        for b, (s, (_, mechanism)) in enumerate(zip(self.reports, self.blocks, strict=True)):
            own = slice(s.start, s.stop - 1)
            if sets[:, b].any():
                mechanism._check_pair(x[:, own], y[sets[:, b]][:, own])

    def _budgets_in_words(self, delta: float) -> dict[str, str]:
        words = {
            f"columns {s.start}:{s.stop}": f"if drawn, {in_words(m, delta)}, {m!r}"
            for s, m in self.blocks
        }
        return words | {"whole record": in_words(self, delta)}

    def __repr__(self) -> str:
        blocks = [f"(slice({s.start}, {s.stop}), {m!r})" for s, m in self.blocks]
        if len(set(self.weights)) > 1:
            return f"Sampled({', '.join(blocks)}, choose={self.choose}, weights={self.weights})"
        return f"Sampled({', '.join(blocks)}, choose={self.choose})"


def _totals(weights: Sequence[float], choose: int) -> Tensor:
    """At [b, i]: the sum over sets of i of the blocks from b on, of products of weights."""
    n = len(weights)
    totals = torch.zeros((n + 1, choose + 1), dtype=torch.float64)
    totals[n, 0] = 1.0
    scale = max(weights, default=1.0)
    for b in range(n - 1, -1, -1):
        totals[b] = totals[b + 1]
        totals[b, 1:] += weights[b] / scale * totals[b + 1, :-1]
    return totals * scale ** torch.arange(choose + 1, dtype=torch.float64)
