"""RAPPOR's permanent response on Bloom bits: categories that share bits, and no new loss.

Category c sets a few of m bits, its filter b_c in {0, 1}^m. A device flips each bit with
probability q, once and for all, and reports the outcome y:

    k(y | c) = prod_j q^[y_j != b_cj] (1 - q)^[y_j = b_cj]
             = (1 - q)^m exp(-w |y - b_c|_1),      w = log((1 - q) / q).

So the L1 cost with reg = 1 / w is matched to it, as to Laplace noise on the bits. Two records
differ in at most 2 hashes bits: epsilon = 2 hashes w. Erlingsson, Pihur, Korolova 2014, without
the instantaneous response, which only adds noise of the same kind.
"""

import math
from dataclasses import dataclass
from itertools import combinations

import torch
from torch import Tensor

from privgan import checks
from privgan.sinkhorn.costs import L1
from privgan.streams import stream
from privgan.training import EntropicLoss


@dataclass(frozen=True, eq=False)
class PermanentResponse:
    """A channel from ``k`` categories to ``bits`` bits, of which each category sets ``hashes``.

    The filters are different, so the law of the categories can be told from that of the reports:
    flips of q < 1/2 are invertible on laws of bits, and different points are independent.
    """

    k: int
    bits: int
    hashes: int
    epsilon: float

    def __post_init__(self) -> None:
        for name in ("k", "bits", "hashes"):
            checks.positive_int(name, getattr(self, name))
        checks.positive("epsilon", self.epsilon)
        if math.comb(self.bits, self.hashes) < self.k:
            raise ValueError(
                f"k is {self.k}, but {self.hashes} of {self.bits} bits can be set in only "
                f"{math.comb(self.bits, self.hashes)} ways; raise bits"
            )

    @property
    def flip(self) -> float:
        """Probability q with which a bit is reported wrongly."""
        return 1 / (1 + math.exp(self.epsilon / (2 * self.hashes)))

    @property
    def loss(self) -> EntropicLoss:
        return EntropicLoss(L1(), 2 * self.hashes / self.epsilon)

    def filters(self, *, seed: int) -> Tensor:
        """The bits of every category, (k, bits): public, and different for any two."""
        ways = list(combinations(range(self.bits), self.hashes))
        chosen = torch.randperm(len(ways), generator=stream(seed, "data"))[: self.k].tolist()
        rows = torch.zeros(self.k, self.bits)
        for row, way in zip(rows, chosen, strict=True):
            row[list(ways[way])] = 1.0
        return rows

    def privatize(self, filters: Tensor, *, seed: int) -> Tensor:
        """Reports (n, bits) of people with these filters (n, bits)."""
        wrong = torch.rand(filters.shape, generator=stream(seed, "noise")) < self.flip
        return (filters - wrong.to(filters)).abs()

    def log_density(self, x: Tensor, y: Tensor) -> Tensor:
        """Log probabilities (n, m) of reports y (m, bits) of people with filters x (n, bits)."""
        weight = self.epsilon / (2 * self.hashes)
        return self.bits * math.log1p(-self.flip) - weight * L1().matrix(x, y)


def every_report(bits: int) -> Tensor:
    """All rows of 0 and 1, (2**bits, bits), in the order of `counts`."""
    return torch.cartesian_prod(*[torch.tensor([0.0, 1.0])] * bits).reshape(-1, bits)


def places(reports: Tensor) -> Tensor:
    """Where each of reports (n, bits) is among the rows of `every_report`, (n,)."""
    powers = 2 ** torch.arange(reports.shape[1] - 1, -1, -1)
    return (reports.long() * powers).sum(1)


def counts(reports: Tensor) -> Tensor:
    """How often each row of `every_report` occurs among reports (n, bits)."""
    return torch.bincount(places(reports), minlength=2 ** reports.shape[1])
