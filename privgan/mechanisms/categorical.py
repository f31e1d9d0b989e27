"""One category of k, reported through randomized response or unary encoding.

Records are one-hot rows (n, k), and so that generators can learn them by gradients the channels
also take probability rows: a row p stands for a record drawn from p, and

    k(y | p) = sum_c p_c k(y | c)

is linear in it. In both channels k(y | c) is one number where the report y has category c's bit
set and another where it has not, times a factor h(y), so that with y as a row of bits

    k(y | p) = h(y) (miss + (hit - miss) p.y),        cost = -log of the bracket, reg 1.
"""

import math
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from torch import Tensor

from privgan import checks
from privgan.mechanisms.base import Mechanism, refuse_sensitivity
from privgan.mechanisms.bounds import Records
from privgan.mechanisms.budget import Budget
from privgan.mechanisms.chances import happens, one_of
from privgan.sinkhorn import Cost
from privgan.sinkhorn.costs import check_points
from privgan.surroundings import full_precision

NEARLY_ONE = 1 - 2.0**-53  # the largest float64 below 1
LEAST = 1e-37  # a rate below it would leave likelihoods that float32 cannot hold
ROUNDING = 1e-4  # a row of probabilities may sum to 1 within this much


@dataclass(frozen=True, eq=False, repr=False)
class CategoryCost(Cost):
    """``-log(miss + (hit - miss) x.y)`` for probability rows x (n, k), rows of bits y (m, k).

    hit, miss: likelihoods > 0, up to a common factor, of a report with and without the bit of
    the record's category.
    """

    hit: float
    miss: float

    def matrix(self, x: Tensor, y: Tensor) -> Tensor:
        check_points(x, y)
        return -self._likelihood(x, y).log()

    def paired(self, x: Tensor, y: Tensor) -> Tensor:
        return -(self.miss + (self.hit - self.miss) * (x * y).sum(1)).log()

    def gradient(self, x: Tensor, y: Tensor, plan: Tensor) -> Tensor:
        with full_precision():
            return (plan / self._likelihood(x, y)) @ y * (self.miss - self.hit)

    def _likelihood(self, x: Tensor, y: Tensor) -> Tensor:
        with full_precision():
            return self.miss + (self.hit - self.miss) * (x @ y.T)


class Categorical(Mechanism):
    """A channel from one of ``k`` categories to rows of ``k`` bits."""

    k: int
    rates: tuple[float, float]  # of ones: of the record's own category's bit, of any other's

    def budget(self, sensitivity: float | None = None) -> Budget:
        refuse_sensitivity(self, sensitivity)
        return Budget(pure=self._log_ratio())

    def heated(self, times: float) -> tuple[Cost, float]:
        """The matched one: a category is what keeps the parts of a softened coupling apart."""
        return self.cost, self.reg

    def unbiased(self, y: Records) -> Records:
        """Rows (n, k) whose mean, given a record, is its one-hot row: (y - other) / (own - other).

        Their mean estimates the frequencies; averages of other columns with column c as weights
        estimate averages over the records of category c. Wang et al., "Locally differentially
        private protocols for frequency estimation", 2017.
        """
        reports = checks.as_records("y", y)
        self._check_alphabet("y", reports)
        own, other = self.rates
        found = (reports - other) / (own - other)
        return found if isinstance(y, Tensor) else found.numpy()

    def grid(self, bins: int) -> Tensor:
        """The alphabet's one-hot rows, however many bins."""
        return torch.eye(self.k, dtype=torch.float64)

    def _location(self, reports: Tensor) -> tuple[Tensor, Tensor]:
        """Zeros and ones: bits have no units."""
        return reports.new_zeros(self.k), reports.new_ones(self.k)

    def _admit(self, x: Tensor, clip: bool) -> Tensor:
        if clip:
            raise ValueError("categories cannot be clipped; leave clip out")
        self._check_alphabet("x", x)
        wrong = ~(((x == 0) | (x == 1)).all(1) & (x.sum(1) == 1))
        if wrong.any():
            row = int(wrong.nonzero()[0])
            raise ValueError(
                f"x has {int(wrong.sum())} rows that are not one category, the first at row {row}; "
                f"a record is one-hot: pg.mechanisms.one_hot(labels, k={self.k})"
            )
        return x

    def _check_pair(self, x: Tensor, y: Tensor) -> None:
        super()._check_pair(x, y)
        self._check_alphabet("x", x)
        wrong = (x < 0).any(1) | ((x.sum(1) - 1).abs() > ROUNDING)
        if wrong.any():
            row = int(wrong.nonzero()[0])
            raise ValueError(
                f"x has {int(wrong.sum())} rows that are not probabilities, the first at "
                f"row {row}; they must be >= 0 and sum to 1"
            )
        wrong = ~((y == 0) | (y == 1)).all(1)
        if wrong.any():
            row = int(wrong.nonzero()[0])
            raise ValueError(
                f"y has {int(wrong.sum())} rows that are not bits, the first at row {row}; reports "
                f"of {self!r} hold nothing but 0 and 1"
            )

    def _check_alphabet(self, name: str, x: Tensor) -> None:
        if x.shape[1] != self.k:
            raise ValueError(
                f"{name} has {x.shape[1]} columns, but {self!r} has an alphabet of k = {self.k}"
            )

    @abstractmethod
    def _log_ratio(self) -> float:
        """The largest log-likelihood ratio of two categories: epsilon."""


