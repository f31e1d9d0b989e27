"""Parquet files as rows. They hold columns, packed in groups, of which no row can be had alone.

So they are decoded, a piece at a time, into a file without a name, as long as its numbers, in the
system's folder for temporary files (``TMPDIR`` chooses it); it is gone when nobody reads it.
"""

import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from privgan.files import reading
from privgan.reports.rows import Mapped

BATCH = 2**16  # rows decoded at a time


class Decoded(Mapped):
    """Rows that were decoded from ``files``, which they are told from others by."""

    def __init__(self, name: str, array: np.memmap, files: list[Path]):
        super().__init__(name, array)
        self.files = files

    def stamp(self) -> Any:
        stats = [file.stat() for file in self.files]
        return [[stat.st_size, stat.st_mtime_ns] for stat in stats]


def decoded(name: str, files: list[Path]) -> Decoded:
    """All columns of Parquet ``files``, which must be numbers, float32 or float64, and no nulls."""
    try:
        from pyarrow import parquet
    except ImportError as error:
        raise ImportError(
            f"{name} is in Parquet files, which need pyarrow: pip install pyarrow"
        ) from error
    with tempfile.TemporaryFile() as space:
        first: Any = None
        rows = 0
        for file in files:
            with reading(file, f"{name} cannot be read from {file}"):
                source = parquet.ParquetFile(file)
                kinds = [(c.name, str(c.type)) for c in source.schema_arrow]
                first = first or kinds
                if kinds != first:
                    raise ValueError(f"its columns are not those of {files[0].name}")
                if len({kind for _, kind in kinds}) > 1 or kinds[0][1] not in ("float", "double"):
                    raise ValueError("its columns are not all float32, nor all float64")
                for batch in source.iter_batches(BATCH):
                    if null := [c for c in range(len(kinds)) if batch.column(c).null_count]:
                        column = kinds[null[0]][0]
                        fault = f"its column {column!r} has empty cells; drop or fill them"
                        raise ValueError(fault)
                    columns = [column.to_numpy() for column in batch.columns]
                    space.write(np.stack(columns, 1).tobytes())
                    rows += batch.num_rows
        space.flush()
        if not rows:
            raise ValueError(f"{name} is empty; give at least one record")
        dtype = np.float32 if first[0][1] == "float" else np.float64
        array = np.memmap(space, dtype, "r", shape=(rows, len(first)))
    return Decoded(name, array, files)
