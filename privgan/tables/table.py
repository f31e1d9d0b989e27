"""A table by its public schema: what goes in, what is reported, and what comes out again."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, field
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from privgan import checks, reports
from privgan.files import reading, write_atomically
from privgan.mechanisms import Product, Sampled
from privgan.reports import Reports
from privgan.streams import stream
from privgan.tables.columns import Category, Column, Misfit, YesNo
from privgan.tables.promises import in_words
from privgan.tables.ranges import Date, Integer, Number, Place
from privgan.values import Value

KINDS: dict[str, type[Column]] = {
    "number": Number,
    "integer": Integer,
    "category": Category,
    "yes/no": YesNo,
    "date": Date,
    "place": Place,
}


@dataclass(frozen=True, eq=False, repr=False)
class Table(Value):
    """A schema of columns, public facts only: ``Table(Integer("age", 17, 90), YesNo("smokes"))``.

    Nothing here is read off data. A record is a row; what is reported of it is in which cells its
    values lie, through a mechanism for each column. Raises ValueError for a name that comes twice.

    >>> from privgan.tables import Category, Integer
    >>> table = pg.Table(Integer("age", 17, 90), Category("work", ["office", "farm"]))
    >>> round(table.mechanism(epsilon=2.0).epsilon(), 6)  # for the whole row
    2.0
    """

    columns: tuple[Column, ...]
    slices: tuple[slice, ...] = field(init=False)  # of a one-hot record: each column's cells

    def __init__(self, *columns: Column):
        for c, column in enumerate(columns):
            checks.instance(f"columns[{c}]", column, Column)
        names = [name for column in columns for name in column.names]
        twice = [name for n, name in enumerate(names) if name in names[:n]]
        if twice or not columns:
            raise ValueError(f"column {twice[0]!r} comes twice" if twice else "there is no column")
        ends = np.cumsum([0, *(column.k for column in columns)]).tolist()
        slices = tuple(slice(a, b) for a, b in pairwise(ends))
        vars(self).update(columns=columns, slices=slices)

    @property
    def names(self) -> list[str]:
        """Of a frame's columns, in order."""
        return [name for column in self.columns for name in column.names]

    # --- schemas as files -------------------------------------------------------------------

    @classmethod
    def read(cls, path: str | Path) -> "Table":
        """The schema in a JSON or YAML file: ``columns``, each with ``name``, ``kind`` and the
        arguments of its class. Raises OSError, or ValueError naming the column that is wrong."""
        place = checks.as_path("path", path)
        with reading(place, f"{place} cannot be read as a schema"):
            text = place.read_text()
        try:
            if place.suffix.lower() in (".yaml", ".yml"):
                import yaml

                said = yaml.safe_load(text)
            else:
                said = json.loads(text)
        except ImportError:
            raise ImportError("a YAML schema needs pyyaml: pip install pyyaml") from None
        except Exception as error:
            raise ValueError(f"{place} is no JSON or YAML: {error}") from None
        return cls.from_plain(said)

    @classmethod
    def from_plain(cls, said: Any) -> "Table":
        """The schema that `plain` wrote down."""
        columns = said.get("columns") if isinstance(said, Mapping) else said
        if not isinstance(columns, Sequence) or isinstance(columns, str):
            raise ValueError("a schema is a list of columns, under the key columns")
        return cls(*(_column(c, entry) for c, entry in enumerate(columns)))

    def plain(self) -> dict[str, Any]:
        """The schema in what JSON and YAML know."""
        kinds = {kind: name for name, kind in KINDS.items()}
        columns = []
        for column in self.columns:
            said: dict[str, Any] = {"name": column.name, "kind": kinds[type(column)]}
            for name, f in type(column).__dataclass_fields__.items():
                value = vars(column).get(name, f.default)
                if f.init and name != "name" and value != f.default:
                    said[name] = [*value] if isinstance(value, tuple) else value
            columns.append(said)
        return {"columns": columns}

    def save(self, path: str | Path) -> None:
        """Write the schema as JSON, for `read`."""
        text = json.dumps(self.plain(), indent=2, ensure_ascii=False)
        write_atomically(checks.as_path("path", path), text + "\n", "schema")

    # --- frames, values and records ---------------------------------------------------------

    def encode(self, frame: Any) -> np.ndarray:
        """A pandas or Polars frame as numbers (n, len(names)), float64, NaN where missing.

        Nothing is lost: `decode` gives the frame back. Raises ValueError for columns that are
        wrong, missing, twice or in another order, and for the first value that does not fit, by its
        column and row; TypeError for what is no frame.
        """
        frame = _pandas(frame)
        self._check_names([*frame.columns])
        parts = []
        for column in self.columns:
            try:
                own = [frame[name].reset_index(drop=True) for name in column.names]
                parts.append(column.encode(own))
            except Misfit as error:
                raise ValueError(
                    f"column {column.name!r}, row {error.row} {error.what}; repair the value, or "
                    "the schema if it is public that there are such"
                ) from None
        return np.concatenate(parts, 1)

    def decode(self, values: Any, *, polars: bool = False) -> Any:
        """The pandas frame of encoded ``values`` (n, len(names)), every column in its dtype.

        polars: a Polars frame instead. Raises ValueError for another number of columns.
        """
        import pandas as pd

        found = np.asarray(values, np.float64)
        if found.ndim != 2 or found.shape[1] != len(self.names):
            raise ValueError(
                f"values has shape {found.shape}; expected (n, {len(self.names)}), as of encode"
            )
        series: dict[str, Any] = {}
        start = 0
        for column in self.columns:
            stop = start + len(column.names)
            series.update(zip(column.names, column.decode(found[:, start:stop]), strict=True))
            start = stop
        frame = pd.DataFrame(series)
        if not polars:
            return frame
        return import_module("polars").from_pandas(frame)

    def records(self, frame: Any) -> Tensor:
        """The one-hot cells (n, d) of a frame's values, float32: what mechanisms take."""
        values, parts, start = self.encode(frame), [], 0
        if not len(values):
            raise ValueError("frame has no rows; give at least one record")
        for column in self.columns:
            stop = start + len(column.names)
            codes = torch.from_numpy(column.codes(values[:, start:stop]))
            parts.append(torch.nn.functional.one_hot(codes, column.k).float())
            start = stop
        return torch.cat(parts, 1)

    def codes(self, records: Tensor) -> np.ndarray:
        """Cell numbers (n, columns) of one-hot ``records`` (n, d)."""
        cells = [records[:, s].argmax(1) for s in self.slices]
        return torch.stack(cells, 1).cpu().numpy()

    def frame(self, records: Tensor, *, seed: int | None = None, polars: bool = False) -> Any:
        """A frame of one-hot ``records`` (n, d), say generated ones, drawn in its cells."""
        records = checks.as_records("records", records)
        if records.shape[1] != self.slices[-1].stop:
            raise ValueError(
                f"records has {records.shape[1]} columns, and the cells of this table are "
                f"{self.slices[-1].stop}"
            )
        own = torch.randint(2**63 - 1, (4,), generator=stream(seed, "cells"))
        rng = np.random.default_rng(own.tolist())
        codes = self.codes(records)
        parts = [column.draw(codes[:, c], rng) for c, column in enumerate(self.columns)]
        return self.decode(np.concatenate(parts, 1), polars=polars)

    # --- privacy ----------------------------------------------------------------------------

    def mechanism(
        self,
        epsilon: float,
        *,
        choose: int | None = None,
        weights: Mapping[str, float] | None = None,
    ) -> Product | Sampled:
        """What turns a record (one-hot cells) into a report that spends ``epsilon``.

        choose: how many columns a report is about, each with epsilon / choose; drawn anew for every
        record. By default the square root of epsilon, rounded up. As many as there are: all,
        independently. weights: how much a column matters, 1 where nothing is said: it is
        drawn the more often, or where all are reported, has the larger share of epsilon.
        """
        epsilon = checks.positive("epsilon", epsilon)
        if choose is None:
            choose = min(len(self.columns), math.ceil(math.sqrt(epsilon)))
        choose = checks.positive_int("choose", choose)
        if choose > len(self.columns):
            raise ValueError(f"choose is {choose}, but there are {len(self.columns)} columns")
        given = {} if weights is None else dict(weights)
        if unknown := given.keys() - {column.name for column in self.columns}:
            raise ValueError(f"weights has {min(unknown)!r}, which is no column's name")
        each = [given.get(column.name, 1.0) for column in self.columns]
        blocks = [(s, column.channel) for s, column in zip(self.slices, self.columns, strict=True)]
        if choose == len(blocks):
            return Product.calibrate(*blocks, epsilon=epsilon, shares=each)
        return Sampled.calibrate(*blocks, epsilon=epsilon, choose=choose, weights=each)

    def release(
        self,
        frame: Any,
        *,
        epsilon: float,
        choose: int | None = None,
        weights: Mapping[str, float] | None = None,
    ) -> Reports:
        """Reports of every row of a frame, or of one row as a mapping, fit to leave the device.

        Exact noise without a seed, as `privgan.release`. Everything is checked before any of it is
        drawn: a row that does not fit spends nothing.
        """
        records = self.records(frame)
        return reports.release(records, self.mechanism(epsilon, choose=choose, weights=weights))

    def simulate(
        self,
        frame: Any,
        *,
        epsilon: float,
        seed: int,
        choose: int | None = None,
        weights: Mapping[str, float] | None = None,
    ) -> Reports:
        """`release` for research: repeatable noise, which protects nobody."""
        mechanism = self.mechanism(epsilon, choose=choose, weights=weights)
        return reports.simulate(self.records(frame), mechanism, seed=seed)

    def describe(
        self,
        epsilon: float,
        n: int = 10_000,
        *,
        choose: int | None = None,
        weights: Mapping[str, float] | None = None,
    ) -> str:
        """In plain words what a person spends, and what ``n`` reports will be able to tell."""
        mechanism = self.mechanism(epsilon, choose=choose, weights=weights)
        names = [column.name for column in self.columns]
        return in_words(names, mechanism, checks.positive_int("n", n))

    def _check_names(self, given: list[Any]) -> None:
        twice = [name for n, name in enumerate(given) if name in given[:n]]
        if twice:
            raise ValueError(f"frame has column {twice[0]!r} twice; keep one of them")
        if lacking := [name for name in self.names if name not in given]:
            raise ValueError(f"frame lacks column {lacking[0]!r}, which the schema has")
        if extra := [name for name in given if name not in self.names]:
            raise ValueError(f"frame has column {extra[0]!r}, which the schema lacks; drop it")
        if given != self.names:
            wrong = next(g for g, name in zip(given, self.names, strict=True) if g != name)
            raise ValueError(
                f"frame has its columns in another order than the schema, from {wrong!r} on; take "
                "frame[table.names]"
            )