@dataclass(frozen=True, eq=False, repr=False)
class RandomizedResponse(Categorical):
    """Reports the true one of ``k`` categories with probability ``keep``, else any other alike.

    Warner 1965; k-ary: Kairouz, Oh, Viswanath 2014. epsilon = ln(keep (k - 1) / (1 - keep)).
    """

    k: int
    keep: float

    def __post_init__(self) -> None:
        k, keep = alphabet(self.k), checks.probability("keep", self.keep)
        if keep <= 1 / k:
            raise ValueError(
                f"keep must exceed 1/k = {1 / k:.6g}, where reports say nothing, got {keep!r}; "
                "raise epsilon"
            )
        other = (1 - keep) / (k - 1)
        vars(self).update(
            k=k,
            keep=keep,
            dim=k,
            cost=CategoryCost(keep, other),
            reg=1.0,
            rates=(keep, other),
            noise=f"{keep:.4g} true, each of the other {k - 1} categories {other:.4g}",
            recovery=recovery(keep, other),
        )

    @classmethod
    def calibrate(cls, *, epsilon: float, k: int) -> Self:
        """The channel that is epsilon-private: keep = e^epsilon / (e^epsilon + k - 1).

        Where that would be 1 in float64, keep is the number before, and epsilon less.

        >>> mech = pg.RandomizedResponse.calibrate(epsilon=1.0, k=3)
        >>> round(mech.keep, 4)  # e / (e + 2)
        0.5761
        """
        epsilon = checks.positive("epsilon", epsilon)
        keep = min(1 / (1 + (alphabet(k) - 1) * math.exp(-epsilon)), NEARLY_ONE)
        while cls(k, keep).epsilon() > epsilon:  # rounding, by a unit or two in the last place
            keep = math.nextafter(keep, 0.0)
        return cls(k, keep)

    def _log_ratio(self) -> float:
        return math.log(self.keep) + math.log(self.k - 1) - math.log(1 - self.keep)

    def _draw(self, x: Tensor, generator: torch.Generator) -> Tensor:
        n = len(x)
        keep = torch.full((n,), self.keep, dtype=torch.float64)
        step = (1 + one_of(self.k - 1, n, generator)) * ~happens(keep, generator)
        category = (x.argmax(1) + step.to(x.device)) % self.k
        return torch.nn.functional.one_hot(category, self.k).to(x.dtype)

    def _log_normaliser(self, y: Tensor) -> float:
        return 0.0


