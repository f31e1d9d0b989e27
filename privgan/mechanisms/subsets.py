r"""One category of k, reported as a set of categories that likely holds it.

Both channels report ``size`` of the k categories, the record's own among them with probability
``keep``, and all such sets alike otherwise, so that

    k(y | x) = h (keep / size)              for x in y,
               h (1 - keep) / (k - size)    else,            epsilon = log of their ratio.

Which sets there are is what they differ in: all of them, or runs of neighbours, for which h is k
over the number of sets. The likelihood takes two values: the cost of `categorical` is matched.
"""

import math
from abc import abstractmethod
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from privgan import checks
from privgan.mechanisms.bounds import Records
from privgan.mechanisms.categorical import (
    NEARLY_ONE,
    Categorical,
    CategoryCost,
    alphabet,
    recovery,
)
from privgan.mechanisms.chances import happens, one_of


@dataclass(frozen=True, eq=False, repr=False)
class Subset(Categorical):
    """A channel from one of ``k`` categories to ``size`` of them, as rows of bits."""

    k: int
    size: int
    keep: float

    def __post_init__(self) -> None:
        k, size = alphabet(self.k), checks.positive_int("size", self.size)
        if size >= k:
            raise ValueError(f"size must be below k = {k}, or reports say nothing, got {size}")
        keep = checks.probability("keep", self.keep)
        if keep * (k - size) <= (1 - keep) * size:
            raise ValueError(
                f"keep must exceed size / k = {size / k:.6g}, where reports say nothing, got "
                f"{keep!r}; raise epsilon"
            )
        vars(self).update(
            k=k,
            size=size,
            keep=keep,
            dim=k,
            cost=CategoryCost(keep / size, (1 - keep) / (k - size)),
            reg=1.0,
            noise=f"a set of {size} of the {k} categories, which holds the true one with "
            f"probability {keep:.4g}",
        )
        self._check_sets()

    @classmethod
    def calibrate(cls, *, epsilon: float, k: int, size: int | None = None) -> Self:
        """The channel that is epsilon-private: keep = size e^epsilon / (size e^epsilon + k - size).

        size: by default the one that suits this budget best. Where keep would be 1 in float64, it
        is the number before, and epsilon less.
        """
        epsilon = checks.positive("epsilon", epsilon)
        if size is None:
            size = cls._best_size(epsilon, alphabet(k))
        size = checks.positive_int("size", size)
        odds = (alphabet(k) - size) * math.exp(-epsilon) / size
        keep = min(1 / (1 + max(odds, 0.0)), NEARLY_ONE)
        while (made := cls(k, size, keep)).epsilon() > epsilon:  # rounding, by a unit or two
            keep = math.nextafter(keep, 0.0)
        return made

    @staticmethod
    @abstractmethod
    def _best_size(epsilon: float, k: int) -> int: ...

    def _check_sets(self) -> None:
        """Raise ValueError where the sets of this size cannot tell all laws apart."""

    def _log_ratio(self) -> float:
        own = math.log(self.keep) + math.log(self.k - self.size)
        return own - math.log(1 - self.keep) - math.log(self.size)

    def _inside(self, n: int, generator: torch.Generator) -> Tensor:
        """Whether each of ``n`` reports holds its own category, (n,)."""
        return happens(torch.full((n,), self.keep, dtype=torch.float64), generator)


