r"""Row numbers in a random order, in memory that does not grow with their number.

Up to `STORED` numbers the order is drawn and kept. Beyond, it is computed where it is asked for: a
Feistel network is a bijection of pairs of half-numbers, (l, r) -> (r, l xor F(r)), whatever F is,
and one of pseudo-random F's is in effect a random one after a few rounds (Luby and Rackoff, SIAM J.
Comput. 17, 1988). It permutes the numbers below a power of two; one that leads out of the range is
sent through again until it comes back, which keeps it a bijection (Black and Rogaway, CT-RSA 2002).
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from privgan.reports.rows import Rows
from privgan.streams import stream

STORED = 2**20  # numbers: 8 MB
ROUNDS = 6
ODD = np.uint64(0x9E3779B97F4A7C15)  # its multiples mix low bits into high ones
BLOCK = 2**14  # numbers at a time, to stay in cache


class Shuffle:
    """The numbers below ``n`` in the order that ``seed``, ``purpose`` and ``step`` decide."""

    def __init__(self, n: int, seed: int, purpose: str, step: int = 0):
        self.n, self.said, rng = n, [n, seed, purpose, step], stream(seed, purpose, step)
        self.order = torch.randperm(n, generator=rng) if n <= STORED else None
        if self.order is None:
            bits = max(2, (n - 1).bit_length())
            self.low = bits // 2  # bits of the right half, and of the left one
            self.high = bits - self.low
            keys = torch.randint(2**62, (ROUNDS,), generator=rng).numpy().astype(np.uint64)
            self.keys = keys

    def __len__(self) -> int:
        return self.n

    def __call__(self, places: Tensor) -> Tensor:
        """The numbers at these places (k,), on the CPU."""
        if self.order is not None:
            return self.order[places]
        blocks = places.numpy().astype(np.uint64)
        found = [self._within(blocks[k : k + BLOCK]) for k in range(0, len(blocks), BLOCK)]
        return torch.from_numpy(np.concatenate(found or [blocks]).astype(np.int64))

    def _within(self, places: np.ndarray) -> np.ndarray:
        found = self._through(places)
        while len(out := np.flatnonzero(found >= self.n)):
            found[out] = self._through(found[out])
        return found

    def _through(self, numbers: np.ndarray) -> np.ndarray:
        """Once through the network; the halves, and their widths, change sides in every round."""
        low, high = self.low, self.high
        left, right = numbers >> np.uint64(low), numbers & np.uint64(2**low - 1)
        for key in self.keys:
            mixed = (right + key) * ODD
            mixed ^= mixed >> np.uint64(32)
            mixed *= ODD
            left ^= mixed >> np.uint64(64 - high)
            left, right, low, high = right, left, high, low
        return (left << np.uint64(low)) | right


class Picked(Rows):
    """Those of ``rows`` whose numbers come from ``first`` on, ``count`` of them, in a shuffle."""

    def __init__(self, rows: Rows, shuffle: Shuffle, first: int, count: int):
        self.rows, self.shuffle, self.first = rows, shuffle, first
        self.name, self.dtype, self.shape = rows.name, rows.dtype, (count, rows.shape[1])

    def numbers(self, places: Tensor) -> Tensor:
        """The numbers, among all rows, of the rows at these places."""
        return self.shuffle(places + self.first)

    def _take(self, numbers: np.ndarray) -> Tensor:
        return self.rows._take(self.numbers(torch.from_numpy(numbers)).numpy())

    def take(self, numbers: Tensor) -> Tensor:
        return self.rows.take(self.numbers(numbers))

    def stamp(self) -> Any:
        return [self.rows.identity(), self.shuffle.said, self.first]


def split(rows: Rows, holdout: float, seed: int) -> tuple[Picked, Picked]:
    """The rows that a training keeps out, a fraction ``holdout`` of them, and those it is on."""
    n, count = len(rows), _kept_out(len(rows), holdout)
    shuffle = Shuffle(n, seed, "holdout")
    return Picked(rows, shuffle, 0, count), Picked(rows, shuffle, count, n - count)


def held_out(n: int, holdout: float, seed: int) -> Tensor:
    """The numbers of those that a training keeps out of ``n`` rows."""
    return Shuffle(n, seed, "holdout")(torch.arange(_kept_out(n, holdout)))


def _kept_out(n: int, holdout: float) -> int:
    return max(1, round(holdout * n)) if holdout > 0.0 and n > 1 else 0
