"""Reports go to files a part at a time, and are what they would have been in memory."""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from pyarrow import parquet

import privgan as pg
from privgan.reports import rows

BITS = pg.UnaryEncoding.calibrate(epsilon=2.0, k=5)
X = np.eye(5, dtype=np.float32)[np.random.default_rng(0).integers(5, size=1000)]


def test_reports_that_cannot_be_written_name_their_path(tmp_path):
    (tmp_path / "file").write_text("")
    path = tmp_path / "file" / "reports.npz"
    reports = pg.simulate(torch.zeros(2, 1), pg.Gaussian(1.0), seed=0)
    said = rf"cannot write reports {re.escape(str(path))}: "
    with pytest.raises(OSError, match=said):
        reports.save(path)
    with pytest.raises(OSError, match=said):
        pg.release(X, BITS, path=path)


def memmap(folder):
    np.save(folder / "x.npy", X)
    return np.load(folder / "x.npy", mmap_mode="r")


def shards(folder):
    for k in range(4):
        np.save(folder / f"{k}.npy", X[250 * k : 250 * (k + 1)])
    return folder


def packed(folder):
    parquet.write_table(pa.table({f"{c}": X[:, c] for c in range(5)}), folder / "x.parquet")
    return folder / "x.parquet"


@pytest.mark.parametrize("place", [memmap, shards, packed], ids=lambda p: p.__name__)
def test_a_release_to_a_file_is_that_in_memory(tmp_path, monkeypatch, place):
    monkeypatch.setattr(rows, "PART", 500)  # 100 records
    x, found = place(tmp_path), []
    for path in (None, tmp_path / "out" / "r.npz"):
        rng = np.random.default_rng(0)
        monkeypatch.setattr(os, "urandom", rng.bytes)  # a seed, which a release never has
        found.append(pg.release(x, BITS, times=2, path=path))
    held, filed = found
    assert torch.equal(held.values, filed.values)
    assert held.metadata == filed.metadata
    held.save(tmp_path / "held.npz")
    assert (tmp_path / "held.npz").read_bytes() == path.read_bytes()
    noise = (filed.values[:1000] != torch.from_numpy(X)).double().mean(0)
    assert noise.min() > 0.1  # it is no copy of the records


def test_a_release_that_fails_in_the_middle_leaves_the_file_as_it_was(tmp_path, monkeypatch):
    monkeypatch.setattr(rows, "PART", 500)
    path, wrong = tmp_path / "r.npz", X.copy()
    pg.release(X[:3], BITS, path=path)
    before = path.read_bytes()
    wrong[730] = 1.0
    with pytest.raises(ValueError, match=r"row 30.*; rows are counted from 700"):
        pg.release(wrong, BITS, path=path)
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["r.npz"]


RELEASING = """
import sys
import numpy as np
import privgan as pg
from privgan.reports import collection, rows

rows.PART, collection.READ = 2**16, 2**20
records, path = np.load(sys.argv[1], mmap_mode="r"), sys.argv[2] or None
bits = pg.UnaryEncoding.calibrate(epsilon=2.0, k=8)
pg.release(records[:20_000], bits, path=path)  # whatever is loaded, and kept
print("ready", flush=True)
sys.stdin.readline()
reports = pg.release(records, bits, path=path)
print(len(reports), flush=True)
sys.stdin.readline()
"""


def growth(*arguments):
    """Bytes by which a release grows a process of its own, from the system's high-water mark."""

    def memory(name):
        lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name))

    command = [sys.executable, "-c", RELEASING, *map(str, arguments)]
    with subprocess.Popen(command, stdin=-1, stdout=-1, text=True) as process:
        assert process.stdout.readline() == "ready\n"
        before = memory("VmRSS")
        process.stdin.write("\n")
        process.stdin.flush()
        assert process.stdout.readline() == f"{N}\n"
        found = memory("VmHWM") - before
        process.communicate("\n")
    return found


N = 2**20


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="Linux says what was in use")
def test_memory_holds_a_part_of_what_is_released_to_a_file(tmp_path):
    records = np.lib.format.open_memmap(tmp_path / "x.npy", "w+", np.float32, (N, 8))
    records[:, 3] = 1.0
    del records
    whole = 8 * 8 * N
    assert growth(tmp_path / "x.npy", tmp_path / "r.npz") < whole / 4
    assert (tmp_path / "r.npz").stat().st_size > whole
    assert growth(tmp_path / "x.npy", "") > whole  # the measure can fail
