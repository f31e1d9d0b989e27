"""Of a damaged, foreign or hostile file nothing is believed, built or run."""

import io
import json
import os
import tracemalloc
import zipfile

import numpy as np
import pytest
import torch
from planted import RAW, planted, refused, simulated, write

import privgan as pg
from privgan.mechanisms import Budget
from privgan.plain import digest, from_plain, to_plain
from privgan.reports.collection import KINDS


def test_a_truncated_or_damaged_file_is_refused(tmp_path):
    path = tmp_path / "r.npz"
    simulated().save(path)
    whole = path.read_bytes()
    flipped = bytearray(whole)
    flipped[len(whole) // 3] ^= 1
    for damaged in (b"", whole[:1], whole[:100], whole[: len(whole) // 2], whole[:-1], flipped):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=r"r\.npz cannot be read as reports"):
            pg.Reports.load(path)


def test_a_foreign_file_is_refused(tmp_path):
    np.save(tmp_path / "a.npy", np.zeros((3, 2)))
    np.savez(tmp_path / "b.npz", x=np.zeros((3, 2)))
    np.savez(tmp_path / "c.npz", values=np.array([None]), metadata="{}")
    for name in ("a.npy", "b.npz", "c.npz"):
        with pytest.raises(ValueError, match=f"{name} cannot be read as reports"):
            pg.Reports.load(tmp_path / name)
    with pytest.raises(FileNotFoundError):
        pg.Reports.load(tmp_path / "d.npz")


@pytest.mark.parametrize(
    ("message", "change"),
    [
        ("at least 0 and finite", {"epsilon": -1.0}),
        ("must be a number", {"epsilon": "1"}),
        ("must be a number", {"epsilon": True}),
        ("must be finite", {"epsilon": 10**400}),
        ("delta is a fraction", {"delta": 1.0, "epsilon": 50.0}),
        ("delta is a fraction", {"delta": -0.1}),
        ("simulation must be True or False", {"simulation": 1}),
        ("version must be a str", {"version": None}),
        ("times must be at least 1", {"times": 0}),
        ("400 rows, which are not 3 of every", {"times": 3}),
        ("its metadata must have", {"epsilon": ...}),
        ("its metadata must have", {"note": "x"}),
        ("its format is None", {"format": ...}),
        ("stands for nothing known", {"mechanism": {}}),
        ("mechanism must be a Mechanism", {"mechanism": [1.0]}),
        ("mechanism must be a Mechanism", {"mechanism": to_plain(pg.Box(0.0, 1.0, dim=2))}),
        ("reports 3", {"mechanism": to_plain(pg.RandomizedResponse(3, 0.9))}),
        ("400 rows that .* row 0", {"mechanism": to_plain(pg.RandomizedResponse(2, 0.9))}),
        ("400 rows that .* row 0", {"mechanism": to_plain(pg.UnaryEncoding(2, 0.9, 0.1))}),
    ],
)
def test_metadata_that_its_values_or_mechanism_belie_is_refused(tmp_path, message, change):
    planted(tmp_path / "r.npz", **change)
    refused(tmp_path / "r.npz", message)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[" * 100_000, "nested too deeply"),
        ('{"a":' * 5000 + "1" + "}" * 5000, "nested too deeply"),
        ('{"format": "x", "format": "y"}', "a key twice"),
        ('{"epsilon": NaN}', "not finite, NaN"),
        ('{"epsilon": -Infinity}', "not finite, -Infinity"),
        ('{"epsilon": 1e999}', "not finite, 1e999"),
        ("[]", ""),
        ("null", ""),
        ("", ""),
        ("\x00", ""),
    ],
)
def test_text_that_is_no_strict_json_is_refused(tmp_path, text, message):
    write(tmp_path / "r.npz", text)
    refused(tmp_path / "r.npz", message)


HUGE = 10**8


@pytest.mark.parametrize(
    "mechanism",
    [
        {"object": "Box", "arguments": {"low": 0.0, "high": 1.0, "dim": HUGE}},
        {"object": "Ball", "arguments": {"radius": 1.0, "dim": HUGE, "center": 0.0}},
    ],
)
def test_nothing_large_is_built_for_a_small_file(tmp_path, mechanism):
    change = {"object": "Laplace", "arguments": {"scale": 1.0, "bounds": mechanism}}
    planted(tmp_path / "r.npz", mechanism=change)
    tracemalloc.start()
    refused(tmp_path / "r.npz", "asks for more numbers than the file holds")
    assert tracemalloc.get_traced_memory()[1] < 5_000_000
    tracemalloc.stop()


def test_many_modest_requests_add_up():
    box = {"object": "Box", "arguments": {"low": 0.0, "high": 1.0, "dim": 300}}
    with pytest.raises(ValueError, match="asks for more numbers"):
        from_plain([box] * 4, KINDS, most=1000)
    assert len(from_plain([box] * 3, KINDS, most=900)) == 3


class Laplace(pg.mechanisms.Mechanism):
    """Somebody's own, by a name that is taken here too; its constructor takes large integers."""

    def __init__(self, scale, bounds=None, prime=2**61 - 1):
        vars(self).update(scale=scale, bounds=bounds, prime=prime, dim=2)

    def budget(self, sensitivity=None):
        return Budget(pure=1.0)

    def _draw(self, x, generator):
        return x

    def _log_normaliser(self, y):
        return 0.0


def test_ones_own_class_is_not_taken_for_one_of_the_same_name(tmp_path):
    pg.Reports(RAW, Laplace(2.0), simulation=False, epsilon=1.0).save(tmp_path / "r.npz")
    assert type(pg.Reports.load(tmp_path / "r.npz").mechanism) is Laplace
    simulated().save(tmp_path / "s.npz")
    assert type(pg.Reports.load(tmp_path / "s.npz").mechanism) is pg.Laplace
    assert digest(Laplace(2.0)) != digest(pg.Laplace(2.0))


@pytest.mark.parametrize(
    "values",
    [
        np.zeros((4, 2), dtype=np.int64),
        np.zeros((4, 2), dtype=np.float16),
        np.zeros((4, 2), dtype=complex),
        np.zeros((4, 2), dtype="U3"),
        np.zeros(4),
        np.zeros((0, 2)),
        np.full((4, 2), np.nan),
        np.array([[0.0, np.inf]]),
        np.zeros(3, dtype=[("a", float)]),
        np.array([[None, 1]]),
    ],
    ids=lambda v: str(v.dtype) + str(v.shape),
)
def test_values_of_another_kind_are_refused(tmp_path, values):
    planted(tmp_path / "r.npz", values)
    refused(tmp_path / "r.npz")


def test_only_whole_members_that_are_not_compressed_are_read(tmp_path):
    path = tmp_path / "r.npz"
    text = json.dumps(simulated().metadata)
    np.savez_compressed(path, values=np.zeros((3_000_000, 2)), metadata=text)
    refused(path, "it is compressed")
    np.savez(path, values=np.zeros((4, 2)), metadata=text, more=np.zeros(3))
    refused(path, "values and metadata, once each")
    np.savez(path, values=np.zeros((4, 2)), metadata=np.array([text]))
    refused(path, "its metadata is no text")
    np.savez(path, values=np.zeros((4, 2)), metadata=np.array(1.0))
    refused(path, "its metadata is no text")
    member = io.BytesIO()
    header = {"descr": "<f8", "fortran_order": False, "shape": (10**12, 2)}
    np.lib.format.write_array_header_1_0(member, header)
    np.savez(path, metadata=text)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("values.npy", member.getvalue())
    refused(path, "not as long as it says")


def test_what_is_no_file_is_refused(tmp_path):
    (tmp_path / "folder").mkdir()
    refused(tmp_path / "folder", "it is no file")
    os.mkfifo(tmp_path / "pipe")
    refused(tmp_path / "pipe", "it is no file")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    refused(tmp_path / "loop")
    with pytest.raises(FileNotFoundError):
        pg.Reports.load(tmp_path / "nothing")


def test_no_flipped_bit_gives_other_reports(tmp_path):
    path = tmp_path / "r.npz"
    simulated().save(path)
    whole, reports = path.read_bytes(), simulated()
    rng = np.random.default_rng(0)
    places = rng.integers((len(whole), 8), size=(60, 2)).tolist()
    places += [(len(whole) - 1 - k, k % 8) for k in range(60)]  # the archive's directory
    for place, bit in places:
        flipped = bytearray(whole)
        flipped[place] ^= 1 << bit
        path.write_bytes(flipped)
        try:
            again = pg.Reports.load(path)
        except ValueError:
            continue
        assert torch.equal(again.values, reports.values)
        assert again.metadata == reports.metadata
