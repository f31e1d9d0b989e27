"""Columns of a table by what is public about them: bounds, alphabets, and what missing means.

A column is known to a mechanism by its cells: the categories, or the parts that a range is cut
into; and one more for a missing value where there may be some. Values keep their precision in
`Column.encode` and `Column.decode`; `Column.codes` and `Column.draw` go to cells and back.
"""

import math
from abc import abstractmethod
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import KW_ONLY, dataclass
from typing import Any, ClassVar

import numpy as np

from privgan import checks
from privgan.mechanisms import Mechanism, SubsetSelection, Window
from privgan.values import Value


class Misfit(ValueError):
    """A value that does not fit its column: in which ``row``, and ``what`` is wrong with it."""

    def __init__(self, row: int, what: str):
        super().__init__(what)
        self.row, self.what = int(row), what


@dataclass(frozen=True, eq=False, repr=False)
class Column(Value):
    """Base: a column called ``name``.

    missing: whether values may be missing; or texts that stand for that too, such as "?". dtype: of
    the decoded column, in pandas' words; by default what suits the kind.
    """

    name: str
    _: KW_ONLY
    missing: bool | Sequence[str] = False
    dtype: str | None = None

    ordered: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name:
            raise TypeError(f"name must be a column's name, got {checks.shown(self.name)}")
        if not isinstance(self.missing, bool):
            texts = (self.missing,) if isinstance(self.missing, str) else self.missing
            texts = tuple(checks.sequence(f"{self.name}: missing", texts, "texts"))
            vars(self).update(missing=texts or False)
        if self.dtype is not None:
            checks.instance(f"{self.name}: dtype", self.dtype, str)

    @property
    def names(self) -> tuple[str, ...]:
        """Of the frame's columns that it covers."""
        return (self.name,)

    @property
    def k(self) -> int:
        """Cells, and one for missing values where there may be some."""
        return len(self.labels()) + bool(self.missing)

    @property
    def marks(self) -> Sequence[str]:
        """The texts that stand for a missing value."""
        return () if isinstance(self.missing, bool) else self.missing

    @property
    def worded(self) -> bool:
        """Whether its values are words, which a reader of texts must not take for numbers."""
        return False

    def channel(self, epsilon: float) -> Mechanism:
        """The mechanism for this column's cells: windows where they have an order, sets else."""
        kind = Window if self.ordered and self.k > 4 else SubsetSelection
        return kind.calibrate(epsilon=epsilon, k=self.k)

    @abstractmethod
    def encode(self, columns: Sequence[Any]) -> np.ndarray:
        """pandas columns as float64 (n, len(names)), NaN where missing. Raises `Misfit`."""

    def codes(self, values: np.ndarray) -> np.ndarray:
        """Cells of encoded values (n, len(names)), (n,) int64; the last for what is missing."""
        there = ~np.isnan(values).any(1)
        found = np.full(len(values), len(self.labels()))
        found[there] = self._cells(values[there])
        return found

    def draw(self, codes: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Encoded values (n, len(names)), each anywhere in its cell."""
        values = np.full((len(codes), len(self.names)), math.nan)
        there = codes < len(self.labels())
        values[there] = self._within(codes[there], rng)
        return values

    def decode(self, values: np.ndarray) -> list[Any]:
        """pandas columns of encoded values (n, len(names)), in their dtypes."""
        import pandas as pd

        found = [pd.Series(self._column(value)) for value in values.T]
        return [column if self.dtype is None else column.astype(self.dtype) for column in found]

    @abstractmethod
    def labels(self) -> list[str]:
        """What the cells are called, without the one for missing values."""

    @abstractmethod
    def _cells(self, values: np.ndarray) -> np.ndarray:
        """The cells (n,) of numbers (n, len(names)), none of which is NaN."""

    @abstractmethod
    def _within(self, codes: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Numbers (n, len(names)) of these cells."""

    @abstractmethod
    def _column(self, values: np.ndarray) -> Any:
        """A pandas array of numbers (n,), NaN where missing."""


@dataclass(frozen=True, eq=False, repr=False)
class Single(Column):
    """Base: a column that is one of the frame's."""

    def encode(self, columns: Sequence[Any]) -> np.ndarray:
        column = columns[0]
        gone = column.isna().to_numpy(bool)
        gone = gone | column.isin([*self.marks, *_said(self.marks)]).to_numpy(bool)
        if gone.any() and not self.missing:
            raise Misfit(gone.argmax(), "is missing, which the schema does not allow")
        values = np.full((len(column), 1), math.nan)
        rows = np.flatnonzero(~gone)
        try:
            values[rows, 0] = self._numbers(column[~gone])
        except Misfit as error:
            raise Misfit(rows[error.row], error.what) from None
        return values

    @abstractmethod
    def _numbers(self, column: Any) -> np.ndarray:
        """A pandas column without missing values as numbers (n,)."""


def _said(texts: Sequence[str]) -> list[float]:
    """The numbers that texts say: what a file calls "-9" a frame may hold as a number."""
    found = []
    for text in texts:
        with suppress(ValueError):
            found.append(float(text))
    return [number for number in found if math.isfinite(number)]


class Coded(Single):
    """Base: a column whose numbers are its cells."""

    def _cells(self, values: np.ndarray) -> np.ndarray:
        return values[:, 0].astype(np.int64)

    def _within(self, codes: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        return codes[:, None]


@dataclass(frozen=True, eq=False, repr=False)
class Category(Coded):
    """One of the ``labels``: texts, or integers; the public alphabet, not what occurs.

    ordered: whether neighbouring labels are alike, as on a scale from bad to good.
    """

    alphabet: Sequence[str | int]
    _: KW_ONLY
    ordered: bool = False  # type: ignore[misc]

    def __post_init__(self) -> None:
        super().__post_init__()
        name = f"{self.name}: alphabet"
        alphabet = tuple(checks.sequence(name, self.alphabet, "labels"))
        kinds = {type(label) for label in alphabet}
        if len(alphabet) < 2 or kinds not in ({str}, {int}) or len(set(alphabet)) < len(alphabet):
            raise ValueError(f"{name} must be two or more different texts, or different integers")
        if set(self.marks) & set(alphabet):
            raise ValueError(f"{name} holds a label that stands for a missing value too")
        vars(self).update(alphabet=alphabet, ordered=checks.flag("ordered", self.ordered))

    @property
    def worded(self) -> bool:
        return isinstance(self.alphabet[0], str)

    def labels(self) -> list[str]:
        return [str(label) for label in self.alphabet]

    def _numbers(self, column: Any) -> np.ndarray:
        import pandas as pd

        codes = pd.Index(self.alphabet).get_indexer(pd.Index(column.astype(object)))
        if (codes < 0).any():
            raise Misfit((codes < 0).argmax(), f"is none of the {len(self.alphabet)} categories")
        return codes

    def _column(self, values: np.ndarray) -> Any:
        import pandas as pd

        gone = np.isnan(values)
        found = np.array([*self.alphabet], object)[np.where(gone, 0, values).astype(int)]
        if isinstance(self.alphabet[0], str):
            found[gone] = None
            return pd.array(found, dtype="str")
        found[gone] = pd.NA
        return pd.array(found, dtype="Int64" if self.missing else "int64")


@dataclass(frozen=True, eq=False, repr=False)
class YesNo(Coded):
    """True or False. yes, no: what a file says for them."""

    _: KW_ONLY
    yes: str | int = "True"
    no: str | int = "False"

    def __post_init__(self) -> None:
        super().__post_init__()
        if str(self.yes) == str(self.no):
            raise ValueError(f"{self.name}: yes and no must be said in different words")

    @property
    def worded(self) -> bool:
        """But for True and False, which readers know in any spelling."""
        words = (self.yes, self.no)
        return words != ("True", "False") and any(isinstance(word, str) for word in words)

    def labels(self) -> list[str]:
        return ["no", "yes"]

    def _numbers(self, column: Any) -> np.ndarray:
        # True is 1 to a dict, and a file may well say 1 for no and 2 for yes: bools by themselves.
        given = [isinstance(value, bool | np.bool_) for value in column]
        words = {str(self.yes): 1.0, str(self.no): 0.0, self.yes: 1.0, self.no: 0.0}
        said = column.astype(object).map(words).to_numpy(np.float64)
        truth = column.astype(object).map({True: 1.0, False: 0.0}).to_numpy(np.float64)
        found = np.where(given, truth, said)
        if np.isnan(found).any():
            said = f"is neither {self.yes!r} nor {self.no!r}, the schema's words for yes and no"
            raise Misfit(np.isnan(found).argmax(), said)
        return found

    def _column(self, values: np.ndarray) -> Any:
        import pandas as pd

        if not self.missing:
            return values == 1
        return pd.arrays.BooleanArray(values == 1, np.isnan(values))
