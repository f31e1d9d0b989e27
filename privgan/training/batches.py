"""The reports of every step, less their origin, in the network's precision and on its device.

What is small is moved there once. Of what is large, or lies in files, some steps' reports are
fetched at a time, ahead of the trainer and beside it: in the order of the files, however random the
order that the trainer gets them in.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import torch
from torch import Tensor

from privgan import checks
from privgan.mechanisms import Mechanism
from privgan.mechanisms.location import ENTRIES, ROWS
from privgan.reports.possible import check_taken
from privgan.reports.rows import Rows
from privgan.streams import sent
from privgan.training.shuffling import Picked, Shuffle

ROUNDING = 1e-4  # of a column's spread: reports that float32 would move by more stay float64
SMALL = 2**26  # numbers in memory, at most, that are moved to the network's device for good
AHEAD = 2**25  # bytes that are fetched at a time, and as many ahead of them
FIRST = 16  # steps fetched at first; then twice as many every time


def representative(rows: Rows) -> Tensor:
    """Rows that stand for all of them where these are looked at: all, if they are small."""
    if rows.held is not None and rows.held.numel() <= SMALL:
        return rows.held
    return rows.strided(min(ROWS, max(1000, ENTRIES // rows.shape[1])))


class Batches(ABC):
    """``batches(step)``: (size, d), by epochs of ``picked`` rows, without replacement in any.

    share: which of so many reports are for this process, where there are several; its batches have
    ``own`` rows.
    """

    def __init__(
        self, picked: Picked, size: int, seed: int, share: Callable[[int], slice] | None = None
    ):
        self.picked, self.size, self.seed = picked, size, seed
        self.share = share(size) if share else slice(0, size)
        self.own = self.share.stop - self.share.start
        self.epoch, self.order = -1, picked.shuffle

    def places(self, step: int) -> Tensor:
        """Where the reports of a step are among the picked rows, (own,), on the CPU."""
        epoch, place = divmod(step, len(self.picked) // self.size)
        if epoch != self.epoch:
            self.order = Shuffle(len(self.picked), self.seed, "shuffle", epoch)
            self.epoch = epoch
        first = place * self.size
        return self.order(torch.arange(first + self.share.start, first + self.share.stop))

    @abstractmethod
    def __call__(self, step: int) -> Tensor: ...

    @abstractmethod
    def at(self, places: Tensor) -> Tensor:
        """The picked rows at these places (k,), as a step would get them."""

    @abstractmethod
    def looked_at(self) -> Tensor:
        """Rows that stand for all of them, likewise."""


class Resident(Batches):
    """``reports``: all rows, picked or not, as the steps get them."""

    def __init__(self, reports: Tensor, *about: Any):
        super().__init__(*about)
        self.reports = reports

    def __call__(self, step: int) -> Tensor:
        return self.at(self.places(step))

    def at(self, places: Tensor) -> Tensor:
        return self.reports[sent(self.picked.numbers(places), self.reports.device)]

    def looked_at(self) -> Tensor:
        return self.reports


class Fetched(Batches):
    """Rows that are taken, checked and moved as the steps come to them, up to the last, ``end``."""

    def __init__(
        self,
        picked: Picked,
        *about: Any,
        origin: Tensor,
        dtype: torch.dtype,
        device: torch.device,
        end: int,
        mechanism: Mechanism | None,
    ):
        super().__init__(picked, *about)
        self.origin, self.dtype, self.device, self.end = origin, dtype, device, end
        # What is in memory has been looked at.
        self.mechanism = mechanism if picked.rows.held is None else None
        bytes_a_step = self.own * picked.shape[1] * torch.empty(0, dtype=dtype).element_size()
        self.most, self.count = max(1, AHEAD // bytes_a_step), FIRST
        self.start, self.now = 0, torch.empty(0)
        self.coming: tuple[int, Future[Tensor]] | None = None
        self.thread = ThreadPoolExecutor(1, "privgan-reports")

    def __call__(self, step: int) -> Tensor:
        here = step - self.start
        if not 0 <= here < len(self.now) // self.own:
            start, coming = self.coming or (-1, Future[Tensor]())
            if start != step:  # the first of all, or not the one that was thought to be next
                coming = self.thread.submit(self._fetch, step, self._until(step))
            self.start, self.now = step, coming.result()
            here, after = 0, step + len(self.now) // self.own
            self.count = min(2 * self.count, self.most)
            if after < self.end:
                future = self.thread.submit(self._fetch, after, self._until(after))
                self.coming = after, future
        batch = self.now[here * self.own : (here + 1) * self.own]
        return batch.to(self.device, non_blocking=True)

    def _until(self, step: int) -> int:
        return min(step + min(self.count, self.most), max(self.end, step + 1))

    def _fetch(self, step: int, until: int) -> Tensor:
        found = self._prepared(torch.cat([self.places(k) for k in range(step, until)]))
        return found.pin_memory() if self.device.type == "cuda" and not found.is_cuda else found

    def _prepared(self, places: Tensor) -> Tensor:
        numbers = self.picked.numbers(places)
        rows = self.picked.rows.take(numbers)
        if self.mechanism is not None:
            check_taken(self.mechanism, self.picked.name, rows, numbers)
        found = (rows - self.origin).to(self.dtype)
        if not math.isfinite(found.sum()) and not found.isfinite().all():
            row = int(numbers[(~found.isfinite()).any(1).nonzero()[0, 0]])
            raise ValueError(
                f"{self.picked.name} has a row, number {row}, that overflows {self.dtype}; remove "
                "or rescale it"
            )
        return found

    def at(self, places: Tensor) -> Tensor:
        return self._prepared(places).to(self.device)

    def looked_at(self) -> Tensor:
        some = representative(self.picked.rows)
        return (some - self.origin).to(self.dtype).to(self.device)


def batches(
    picked: Picked,
    some: Tensor,
    size: int,
    seed: int,
    *,
    origin: Tensor,
    dtype: torch.dtype,
    device: torch.device,
    end: int,
    mechanism: Mechanism | None,
    share: Callable[[int], slice] | None = None,
) -> Batches:
    """For ``picked`` reports less their ``origin`` (d,), in ``dtype`` unless rounding would move
    them by what could matter; ``some``, which stand for all, say whether it does."""
    if some is picked.rows.held:
        reports = narrowed(some - origin, dtype).to(device)
        return Resident(reports, picked, size, seed, share)
    dtype = narrowed(some - origin, dtype).dtype
    return Fetched(
        picked,
        size,
        seed,
        share,
        origin=origin,
        dtype=dtype,
        device=device,
        end=end,
        mechanism=mechanism,
    )


def narrowed(reports: Tensor, dtype: torch.dtype) -> Tensor:
    """Reports in the network's precision, unless rounding would move them by what could matter."""
    narrow = reports.to(dtype)
    checks.check_finite("reports", narrow, "row")  # shifting or casting may have overflowed
    if narrow.dtype == reports.dtype:
        return reports
    moved = (narrow.to(reports) - reports).abs().amax(0)
    return narrow if (moved <= ROUNDING * reports.std(0, correction=0)).all() else reports
