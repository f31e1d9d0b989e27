r"""Local hashing: a category of a long alphabet in two numbers, whatever the alphabet.

A person draws a public hash function of the alphabet into g buckets and reports, by randomized
response, the bucket that their category falls in: the function's number and a bucket are sent.
What the curator learns is which categories the function takes to that bucket, the report's support.
As functions are drawn at random, a support holds the record's own category with probability keep
and any other with probability 1 / g, independently, and

    k(support | x) = h (keep)                  for x in the support,
                     h (1 - keep) / (g - 1)    else,

the two values of `UnaryEncoding(k, keep, flip=1/g)`, whose cost is therefore matched.
"""

import math
from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from torch import Tensor

from privgan import checks
from privgan.mechanisms.categorical import (
    NEARLY_ONE,
    Categorical,
    CategoryCost,
    alphabet,
    recovery,
)
from privgan.mechanisms.chances import happens, one_of


@dataclass(frozen=True, eq=False, repr=False)
class LocalHashing(Categorical):
    """Reports supports, rows of k bits; `messages` are what is sent, and `support` expands them.

    buckets: of a hash function, at least 2. keep: the probability that the report holds the
    record's own category. Wang, Blocki, Li and Jha, "Locally differentially private protocols for
    frequency estimation", 2017.
    """

    k: int
    buckets: int
    keep: float

    def __post_init__(self) -> None:
        k, buckets = alphabet(self.k), checks.positive_int("buckets", self.buckets)
        keep = checks.probability("keep", self.keep)
        if buckets < 2 or keep * buckets <= 1:
            raise ValueError(
                "buckets must be at least 2, and keep above 1 / buckets, or reports say nothing; "
                f"got {buckets} and {keep!r}"
            )
        rates = keep, 1 / buckets
        vars(self).update(
            k=k,
            buckets=buckets,
            keep=keep,
            dim=k,
            cost=CategoryCost(keep, (1 - keep) / (buckets - 1)),
            reg=1.0,
            rates=rates,
            noise=f"the bucket of a hash function, of {buckets}: the true one with probability "
            f"{keep:.4g}",
            recovery=recovery(*rates),
        )

    @classmethod
    def calibrate(cls, *, epsilon: float, k: int, buckets: int | None = None) -> Self:
        """The channel that is epsilon-private, by default with round(e^epsilon) + 1 buckets.

        Where keep would be 1 in float64, it is the number before, and epsilon less.
        """
        epsilon = checks.positive("epsilon", epsilon)
        if buckets is None:  # beyond 2^20 they tell no more
            buckets = round(math.exp(min(epsilon, math.log(2.0**20)))) + 1
        buckets = checks.positive_int("buckets", buckets)
        keep = min(1 / (1 + (buckets - 1) * math.exp(-epsilon)), NEARLY_ONE)
        while (made := cls(k, buckets, keep)).epsilon() > epsilon:  # rounding, by a unit or two
            keep = math.nextafter(keep, 0.0)
        return made

    def messages(self, categories: Tensor, *, generator: torch.Generator) -> np.ndarray:
        """What is sent for ``categories`` (n,): a function's number and a bucket, (n, 2) uint64."""
        n = len(categories)
        halves = torch.randint(2**32, (2, n), generator=generator).numpy().astype(np.uint64)
        numbers = (halves[0] << np.uint64(32)) | halves[1]
        lie = ~happens(torch.full((n,), self.keep, dtype=torch.float64), generator)
        steps = (1 + one_of(self.buckets - 1, n, generator)) * lie
        return self.message(categories.cpu().numpy(), numbers, steps.numpy())

    def message(self, categories: np.ndarray, numbers: np.ndarray, steps: np.ndarray) -> np.ndarray:
        """The function's number, and the bucket ``steps`` behind the category's own: (n, 2)."""
        own = _hashed(numbers, categories.astype(np.uint64), self.buckets)
        return np.stack([numbers, (own + steps.astype(np.uint64)) % np.uint64(self.buckets)], 1)

    def support(self, messages: np.ndarray) -> Tensor:
        """The categories that each message's function takes to its bucket, as bits (n, k)."""
        every = np.arange(self.k, dtype=np.uint64)
        hashed = _hashed(messages[:, :1], every[None], self.buckets)
        return torch.from_numpy(hashed == messages[:, 1:])

    def _log_ratio(self) -> float:
        return math.log(self.keep) + math.log(self.buckets - 1) - math.log(1 - self.keep)

    def _draw(self, x: Tensor, generator: torch.Generator) -> Tensor:
        return self.support(self.messages(x.argmax(1), generator=generator)).to(x)

    def _log_normaliser(self, y: Tensor) -> Tensor:
        """Over functions: every other category's bit is 1 with probability 1 / g by itself."""
        ones, g = y.sum(1), self.buckets
        return math.log(g) - ones * math.log(g) + (self.k - ones) * math.log1p(-1 / g)


def _hashed(numbers: np.ndarray, categories: np.ndarray, buckets: int) -> np.ndarray:
    """Buckets of categories under functions: the mixer of splitmix64 (Steele, Lea, Flood 2014)."""
    z = numbers + (categories + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return (z ^ (z >> np.uint64(31))) % np.uint64(buckets)
