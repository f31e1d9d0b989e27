"""Reports that say what they are: values, the mechanism behind them, what they have cost.

A curator who gets such a file needs nothing else: the matched loss follows from the mechanism.
What a file says is held against its values, and against what its mechanism spends.
"""

import io
import json
import math
import zipfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np
import torch
from torch import Tensor

from privgan import checks
from privgan._version import __version__
from privgan.files import content, parse, reading, write_atomically
from privgan.mechanisms import Mechanism
from privgan.mechanisms.base import BoundsMissing
from privgan.mechanisms.bounds import Bounds
from privgan.plain import from_plain, to_plain
from privgan.reports.possible import check_possible
from privgan.reports.rows import Held, Mapped, Rows, as_rows

FORMAT = "privgan reports 1"
KINDS = (Mechanism, Bounds)
ROUNDING = 1e-9  # relative: two ways to a budget may differ by this much


@dataclass(frozen=True, eq=False, repr=False)
class Reports:
    """Privatized records (n, d) with what produced them.

    mechanism: with its parameters and the public bounds of the records. epsilon, delta: the budget
    that each *whole record* has spent, epsilon in nats; None if nothing was promised. simulation:
    True for reproducible floating-point noise, which protects nobody, whatever its mechanism's
    budget on paper. version: of privgan. times: reports that each record has sent; row
    ``r * n + i`` of ``n * times`` is the one numbered r of record i, and budgets add.

    values: a tensor or array; or what stays in its files and is read as it is needed, a memmap, a
    ``.npy`` or Parquet file or a folder of them, which comes back as `Rows`.

    Raises ValueError for values that the mechanism cannot have made, and for an epsilon below what
    it spends.
    """

    values: Tensor | Rows
    mechanism: Mechanism
    simulation: bool
    epsilon: float | None = None
    delta: float = 0.0
    version: str = __version__
    times: int = 1

    def __post_init__(self) -> None:
        set_ = object.__setattr__
        rows = as_rows("values", self.values)
        set_(self, "values", rows if rows.held is None else rows.held)
        checks.instance("mechanism", self.mechanism, Mechanism)
        check_possible(self.mechanism, rows)
        set_(self, "simulation", checks.flag("simulation", self.simulation))
        checks.instance("version", self.version, str)
        set_(self, "times", checks.positive_int("times", self.times))
        if len(self.values) % self.times:
            raise ValueError(
                f"values has {len(self.values)} rows, which are not {self.times} of every record"
            )
        set_(self, "delta", checks.fraction("delta", self.delta))
        if self.epsilon is not None:
            set_(self, "epsilon", checks.number("epsilon", self.epsilon))
            if not 0.0 <= self.epsilon < math.inf:
                raise ValueError(f"epsilon must be at least 0 and finite, got {self.epsilon}")
            self._check_claim(self.epsilon)

    def __len__(self) -> int:
        return len(self.values)

    def __repr__(self) -> str:
        n, d = self.values.shape
        said = "simulation" if self.simulation else f"epsilon={self.epsilon}, delta={self.delta}"
        times = f", times={self.times}" if self.times > 1 else ""
        return f"Reports(<{n} x {d}>, {self.mechanism!r}, {said}{times})"

    @property
    def rows(self) -> Rows:
        """The values as rows, which are named "reports"."""
        if isinstance(self.values, Rows):
            return self.values
        return Held("reports", self.values)

    @property
    def metadata(self) -> dict[str, Any]:
        """Everything but the values, in plain types."""
        said = (self.simulation, self.epsilon, self.delta, self.times, self.version)
        return metadata(self.mechanism, *said)

    def describe(self) -> str:
        """What these are, in words."""
        n, d = self.values.shape
        made = f"{n} reports of {d} columns through {self.mechanism!r}"
        if self.times > 1:
            made += f", {self.times} of every record"
        if self.simulation:
            return (
                f"{made}: a simulation, which protects nobody. Its noise is floating-point and can "
                "be repeated."
            )
        if self.epsilon is None:
            return f"{made}. What they have cost is not stated."
        at = f" at delta {self.delta:g}" if self.delta else ""
        return f"{made}, released. Each whole record has spent epsilon {self.epsilon:.7g}{at}."

    def save(self, path: str | Path) -> None:
        """Write one ``.npz`` file, whole or not at all; without pickle.

        Raises OSError naming the path.
        """
        place, rows = checks.as_path("path", path), self.rows
        parts = (part for _, part in rows.parts())
        write(place, rows.shape, rows.dtype, parts, lambda: self.metadata)

    @classmethod
    def load(cls, path: str | Path) -> "Reports":
        """Reports as they were saved. Values of more than 256 MB stay in the file, as `Rows`.

        Raises FileNotFoundError, or ValueError for a file that is damaged, is something else, names
        a mechanism that is not known here, or claims what its values and mechanism do not bear out.
        """
        path = checks.as_path("path", path)
        with reading(path, f"{path} cannot be read as reports, a whole file of Reports.save"):
            values, said = _read(path)
        with reading(path, f"{path} holds no reports that can be used"):
            said = {"format": None, "times": 1} | said  # older files do not say how many times
            if said["format"] != FORMAT:
                raise ValueError(f"its format is {said['format']!r}, this version reads {FORMAT!r}")
            if said.keys() != KEYS:
                raise ValueError(f"its metadata must have {sorted(KEYS)}, it has {sorted(said)}")
            del said["format"]
            mechanism = from_plain(said.pop("mechanism"), KINDS, most=path.stat().st_size)
            if isinstance(values, np.memmap):
                return cls(Mapped("values", values), mechanism, **said)
            return cls(torch.from_numpy(values), mechanism, **said)

    def _check_claim(self, epsilon: float) -> None:
        """Raise ValueError if all reports of a record spend more than ``epsilon`` at `delta`."""
        try:
            spent = (self.times * self.mechanism.budget()).epsilon(self.delta)
        except BoundsMissing:
            raise BoundsMissing(
                f"epsilon is said to be {epsilon:.7g}, but {self.mechanism!r} has no bounds, and "
                "without them no epsilon; give it the records' public bounds, or leave epsilon out"
            ) from None
        if epsilon < spent * (1 - ROUNDING):
            raise ValueError(
                f"epsilon is said to be {epsilon:.7g} at delta {self.delta:g}, but "
                f"{self.mechanism!r} spends {spent:.7g}"
            )


