"""Raw tables and private reports as files: CSV and Parquet."""

import io
import json
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch

from privgan import checks
from privgan.files import parse, reading, write_atomically
from privgan.mechanisms import Mechanism
from privgan.plain import from_plain
from privgan.reports import Reports
from privgan.reports.collection import FORMAT, KINDS
from privgan.tables.table import Table
from privgan.tables.training import check_fits

KEY = b"privgan"  # of the metadata in a Parquet file
PIECE = 2**20  # cells of the records that are read at a time


def read_frame(path: str | Path, table: Table) -> Any:
    """A CSV or Parquet file as a pandas frame; texts stay texts where the schema has such labels.

    Raises OSError, or ValueError naming the path.
    """
    import pandas as pd

    checks.instance("table", table, Table)
    place = checks.as_path("path", path)
    with reading(place, f"{place} cannot be read as a table"):
        if place.suffix.lower() == ".parquet":
            return pd.read_parquet(place)
        return pd.read_csv(place, **_as_csv(table))


def read_frames(path: str | Path, table: Table) -> Iterator[tuple[int, Any]]:
    """`read_frame` some rows at a time, each time with the first one's number; no rows at once.

    A CSV's columns get their types from the rows at hand; the schema makes the same of all.
    """
    import pandas as pd
    import pyarrow.parquet as pq

    checks.instance("table", table, Table)
    place, first = checks.as_path("path", path), 0
    size = max(1, PIECE // table.slices[-1].stop)
    with reading(place, f"{place} cannot be read as a table"), ExitStack() as opened:
        frames: Any
        if place.suffix.lower() == ".parquet":
            file = opened.enter_context(pq.ParquetFile(place))
            pieces = file.iter_batches(size) if file.metadata.num_rows else [file.read()]
            frames = (piece.to_pandas() for piece in pieces)
        else:
            frames = opened.enter_context(pd.read_csv(place, chunksize=size, **_as_csv(table)))
        for frame in frames:
            yield first, frame
            first += len(frame)


def _as_csv(table: Table) -> dict[str, Any]:
    """What pandas is to take for missing, column by column, and which columns it must not parse."""
    missing = {name: ["", *column.marks] for column in table.columns for name in column.names}
    texts = {column.name: str for column in table.columns if column.worded}
    empty: dict[str, Any] = {"keep_default_na": False, "na_values": missing}
    return {"dtype": texts, "skipinitialspace": True} | empty


def write_frame(path: str | Path, frame: Any) -> None:
    """A pandas frame as CSV or Parquet, by the name's ending; whole or not at all."""
    import pandas as pd

    checks.instance("frame", frame, pd.DataFrame)
    place = checks.as_path("path", path)
    if place.suffix.lower() == ".parquet":
        buffer = io.BytesIO()
        frame.to_parquet(buffer, index=False)
        write_atomically(place, buffer.getvalue(), "table")
    else:
        write_atomically(place, frame.to_csv(index=False), "table")


def write_reports(path: str | Path, table: Table, reports: Reports | Iterator[Reports]) -> int:
    """Reports of a table as one Parquet file, with the schema and the mechanism beside them.

    reports: or an iterator of parts of one release, each asked for when those before it are
    written, so that memory need not hold all. Returns how many reports there are. Raises OSError,
    or ValueError for reports of another table, or parts that differ in more than their values.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    checks.instance("table", table, Table)
    parts = reports if isinstance(reports, Iterator) else iter([reports])
    first = next(parts)
    checks.instance("reports", first, Reports)
    check_fits(table, first.mechanism)
    said = {KEY: json.dumps({"table": table.plain(), "reports": first.metadata})}
    names = [f"{j}" for j in range(first.rows.shape[1])]
    schema = pa.schema([(name, pa.uint8()) for name in names], metadata=said)
    written = 0

    def pieces(file: BinaryIO) -> None:
        nonlocal written
        with pq.ParquetWriter(file, schema, compression="zstd") as writer:
            for part in chain([first], parts):
                if part.metadata != first.metadata:
                    raise ValueError("reports are parts of several releases; write each by itself")
                for _, rows in part.rows.parts():
                    bits = rows.cpu().numpy().astype(np.uint8)
                    writer.write_batch(pa.record_batch([*bits.T], schema=schema))
                    written += len(bits)

    write_atomically(checks.as_path("path", path), pieces, "reports")
    return written


def read_reports(path: str | Path) -> tuple[Table, Reports]:
    """What `write_reports` wrote. Raises OSError, or ValueError for a file that is something else,
    is damaged, or claims what its values do not bear out."""
    import pyarrow.parquet as pq

    place = checks.as_path("path", path)
    with reading(place, f"{place} cannot be read as reports of a table"):
        columns = pq.read_table(place)
        said = parse((columns.schema.metadata or {}).get(KEY, b"{}").decode())
        if not isinstance(said, dict) or said.keys() != {"table", "reports"}:
            raise ValueError("it does not say what it holds; write it with write_reports")
        table, about = Table.from_plain(said["table"]), dict(said["reports"])
        if about.pop("format", None) != FORMAT:
            raise ValueError("its format is not known here")
        mechanism = from_plain(
            about.pop("mechanism"), KINDS, most=10 * place.stat().st_size + 10**6
        )
        checks.instance("mechanism", mechanism, Mechanism)
        check_fits(table, mechanism)
        bits = np.stack([column.to_numpy() for column in columns.columns], 1)
        return table, Reports(torch.from_numpy(bits.astype(np.float64)), mechanism, **about)
