"""Rows of numbers, wherever they lie: in memory, in a mapped file, in a folder of shards.

Whoever needs rows asks for them by number, so that no more of them are in memory than are looked
at. What is in memory has been looked at whole; of files, every row is looked at when it is taken.
"""

import mmap
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from privgan import checks
from privgan.files import reading
from privgan.plain import digest

PART = 2**21  # numbers of rows that are gone through in order
SPAN = 2**26  # bytes of a mapped file that are in memory at a time
LOOKED_AT = 1024  # rows that stand for all of a file's where it is told from others
SUFFIXES = (".npy", ".parquet")


class Rows(ABC):
    """Records or reports (n, d), float32 or float64, to be had by their numbers.

    name: of the argument that they came as, for errors. held: all of them, if they are in memory.
    """

    name: str
    shape: tuple[int, int]
    dtype: torch.dtype
    held: Tensor | None = None

    def __len__(self) -> int:
        return self.shape[0]

    @abstractmethod
    def _take(self, numbers: np.ndarray) -> Tensor:
        """Rows (k, d) of these numbers (k,), in their order."""

    @abstractmethod
    def stamp(self) -> Any:
        """Where they come from and when that was written, in plain types."""

    def take(self, numbers: Tensor) -> Tensor:
        """Rows (k, d) of these numbers (k,), in their order; ValueError for one that is not finite,
        by its number."""
        found = self._take(numbers.cpu().numpy())
        checked(self.name, found, numbers)
        return found

    def strided(self, most: int) -> Tensor:
        """At most ``most`` rows, evenly strided."""
        return self.take(torch.arange(0, len(self), -(-len(self) // most)))

    def parts(self) -> Iterator[tuple[int, Tensor]]:
        """All rows in order, some at a time, each time with the first one's number."""
        size = max(1, PART // self.shape[1])
        for first in range(0, len(self), size):
            yield first, self.take(torch.arange(first, min(first + size, len(self))))

    def tensor(self) -> Tensor:
        """All of them in memory, for what needs them at once."""
        return torch.cat([part for _, part in self.parts()])

    def identity(self) -> str:
        """What tells these rows from others: size, some of them, and when they were written."""
        return digest([list(self.shape), self.stamp(), self.strided(LOOKED_AT)])


class Held(Rows):
    """A tensor, which is finite, on whatever device it is."""

    held: Tensor

    def __init__(self, name: str, held: Tensor):
        self.name, self.held = name, held
        self.shape, self.dtype = (len(held), held.shape[1]), held.dtype

    def _take(self, numbers: np.ndarray) -> Tensor:
        return self.held[torch.from_numpy(numbers).to(self.held.device)]

    def take(self, numbers: Tensor) -> Tensor:
        return self.held[numbers.to(self.held.device)]

    def parts(self) -> Iterator[tuple[int, Tensor]]:
        size = max(1, PART // self.shape[1])
        for first in range(0, len(self), size):
            yield first, self.held[first : first + size]

    def tensor(self) -> Tensor:
        return self.held

    def stamp(self) -> None:
        return None

    def identity(self) -> str:
        return digest(self.held)


class Mapped(Rows):
    """A file that the system maps into memory, as numpy has opened it, or a part of one."""

    def __init__(self, name: str, array: np.memmap):
        self.name, self.array = name, array
        if array.ndim != 2 or 0 in array.shape:
            raise ValueError(
                f"{name} has shape {array.shape}; records are (n, d), one row each, and at least "
                "one"
            )
        self.native = array.dtype.newbyteorder("=")
        if self.native not in (np.float32, np.float64):
            raise TypeError(f"{name} has dtype {array.dtype}; convert it to float32 or float64")
        self.shape = (len(array), array.shape[1])
        self.dtype = torch.from_numpy(np.empty(0, self.native)).dtype

    def _take(self, numbers: np.ndarray) -> Tensor:
        """In the file's order, and a span of it at a time, which is then let go."""
        found = np.empty((len(numbers), self.shape[1]), self.native)
        order = np.argsort(numbers, kind="stable")  # quick where they are in order already
        ordered = numbers[order]
        span = max(1, SPAN // (self.shape[1] * self.native.itemsize))
        first = 0
        while first < len(ordered):
            end = int(np.searchsorted(ordered, ordered[first] + span))
            found[order[first:end]] = self.array[ordered[first:end]]
            self._let_go()
            first = end
        return torch.from_numpy(found)

    def _let_go(self) -> None:
        """Take the pages that were read out of this process; the system still has them cached."""
        mapping = getattr(self.array, "_mmap", None)
        # What was written to a private mapping is nowhere else.
        if mapping is not None and self.array.mode != "c" and hasattr(mmap, "MADV_DONTNEED"):
            mapping.madvise(mmap.MADV_DONTNEED)

    def stamp(self) -> Any:
        file = self.array.filename  # of the mapping
        stat = Path(file).stat() if file is not None and Path(file).exists() else None
        return None if stat is None else [stat.st_size, stat.st_mtime_ns]


class Shards(Rows):
    """Rows of several files, one after another."""

    def __init__(self, name: str, shards: list[Rows]):
        self.name, self.shards = name, shards
        self.dtype, columns = shards[0].dtype, shards[0].shape[1]
        for shard in shards:
            if (shard.dtype, shard.shape[1]) != (self.dtype, columns):
                raise ValueError(
                    f"{shard.name} has {shard.shape[1]} columns of {shard.dtype}, and the first "
                    f"file {columns} of {self.dtype}; make them alike"
                )
        self.starts = np.cumsum([0, *(len(shard) for shard in shards)])
        self.shape = (int(self.starts[-1]), columns)

    def _take(self, numbers: np.ndarray) -> Tensor:
        found = torch.empty((len(numbers), self.shape[1]), dtype=self.dtype)
        order = np.argsort(numbers, kind="stable")
        ordered = numbers[order]
        ends = np.searchsorted(ordered, self.starts)
        for shard, start, first, end in zip(
            self.shards, self.starts, ends[:-1], ends[1:], strict=False
        ):
            if end > first:
                rows = shard._take(ordered[first:end] - start)
                found[torch.from_numpy(order[first:end])] = rows
        return found

    def stamp(self) -> Any:
        return [shard.stamp() for shard in self.shards]


def as_rows(name: str, value: Any) -> Rows:
    """``value`` as rows: a tensor or what `checks.as_records` takes, a memmap, a file or a folder.

    A folder holds ``.npy`` or ``.parquet`` files, taken in the order of their names. Raises
    TypeError or ValueError naming ``name``, or the file, and what to do.
    """
    if isinstance(value, Rows):
        return value
    if isinstance(value, np.memmap):
        return Mapped(name, value)
    if isinstance(value, str | Path):
        path = checks.as_path(name, value)
        if path.is_dir() or path.suffix in SUFFIXES:
            return _in_files(name, path)
    return Held(name, checks.as_records(name, value).detach())


def _in_files(name: str, path: Path) -> Rows:
    files = [path]
    if path.is_dir():
        files = sorted(file for file in path.iterdir() if file.suffix in SUFFIXES)
    if not files or len({file.suffix for file in files}) > 1:
        raise ValueError(
            f"{name} is the folder {path}, which must hold .npy files, or .parquet files, and not "
            "both"
        )
    if files[0].suffix == ".parquet":
        from privgan.reports.parquet import decoded  # which needs pyarrow

        return decoded(name, files)
    shards: list[Rows] = []
    for file in files:
        with reading(file, f"{name} cannot be read from {file}"):
            array = np.load(file, mmap_mode="r")
        shards.append(Mapped(f"{name} in {file}", array))
    if len(shards) == 1:
        shards[0].name = name
    return shards[0] if len(shards) == 1 else Shards(name, shards)


def checked(name: str, rows: Tensor, numbers: Tensor) -> None:
    """Raise ValueError for a row (k, d) that is not finite, by its own number of these (k,)."""
    if rows.sum().isfinite():
        return
    bad = ~rows.isfinite()
    if bad.any():
        row, column = (int(i) for i in bad.nonzero()[0])
        count = int(bad.any(1).sum())
        raise ValueError(
            f"{name} has {count} non-finite row{'' if count == 1 else 's'} among {len(rows)} that "
            f"were taken, the first at row {int(numbers[row])} (column {column}); remove or repair "
            f"{'it' if count == 1 else 'them'} first"
        )
