"""Rows are the same numbers wherever they lie, and every one of them is looked at."""

import tracemalloc
import zipfile
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest
import torch
from planted import MECH, RAW, refused, simulated
from pyarrow import parquet

import privgan as pg
from privgan.reports import collection, rows
from privgan.reports.rows import as_rows

N, D = 1000, 3
VALUES = np.random.default_rng(0).normal(size=(N, D)).astype(np.float32)
CUTS = [0, 300, 301, N]


def frame(values):
    return pa.table({f"c{k}": values[:, k] for k in range(values.shape[1])})


def memmap(folder, values=VALUES):
    np.save(folder / "y.npy", values)
    return np.load(folder / "y.npy", mmap_mode="r")


def file(folder, values=VALUES):
    memmap(folder, values)
    return str(folder / "y.npy")


def shards(folder, values=VALUES):
    for k, (a, b) in enumerate(pairwise(CUTS)):
        np.save(folder / f"{k}.npy", values[a:b])
    return folder


def packed(folder, values=VALUES):
    for k, (a, b) in enumerate(pairwise(CUTS)):
        parquet.write_table(frame(values[a:b]), folder / f"{k}.parquet", row_group_size=100)
    return folder


def fortran(folder, values=VALUES):
    return memmap(folder, np.asfortranarray(values))


def swapped(folder, values=VALUES):
    return memmap(folder, values.astype(">f4"))


def strided(folder, values=VALUES):
    return memmap(folder, np.repeat(values, 2, 0))[::2]


PLACES = [memmap, file, shards, packed, fortran, swapped, strided]
everywhere = pytest.mark.parametrize("place", PLACES, ids=lambda p: p.__name__)


@everywhere
def test_rows_are_those_asked_for_in_that_order(tmp_path, monkeypatch, place):
    monkeypatch.setattr(rows, "SPAN", 480)  # 40 rows at a time
    monkeypatch.setattr(rows, "PART", 100 * D)
    found = as_rows("reports", place(tmp_path))
    assert found.shape == (N, D)
    assert (len(found), found.dtype, found.held) == (N, torch.float32, None)
    numbers = torch.randint(N, (500,), generator=torch.Generator().manual_seed(0))
    assert torch.equal(found.take(numbers), torch.from_numpy(VALUES)[numbers])
    assert torch.equal(found.tensor(), torch.from_numpy(VALUES))
    assert [first for first, _ in found.parts()] == list(range(0, N, 100))
    assert torch.equal(found.strided(100), torch.from_numpy(VALUES[::10]))


@everywhere
def test_a_row_that_is_not_finite_is_named_when_it_is_taken(tmp_path, place):
    values = VALUES.copy()
    values[617, 1] = np.nan
    found = as_rows("reports", place(tmp_path, values))
    found.take(torch.arange(617))
    with pytest.raises(ValueError, match=r"reports has 1 non-finite row .* row 617 \(column 1\)"):
        found.take(torch.tensor([3, 617, 2]))


def test_tensors_and_arrays_are_held_and_lists_too():
    for value in (torch.from_numpy(VALUES), VALUES, VALUES.tolist()):
        found = as_rows("reports", value)
        assert found.held is found.tensor()
        assert np.allclose(found.take(torch.tensor([5, 2])).numpy(), VALUES[[5, 2]])
    assert as_rows("reports", VALUES).held.data_ptr() == VALUES.ctypes.data


@pytest.mark.parametrize(
    ("message", "values"),
    [
        ("has dtype int64; convert it to float32", np.zeros((4, 2), np.int64)),
        ("has dtype float16; convert it", np.zeros((4, 2), np.float16)),
        (r"has shape \(4,\); records are", np.zeros(4)),
        (r"has shape \(4, 0\)", np.zeros((4, 0))),
    ],
)
def test_files_of_other_things_are_named(tmp_path, message, values):
    np.save(tmp_path / "y.npy", values)
    with pytest.raises((TypeError, ValueError), match=f"reports.*{message}"):
        as_rows("reports", tmp_path)


def test_folders_must_hold_files_that_are_alike(tmp_path):
    with pytest.raises(ValueError, match=r"must hold \.npy files, or \.parquet files"):
        as_rows("reports", tmp_path)
    np.save(tmp_path / "0.npy", VALUES)
    np.save(tmp_path / "1.npy", VALUES[:, :2])
    with pytest.raises(ValueError, match=r"1\.npy has 2 columns .* make them alike"):
        as_rows("reports", tmp_path)
    np.save(tmp_path / "1.npy", VALUES.astype(float))
    with pytest.raises(ValueError, match=r"1\.npy has 3 columns of torch.float64"):
        as_rows("reports", tmp_path)
    (tmp_path / "1.npy").write_bytes(b"half a file")
    with pytest.raises(ValueError, match=r"reports cannot be read from .*1\.npy"):
        as_rows("reports", tmp_path)
    with pytest.raises(FileNotFoundError, match=r"reports cannot be read from"):
        as_rows("reports", tmp_path / "2.npy")


