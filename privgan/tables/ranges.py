"""Columns that have a range: numbers, integers, dates and places, cut into public cells."""

import datetime
from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass, field
from typing import Any, ClassVar

import numpy as np

from privgan import checks
from privgan.mechanisms import Mechanism, SubsetSelection
from privgan.tables.columns import Column, Misfit, Single

CELLS = 16  # that a range is cut into, unless said otherwise
MOST = 10_000  # cells of a column: a schema may come from a stranger
EXACT = 2**53  # integers up to it are float64 numbers
DAY = 86_400_000_000  # microseconds


@dataclass(frozen=True, eq=False, repr=False)
class Ranged(Single):
    """Base: one number from ``low`` to ``high``.

    cells: how many equal parts of the range, or where each begins: numbers that rise from low.
    """

    low: Any
    high: Any
    _: KW_ONLY
    cells: int | Sequence[Any] = CELLS
    starts: np.ndarray = field(init=False)  # of the cells, (cells,), in encoded numbers
    ends: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        low, high = (self._public(end, getattr(self, end)) for end in ("low", "high"))
        if not low < high:
            raise ValueError(f"{self.name}: low must be below high")
        if isinstance(self.cells, Sequence) and not isinstance(self.cells, str):
            starts = np.array([self._public("cells", start) for start in self.cells])
            rising = len(starts) > 1 and (np.diff(starts) > 0).all()
            if not rising or starts[0] != low or starts[-1] >= high:
                raise ValueError(
                    f"{self.name}: cells must be two or more numbers that rise, the first of them "
                    "low, the last below high"
                )
            vars(self).update(cells=tuple(self.cells))
        else:
            cells = checks.positive_int(f"{self.name}: cells", self.cells)
            starts = self._equal(low, high, min(cells, MOST))
            if cells > MOST or len(starts) < 2:
                raise ValueError(f"{self.name}: cells must be 2 to {MOST}, got {self.cells}")
        vars(self).update(starts=starts, ends=np.append(starts[1:], high))

    def __getstate__(self) -> dict[str, Any]:
        derived = ("starts", "ends")
        return {k: v for k, v in super().__getstate__().items() if k not in derived}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self.__post_init__()

    def _public(self, what: str, value: Any) -> float:
        return checks.public(f"{self.name}: {what}", value)

    def _equal(self, low: float, high: float, cells: int) -> np.ndarray:
        return low + (high - low) * np.arange(cells) / cells

    def labels(self) -> list[str]:
        return [f"{low:g} to {high:g}" for low, high in zip(self.starts, self.ends, strict=True)]

    def _numbers(self, column: Any) -> np.ndarray:
        import pandas as pd

        whole = pd.to_numeric(column, errors="coerce").to_numpy(np.float64, na_value=np.nan)
        wrong = np.isnan(whole)
        if column.dtype.kind in "bO":  # True is 1 to pandas, and no number to us
            wrong = wrong | np.array([isinstance(v, bool | np.bool_) for v in column], bool)
        if wrong.any():
            raise Misfit(int(wrong.argmax()), "is no number")
        if column.dtype.kind in "iu" and (abs(column) >= EXACT).any():
            raise Misfit(
                (abs(column) >= EXACT).to_numpy().argmax(), "is outside the schema's range"
            )
        return self._inside(whole, self.starts[0], self.ends[-1])

    def _inside(self, found: np.ndarray, low: float, high: float) -> np.ndarray:
        outside = ~((found >= low) & (found <= high))
        if outside.any():
            raise Misfit(int(outside.argmax()), "is outside the schema's range")
        return found

    def _cells(self, values: np.ndarray) -> np.ndarray:
        return np.searchsorted(self.starts, values[:, 0], side="right") - 1

    def _within(self, codes: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        u = rng.random(len(codes))
        found = self.starts[codes] + u * (self.ends[codes] - self.starts[codes])
        return np.minimum(found, self.ends[codes])[:, None]

    def _column(self, values: np.ndarray) -> Any:
        return values


@dataclass(frozen=True, eq=False, repr=False)
class Number(Ranged):
    """A number from ``low`` to ``high``, both included."""


@dataclass(frozen=True, eq=False, repr=False)
class Integer(Ranged):
    """An integer from ``low`` to ``high``, both included."""

    def _public(self, what: str, value: Any) -> float:
        found = checks.integer(f"{self.name}: {what}", value)
        if abs(found) >= EXACT:
            raise ValueError(f"{self.name}: {what} must be below 2^53 in size")
        return found

    def _equal(self, low: float, high: float, cells: int) -> np.ndarray:
        """As even as integers allow, and no more cells than there are of these."""
        many = int(high - low) + 1
        return low + np.arange(min(cells, many)) * many // min(cells, many)

    def labels(self) -> list[str]:
        lasts = [*(self.starts[1:] - 1), self.ends[-1]]
        pairs = zip(self.starts, lasts, strict=True)
        return [f"{a:.0f}" if a == b else f"{a:.0f} to {b:.0f}" for a, b in pairs]

    def _numbers(self, column: Any) -> np.ndarray:
        found = super()._numbers(column)
        if (found != np.floor(found)).any():
            raise Misfit((found != np.floor(found)).argmax(), "is no integer")
        return found

    def _within(self, codes: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        after = np.append(self.starts[1:], self.ends[-1] + 1).astype(np.int64)
        return rng.integers(self.starts.astype(np.int64)[codes], after[codes])[:, None]

    def _column(self, values: np.ndarray) -> Any:
        import pandas as pd

        if not self.missing:
            return values.astype(np.int64)
        gone = np.isnan(values)
        return pd.arrays.IntegerArray(np.where(gone, 0, values).astype(np.int64), gone)


@dataclass(frozen=True, eq=False, repr=False)
class Date(Ranged):
    """A day or a time from ``low`` to the end of the day ``high``, in ISO words: "2024-02-29".

    Decoded as datetime64 in microseconds; drawn values are whole days.
    """

    def _public(self, what: str, value: Any) -> float:
        if isinstance(value, datetime.date) and not isinstance(value, datetime.datetime):
            value = value.isoformat()  # as YAML reads a bare date
            if what != "cells":
                vars(self)[what] = value
        checks.instance(f"{self.name}: {what}", value, str)
        day = datetime.date.fromisoformat(value).toordinal()
        day -= datetime.date(1970, 1, 1).toordinal()
        return float(day + (what == "high"))  # the day after the last is where the range ends

    def _equal(self, low: float, high: float, cells: int) -> np.ndarray:
        cells = min(cells, int(high - low))
        return np.floor(low + np.arange(cells) * (high - low) / cells)

    def labels(self) -> list[str]:
        def day(number: float) -> str:
            return str(datetime.date(1970, 1, 1) + datetime.timedelta(days=float(number)))

        pairs = zip(self.starts, self.ends - 1, strict=True)
        return [day(a) if a == b else f"{day(a)} to {day(b)}" for a, b in pairs]

    def _numbers(self, column: Any) -> np.ndarray:
        import pandas as pd

        found = pd.to_datetime(column, errors="coerce", format="ISO8601")
        if getattr(found.dtype, "tz", None) is not None:
            raise Misfit(0, "has a time zone; convert the column to UTC and drop it")
        if found.isna().any():
            raise Misfit(found.isna().to_numpy().argmax(), "is no date, such as 2024-02-29")
        micros = found.to_numpy("datetime64[us]").astype(np.int64).astype(np.float64)
        last = np.nextafter(self.ends[-1] * DAY, -np.inf)
        return self._inside(micros, self.starts[0] * DAY, last)

    def _cells(self, values: np.ndarray) -> np.ndarray:
        return super()._cells(values / DAY)

    def _within(self, codes: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        ends = self.ends.astype(np.int64)
        days = rng.integers(self.starts.astype(np.int64)[codes], ends[codes])
        return days[:, None].astype(np.float64) * DAY

    def _column(self, values: np.ndarray) -> Any:
        gone = np.isnan(values)
        found = np.where(gone, 0, values).astype(np.int64).astype("datetime64[us]")
        found[gone] = np.datetime64("NaT")
        return found


@dataclass(frozen=True, eq=False, repr=False)
class Place(Column):
    """Where something is: the frame's columns ``latitude`` and ``longitude``, in degrees.

    south, north, west, east: the public bounds. rows, columns: of equal cells that they are cut
    into. A missing place has neither number.
    """

    latitude: str
    longitude: str
    _: KW_ONLY
    south: float = -90.0
    north: float = 90.0
    west: float = -180.0
    east: float = 180.0
    rows: int = 6
    columns: int = 12

    ordered: ClassVar[bool] = False

    def __post_init__(self) -> None:
        super().__post_init__()
        low, high = self._corner("south", "west"), self._corner("north", "east")
        if not (low < high).all():
            raise ValueError(f"{self.name}: south and west must be below north and east")
        for side in ("rows", "columns"):
            checks.positive_int(f"{self.name}: {side}", getattr(self, side))
        if not 2 <= self.rows * self.columns <= MOST:
            raise ValueError(f"{self.name}: rows times columns must be 2 to {MOST} cells")

    def _corner(self, *ends: str) -> np.ndarray:
        return np.array([checks.public(f"{self.name}: {e}", getattr(self, e)) for e in ends])

    @property
    def names(self) -> tuple[str, ...]:
        return self.latitude, self.longitude

    @property
    def _step(self) -> np.ndarray:
        low, high = self._corner("south", "west"), self._corner("north", "east")
        return (high - low) / (self.rows, self.columns)

    def channel(self, epsilon: float) -> Mechanism:
        return SubsetSelection.calibrate(epsilon=epsilon, k=self.k)

    def labels(self) -> list[str]:
        (south, west), (up, right) = self._corner("south", "west"), self._step
        return [
            f"{south + r * up:g} to {south + (r + 1) * up:g} N, "
            f"{west + c * right:g} to {west + (c + 1) * right:g} E"
            for r in range(self.rows)
            for c in range(self.columns)
        ]

    def encode(self, columns: Sequence[Any]) -> np.ndarray:
        ends = [("south", "north"), ("west", "east")]
        parts = [
            Number(self.name, *self._corner(*end).tolist(), missing=self.missing).encode([column])
            for end, column in zip(ends, columns, strict=True)
        ]
        values = np.concatenate(parts, 1)
        half = np.isnan(values).sum(1) == 1
        if half.any():
            raise Misfit(half.argmax(), "has one of latitude and longitude only")
        return values

    def _cells(self, values: np.ndarray) -> np.ndarray:
        grid = ((values - self._corner("south", "west")) / self._step).astype(np.int64)
        grid = np.minimum(grid, [self.rows - 1, self.columns - 1])
        return grid[:, 0] * self.columns + grid[:, 1]

    def _within(self, codes: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        grid = np.stack([codes // self.columns, codes % self.columns], 1)
        found = self._corner("south", "west") + (grid + rng.random(grid.shape)) * self._step
        return np.minimum(found, self._corner("north", "east"))

    def _column(self, values: np.ndarray) -> Any:
        return values