@dataclass(frozen=True, eq=False, repr=False)
class UnaryEncoding(Categorical):
    """Reports k bits: the true category's is 1 with probability ``keep``, any other with ``flip``.

    Symmetric, flip = 1 - keep, it is basic RAPPOR (Erlingsson, Pihur, Korolova 2014); keep = 1/2
    is optimised unary encoding (Wang, Blocki, Li, Jha 2017).
    epsilon = ln(keep (1 - flip) / ((1 - keep) flip)).
    """

    k: int
    keep: float
    flip: float

    def __post_init__(self) -> None:
        k, keep = alphabet(self.k), checks.probability("keep", self.keep)
        flip = checks.probability("flip", self.flip)
        if flip >= keep:
            raise ValueError(
                f"flip must be below keep, or reports say nothing, got {flip!r} and {keep!r}; "
                "raise epsilon"
            )
        if flip < LEAST:
            raise ValueError(f"flip must be at least {LEAST:g}, got {flip!r}; lower epsilon")
        vars(self).update(
            k=k,
            keep=keep,
            flip=flip,
            dim=k,
            cost=CategoryCost(keep / flip, (1 - keep) / (1 - flip)),
            reg=1.0,
            rates=(keep, flip),
            noise=f"the true bit is 1 with probability {keep:.4g}, others {flip:.4g}",
            recovery=recovery(keep, flip),
        )

    @classmethod
    def calibrate(cls, *, epsilon: float, k: int, symmetric: bool = False) -> Self:
        """The channel that is epsilon-private: optimised, or ``symmetric`` (basic RAPPOR).

        Beyond what float64 can carry it is the least private one that there is: epsilon is less
        than was asked for.
        """
        epsilon = checks.positive("epsilon", epsilon)
        symmetric = checks.flag("symmetric", symmetric)
        odds = math.exp(-epsilon / 2 if symmetric else -epsilon)
        keep, flip = 0.5, max(odds / (1 + odds), LEAST)
        if symmetric:
            keep = min(1 / (1 + odds), NEARLY_ONE)
            flip = 1 - keep
        while cls(k, keep, flip).epsilon() > epsilon:  # rounding, as above
            keep = math.nextafter(keep, 0.0) if symmetric else keep
            flip = 1 - keep if symmetric else math.nextafter(flip, 1.0)
        return cls(k, keep, flip)

    def _log_ratio(self) -> float:
        true_bit = math.log(self.keep) - math.log1p(-self.keep)
        return true_bit + math.log1p(-self.flip) - math.log(self.flip)

    def _draw(self, x: Tensor, generator: torch.Generator) -> Tensor:
        own, other = torch.tensor(self.rates, dtype=torch.float64)
        return happens(torch.where(x.cpu() == 1, own, other), generator).to(x)

    def _log_normaliser(self, y: Tensor) -> Tensor:
        ones = y.sum(1)
        return ones * math.log(self.flip) + (self.k - ones) * math.log1p(-self.flip)


def one_hot(labels: Tensor | np.ndarray | Sequence[int], k: int) -> Tensor:
    """Labels 0 to k - 1, (n,) integers, as float32 one-hot records (n, k).

    ``k`` is the size of a public alphabet, not the number of categories that occur.
    """
    labels = checks.as_tensor("labels", labels)
    if labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool:
        raise TypeError(f"labels has dtype {labels.dtype}; categories are integers from 0")
    if labels.ndim != 1:
        raise ValueError(f"labels has shape {tuple(labels.shape)}; expected (n,)")
    labels = labels.long()
    outside = (labels < 0) | (labels >= checks.positive_int("k", k))
    if outside.any():
        first = int(outside.nonzero()[0])
        raise ValueError(
            f"labels[{first}] is outside the alphabet 0 to {k - 1}; raise k, or repair it"
        )
    return torch.nn.functional.one_hot(labels, k).float()


def alphabet(k: int) -> int:
    if checks.integer("k", k) < 2:
        raise ValueError(f"k must be at least 2 categories, got {k!r}")
    return int(k)


def recovery(true: float, other: float) -> str:
    # A bit that is 1 with probability ``other`` has this deviation, and a frequency moves it
    # by true - other.
    error = math.sqrt(other * (1 - other)) / (true - other)
    return (
        f"frequencies can be recovered, each to about {error:.3g} / sqrt(n) from n reports "
        "(a rare category)"
    )