@pytest.mark.parametrize(
    ("message", "table"),
    [
        ("not all float32", pa.table({"a": np.zeros(3), "b": np.zeros(3, np.float32)})),
        ("not all float32", pa.table({"a": ["x", "y"]})),
        ("its column 'b' has empty cells", pa.table({"a": [0.0, 1.0], "b": [0.0, None]})),
    ],
)
def test_parquet_of_other_things_is_named(tmp_path, message, table):
    parquet.write_table(table, tmp_path / "y.parquet")
    with pytest.raises(ValueError, match=rf"reports cannot be read from .*y\.parquet: .*{message}"):
        as_rows("reports", tmp_path)


@everywhere
def test_the_identity_is_that_of_the_file(tmp_path, place):
    given = place(tmp_path)
    before = as_rows("reports", given).identity()
    assert as_rows("reports", given).identity() == before
    changed = VALUES.copy()
    changed[0, 0] += 1
    assert as_rows("reports", place(tmp_path, changed)).identity() != before


def test_reports_may_stay_in_files_and_are_held_against_their_mechanism(tmp_path, monkeypatch):
    monkeypatch.setattr(rows, "PART", 100)
    reports = simulated()
    np.save(tmp_path / "y.npy", reports.values.numpy())
    there = pg.Reports(tmp_path, MECH, simulation=True)
    assert len(there) == len(reports)
    assert torch.equal(there.values.tensor(), reports.values)
    there.save(tmp_path / "r.npz")
    assert torch.equal(pg.Reports.load(tmp_path / "r.npz").values, reports.values)
    x = RAW[:50]
    assert pg.report_nll(x, there) == pytest.approx(pg.report_nll(x, reports), rel=1e-12)
    bits = np.eye(2)[np.zeros(400, int)]
    bits[321] = 1.0
    np.save(tmp_path / "y.npy", bits)
    with pytest.raises(ValueError, match=r"values has 1 row that .* first at row 321"):
        pg.Reports(tmp_path, pg.RandomizedResponse(2, 0.9), simulation=True)


def test_saving_holds_a_part_at_a_time_and_is_what_numpy_reads(tmp_path, monkeypatch):
    monkeypatch.setattr(rows, "PART", 2**14)
    values = np.zeros((100_000, 4))
    reports = pg.Reports(values, pg.Gaussian(1.0), simulation=True)
    tracemalloc.start()
    reports.save(tmp_path / "r.npz")
    assert tracemalloc.get_traced_memory()[1] < values.nbytes / 4
    tracemalloc.stop()
    with np.load(tmp_path / "r.npz") as archive:
        assert sorted(archive) == ["metadata", "values"]
        assert np.array_equal(archive["values"], values)


def test_large_values_stay_in_their_file_and_are_checked_as_well(tmp_path, monkeypatch):
    monkeypatch.setattr(collection, "READ", 0)
    path, reports = tmp_path / "r.npz", simulated()
    reports.save(path)
    there = pg.Reports.load(path)
    assert there.rows.held is None
    assert torch.equal(there.values.tensor(), reports.values)
    whole = path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        start = archive.getinfo("values.npy").header_offset
    flipped = bytearray(whole)
    flipped[start + 300] ^= 1
    path.write_bytes(flipped)
    refused(path, "Bad CRC")


def test_a_release_is_made_a_part_at_a_time(tmp_path, monkeypatch):
    monkeypatch.setattr(rows, "PART", 100)  # 50 records
    np.save(tmp_path / "x.npy", RAW.numpy())
    released = pg.release(tmp_path, MECH, times=2)
    assert released.values.shape == (800, 2)
    assert (released.values[:400] - RAW).abs().mean().item() == pytest.approx(0.3, rel=0.2)
    assert (released.values[400:] - RAW).abs().mean().item() == pytest.approx(0.3, rel=0.2)
    assert released.epsilon == pg.release(RAW[:20], MECH, times=2).epsilon
    outside = RAW.numpy().copy()
    outside[130] = 9.0
    with pytest.raises(ValueError, match=r"first at row 30 .*; rows are counted from 100"):
        pg.release(outside, MECH)
