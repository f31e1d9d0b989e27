"""Raw tables and private reports as files: CSV and Parquet."""

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch

from privgan import checks
from privgan.files import parse, reading, write_atomically
from privgan.mechanisms import Mechanism
from privgan.plain import from_plain
from privgan.reports import Reports
from privgan.reports.collection import FORMAT, KINDS
from privgan.tables.columns import Category
from privgan.tables.table import Table
from privgan.tables.training import check_fits

KEY = b"privgan"  # of the metadata in a Parquet file


def read_frame(path: str | Path, table: Table) -> Any:
    """A CSV or Parquet file as a pandas frame; texts stay texts where the schema has such labels.

    Raises OSError, or ValueError naming the path.
    """
    import pandas as pd

    checks.instance("table", table, Table)
    place = checks.as_path("path", path)
    texts = {
        c.name: str
        for c in table.columns
        if isinstance(c, Category) and isinstance(c.alphabet[0], str)
    }
    with reading(place, f"{place} cannot be read as a table"):
        if place.suffix.lower() == ".parquet":
            return pd.read_parquet(place)
        return pd.read_csv(
            place, dtype=texts, skipinitialspace=True, keep_default_na=False, na_values=[""]
        )


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


def write_reports(path: str | Path, table: Table, reports: Reports) -> None:
    """Reports of a table as one Parquet file, with the schema and the mechanism beside them."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    checks.instance("table", table, Table)
    checks.instance("reports", reports, Reports)
    check_fits(table, reports.mechanism)
    bits = reports.rows.tensor().cpu().numpy().astype(np.uint8)
    columns = pa.table({f"{j}": bits[:, j] for j in range(bits.shape[1])})
    said = json.dumps({"table": table.plain(), "reports": reports.metadata})
    buffer = io.BytesIO()
    pq.write_table(columns.replace_schema_metadata({KEY: said}), buffer, compression="zstd")
    write_atomically(checks.as_path("path", path), buffer.getvalue(), "reports")


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