@dataclass(frozen=True, eq=False, repr=False)
class SubsetSelection(Subset):
    """Reports any ``size`` of the k categories: the best there is for frequencies.

    size: of the reported set; 1 is randomized response. keep: the probability that the record's
    own category is in it. Ye and Barg, "Optimal schemes for discrete distribution estimation under
    locally differential privacy", 2018.
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        others = self.keep * (self.size - 1) + (1 - self.keep) * self.size
        rates = self.keep, others / (self.k - 1)
        vars(self).update(rates=rates, recovery=recovery(*rates))

    @staticmethod
    def _best_size(epsilon: float, k: int) -> int:
        """k / (e^epsilon + 1), up or down, whichever leaves frequencies the smaller error."""
        best = k / (math.exp(min(epsilon, 700.0)) + 1)
        sizes = {min(max(1, s), k - 1) for s in (math.floor(best), math.ceil(best))}

        def error(size: int) -> float:
            keep = 1 / (1 + (k - size) * math.exp(-epsilon) / size)
            other = (keep * (size - 1) + (1 - keep) * size) / (k - 1)
            return other * (1 - other) / max(keep - other, 1e-300) ** 2

        return min(sorted(sizes), key=error)

    def _draw(self, x: Tensor, generator: torch.Generator) -> Tensor:
        n = len(x)
        first = torch.where(self._inside(n, generator), -1.0, 2.0).double()
        order = torch.rand((n, self.k), dtype=torch.float64, generator=generator)
        own = x.argmax(1).cpu()[:, None]
        chosen = order.scatter(1, own, first[:, None]).argsort(1)[:, : self.size]
        return torch.zeros_like(order).scatter(1, chosen, 1.0).to(x)

    def _log_normaliser(self, y: Tensor) -> float:
        sets = math.lgamma(self.k + 1) - math.lgamma(self.size + 1)
        return math.log(self.k) - sets + math.lgamma(self.k - self.size + 1)


@dataclass(frozen=True, eq=False, repr=False)
class Window(Subset):
    """Reports ``size`` neighbours of k ordered categories, of which the last and first are two.

    For cells of a number, a date, a scale: reports blur neighbours rather than everything, so that
    the coarse shape of a law costs far fewer of them. It is the square wave of Li et al.,
    "Estimating numerical distributions under local differential privacy", 2020, on a circle of
    cells, and one of the block designs of Park, Nam and Lee, "Exactly optimal and
    communication-efficient private estimation via block designs", 2023. size and k have no common
    divisor: otherwise some laws could not be told apart. keep: the probability that the window
    holds the record's own cell.
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        vars(self).update(
            recovery="frequencies can be recovered, those of neighbours together far better than "
            "those of single cells"
        )

    @staticmethod
    def _best_size(epsilon: float, k: int) -> int:
        """About k / (e^(3 epsilon / 4) + 1): a little wider than suits single cells best."""
        best = k / (math.exp(min(0.75 * epsilon, 700.0)) + 1)
        sizes = [s for s in range(1, k) if math.gcd(s, k) == 1]
        return min(sizes, key=lambda s: (abs(s - best), -s))

    def _check_sets(self) -> None:
        if math.gcd(self.size, self.k) != 1:
            raise ValueError(
                f"size = {self.size} and k = {self.k} have a common divisor, so that some laws "
                "would give the same reports; take another size, or one more cell"
            )

    def unbiased(self, y: Records) -> Records:
        """Rows (n, k) whose mean, given a record, is its one-hot row."""
        reports = checks.as_records("y", y)
        self._check_alphabet("y", reports)
        cells = torch.eye(self.k, dtype=torch.float64)
        windows = self._windows(torch.arange(self.k))
        chance = (-self.cost.matrix(cells, windows)).exp() @ windows  # of a bit, given a record
        found = reports @ torch.linalg.inv(chance).to(reports)
        return found if isinstance(y, Tensor) else found.numpy()

    def _windows(self, starts: Tensor) -> Tensor:
        """The windows that begin at ``starts`` (n,), as bits (n, k), float64."""
        cells = (starts[:, None] + torch.arange(self.size)) % self.k
        return torch.zeros((len(starts), self.k), dtype=torch.float64).scatter(1, cells, 1.0)

    def _draw(self, x: Tensor, generator: torch.Generator) -> Tensor:
        n = len(x)
        back = torch.where(  # how many cells the window begins before the record's own
            self._inside(n, generator),
            one_of(self.size, n, generator),
            self.size + one_of(self.k - self.size, n, generator),
        )
        return self._windows((x.argmax(1).cpu() - back) % self.k).to(x)

    def _log_normaliser(self, y: Tensor) -> float:
        return 0.0