def metadata(
    mechanism: Mechanism,
    simulation: bool,
    epsilon: float | None,
    delta: float,
    times: int,
    version: str = __version__,
) -> dict[str, Any]:
    """What `Reports` say beside their values, in plain types."""
    return {
        "format": FORMAT,
        "version": version,
        "simulation": simulation,
        "mechanism": to_plain(mechanism),
        "epsilon": epsilon,
        "delta": delta,
        "times": times,
    }


def write(
    path: Path,
    shape: tuple[int, int],
    dtype: torch.dtype,
    parts: Iterable[Tensor],
    said: Callable[[], dict[str, Any]],
) -> None:
    """The file of `Reports.save`, of values (n, d) that come in ``parts`` (k, d).

    said: their metadata, which is asked for when all of them have come.
    """
    descr = np.lib.format.dtype_to_descr(torch.empty(0, dtype=dtype).numpy().dtype)
    header = {"descr": descr, "fortran_order": False, "shape": shape}

    def archived(file: BinaryIO) -> None:
        with zipfile.ZipFile(file, "w") as archive:
            with archive.open("values.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array_header_1_0(member, header)
                for part in parts:
                    member.write(content(part.cpu().contiguous()))
            with archive.open("metadata.npy", "w") as member:
                np.lib.format.write_array(member, np.array(json.dumps(said())))

    write_atomically(path, archived, "reports")


KEYS = {"format", "version", "simulation", "mechanism", "epsilon", "delta", "times"}
MEMBERS = ["metadata.npy", "values.npy"]
READ = 2**28  # bytes of values that are read; more are mapped


def _read(path: Path) -> tuple[np.ndarray, Any]:
    """Values and metadata, in no more memory than the file is long."""
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        if sorted(member.filename for member in members) != MEMBERS:
            raise ValueError("it does not hold values and metadata, once each and nothing else")
        if any(member.compress_type != zipfile.ZIP_STORED for member in members):
            raise ValueError("it is compressed, which Reports.save never does")
        metadata = _array(archive.read(MEMBERS[0]))
        if archive.getinfo(MEMBERS[1]).file_size > READ:
            values = _mapped(path, archive)
        else:
            values = _array(archive.read(MEMBERS[1]))
    if metadata.dtype.kind != "U" or metadata.ndim:
        raise ValueError("its metadata is no text")
    return values, parse(str(metadata))


def _array(member: bytes) -> np.ndarray:
    """The array in a ``.npy`` file, which must be as long as its header says."""
    _header(io.BytesIO(member), len(member))
    return np.lib.format.read_array(io.BytesIO(member), allow_pickle=False)


def _mapped(path: Path, archive: zipfile.ZipFile) -> np.ndarray:
    """The values in a large archive, mapped: the system reads what is looked at."""
    info = archive.getinfo(MEMBERS[1])
    with archive.open(info) as member:
        shape, fortran, dtype = _header(member, info.file_size)
        start = member.tell()
        while member.read(2**20):  # to the end, where the archive's own checksum is held against it
            pass
    with open(path, "rb") as file:
        file.seek(info.header_offset + 26)
        names = sum(int.from_bytes(file.read(2), "little") for _ in range(2))
    offset = info.header_offset + 30 + names + start
    order: Literal["F", "C"] = "F" if fortran else "C"
    return np.memmap(path, dtype, "r", offset, shape, order)


def _header(file: Any, length: int) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Shape, whether columns come first, and type of a ``.npy`` file, of this many bytes."""
    version = np.lib.format.read_magic(file)
    read = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }
    shape, fortran, dtype = read[version](file)
    if dtype.hasobject or length - file.tell() != math.prod(shape) * dtype.itemsize:
        raise ValueError("an array in it is not as long as it says")
    return shape, fortran, dtype


def rows_of(name: str, reports: Any) -> Rows:
    """The values (n, d) of `Reports`, or what else `as_rows` takes, as rows."""
    return reports.rows if isinstance(reports, Reports) else as_rows(name, reports)


def values_of(name: str, reports: Any) -> Tensor:
    """The same in memory, without a graph."""
    return rows_of(name, reports).tensor()


def simulate(
    x: Tensor | np.ndarray,
    mechanism: Mechanism,
    *,
    seed: int | None = None,
    clip: bool = False,
    times: int = 1,
) -> Reports:
    """``mechanism.privatize(x, seed=seed, clip=clip)`` as `Reports` that say what they are.

    times: independent reports of each record, n rows after n rows.

    >>> pg.simulate(torch.zeros(100, 2), pg.Laplace(0.5), seed=0)
    Reports(<100 x 2>, Laplace(scale=0.5), simulation)
    """
    checks.instance("mechanism", mechanism, Mechanism)
    times = checks.positive_int("times", times)
    records = checks.as_records("x", x).repeat(times, 1)
    values = mechanism.privatize(records, seed=seed, clip=clip)
    return Reports(values, mechanism, simulation=True, times=times)