def _pandas(frame: Any) -> Any:
    """What a person hands over as a pandas frame: a frame of either kind, or a row as a mapping."""
    try:
        import pandas as pd
    except ImportError:
        raise ImportError("tables need pandas: pip install pandas") from None
    if isinstance(frame, pd.DataFrame):
        return frame
    if isinstance(frame, pd.Series):
        return frame.to_frame().T.infer_objects()
    if isinstance(frame, Mapping):
        return pd.DataFrame([dict(frame)])
    if hasattr(frame, "to_pandas"):
        return frame.to_pandas()
    raise TypeError(f"frame must be a data frame or a row as a dict, got {checks.shown(frame)}")


def _column(c: int, entry: Any) -> Column:
    if not isinstance(entry, Mapping) or "name" not in entry or entry.get("kind") not in KINDS:
        raise ValueError(f"columns[{c}] needs a name and a kind, one of {', '.join(KINDS)}")
    where, kind = f"columns[{c}], {entry['name']!r}", KINDS[entry["kind"]]
    # To YAML a bare yes is True, as a key too.
    words = {True: "yes", False: "no"}
    arguments = {str(words.get(k, k)): value for k, value in entry.items() if k != "kind"}
    for word in words.values() if kind is YesNo else ():
        if isinstance(arguments.get(word), bool):
            arguments[word] = words[arguments[word]]
    fields = {name: f for name, f in kind.__dataclass_fields__.items() if f.init}
    needed = [n for n, f in fields.items() if f.default is MISSING and f.default_factory is MISSING]
    unknown = [name for name in arguments if name not in fields]
    if unknown or not arguments.keys() >= {*needed}:
        wrong = f"knows no {unknown[0]!r}" if unknown else "lacks something"
        others = [name for name in fields if name not in needed]
        raise ValueError(
            f"{where} {wrong}; a column of kind {entry['kind']} takes {', '.join(needed)}"
            + (f" and, if you like, {', '.join(others)}" if others else "")
        )
    try:
        return kind(**arguments)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{where}: {error}") from None
