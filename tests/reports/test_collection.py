import io
import json
import os
import tracemalloc
import zipfile

import numpy as np
import pytest
import torch

import privgan as pg
from privgan.artifact import data
from privgan.mechanisms import Blocks, Budget
from privgan.plain import digest, from_plain, to_plain
from privgan.reports.collection import KINDS

MECH = pg.Laplace(0.3, bounds=pg.Box(-2.0, 2.0, dim=2))
RAW = data.circle(400, seed=0)


def simulated(**settings):
    return pg.simulate(RAW, MECH, seed=1, **settings)


def test_a_simulation_is_privatize_and_says_what_it_is():
    reports = simulated()
    assert torch.equal(reports.values, MECH.privatize(RAW, seed=1))
    assert reports.simulation
    assert reports.metadata["simulation"] is True
    assert reports.epsilon is None
    assert "protects nobody" in reports.describe()
    assert len(reports) == 400


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_what_is_saved_is_loaded(tmp_path, dtype):
    path = tmp_path / "new" / "reports.npz"
    reports = pg.simulate(RAW.to(dtype), MECH, seed=1)
    reports.save(path)
    again = pg.Reports.load(path)
    assert torch.equal(again.values, reports.values)
    assert again.values.dtype == dtype
    assert again.metadata == reports.metadata
    assert repr(again.mechanism) == repr(MECH)
    assert again.version == pg.__version__


def test_the_file_describes_itself_without_this_package(tmp_path):
    simulated().save(tmp_path / "r.npz")
    with np.load(tmp_path / "r.npz", allow_pickle=False) as file:
        said = json.loads(str(file["metadata"]))
        assert file["values"].shape == (400, 2)
    assert said["mechanism"]["object"] == "Laplace"
    assert said["mechanism"]["arguments"]["scale"] == 0.3
    assert said["mechanism"]["arguments"]["bounds"]["object"] == "Box"


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
    ("change", "message"),
    [
        ({"format": "privgan reports 9"}, "its format is 'privgan reports 9'"),
        ({"mechanism": {"object": "Popen", "arguments": {}}}, "'Popen' is no known Mechanism"),
        ({"mechanism": None}, "mechanism must be a Mechanism"),
    ],
)
def test_metadata_that_cannot_be_used_is_named(tmp_path, change, message):
    reports = simulated()
    said = json.dumps(reports.metadata | change)
    np.savez(tmp_path / "r.npz", values=reports.values.numpy(), metadata=said)
    with pytest.raises(ValueError, match=rf"r\.npz holds no reports .*{message}"):
        pg.Reports.load(tmp_path / "r.npz")


def test_values_are_checked():
    with pytest.raises(ValueError, match="values has 1 non-finite row"):
        pg.Reports(torch.tensor([[float("nan")]]), MECH, simulation=True)


def planted(path, values=None, **change):
    """A file as `Reports.save` writes it, with other metadata or values; ``...`` drops a key."""
    reports = simulated()
    said = {k: v for k, v in (reports.metadata | change).items() if v is not ...}
    write(path, json.dumps(said), reports.values.numpy() if values is None else values)


def write(path, text, values=None):
    values = np.zeros((4, 2)) if values is None else values
    np.savez(path, values=values, metadata=np.array(text))


def refused(path, message=""):
    """The one ValueError that loading must end in; it names the file."""
    with pytest.raises(ValueError, match=f"{path.name} (cannot be|holds no).*{message}") as caught:
        pg.Reports.load(path)
    assert len(str(caught.value)) < 600


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


@pytest.mark.parametrize("times", [1, 4])
@pytest.mark.parametrize(
    ("mechanism", "delta"),
    [
        (pg.Laplace(2.0, bounds=pg.Box(-2.0, 2.0, dim=2)), 0.0),
        (pg.Gaussian(2.0, bounds=pg.Box(-2.0, 2.0, dim=2)), 1e-5),
    ],
)
def test_no_less_may_be_claimed_than_is_spent(tmp_path, mechanism, delta, times):
    one = mechanism.budget()
    spent = Budget(times * one.pure, times**0.5 * one.mu).epsilon(delta)
    said = {"mechanism": to_plain(mechanism), "simulation": False, "delta": delta, "times": times}
    for claim in (spent, spent * (1 - 1e-10), spent * 2):
        planted(tmp_path / "r.npz", **said, epsilon=claim)
        assert pg.Reports.load(tmp_path / "r.npz").epsilon == claim
    for claim in (0.0, 1e-9, spent * (1 - 1e-8)):
        planted(tmp_path / "r.npz", **said, epsilon=claim)
        refused(tmp_path / "r.npz", "but .* spends")


def test_what_promises_nothing_can_claim_nothing(tmp_path):
    planted(tmp_path / "r.npz", mechanism=to_plain(pg.Laplace(1.0)), epsilon=9.0)
    refused(tmp_path / "r.npz", "unbounded records have no epsilon")
    gaussian = to_plain(pg.Gaussian(1.0, bounds=pg.Box(-2.0, 2.0, dim=2)))
    planted(tmp_path / "r.npz", mechanism=gaussian, epsilon=99.0)
    refused(tmp_path / "r.npz", "no epsilon at delta = 0")


INTERVAL = pg.Box(0.0, 1.0, dim=1)


@pytest.mark.parametrize(
    ("mechanism", "possible", "impossible"),
    [
        (pg.RandomizedResponse(2, 0.9), [[0.0, 1.0]], [[1.0, 1.0]]),
        (pg.RandomizedResponse(2, 0.9), [[1.0, 0.0]], [[0.0, 0.0]]),
        (pg.RandomizedResponse(2, 0.9), [[1.0, 0.0]], [[2.0, -1.0]]),
        (pg.UnaryEncoding(2, 0.9, 0.1), [[1.0, 1.0]], [[1.0, 0.5]]),
        (pg.SquareWave(1.0, bounds=INTERVAL), [[1.1]], [[7.0]]),
        (pg.Piecewise(1.0, bounds=INTERVAL), [[1.1]], [[-7.0]]),
        (pg.LinearMap(torch.ones(1, 3), pg.SquareWave(1.0, bounds=INTERVAL)), [[0.3]], [[7.0]]),
        (
            pg.Product(
                (slice(0, 1), pg.Gaussian(1.0)), (slice(1, 3), pg.RandomizedResponse(2, 0.9))
            ),
            [[5.0, 0.0, 1.0]],
            [[5.0, 0.5, 0.5]],
        ),
        (
            Blocks(pg.Gaussian(1.0), pg.SquareWave(1.0, bounds=INTERVAL)),
            [[7.0, 7.0, 0.0]],
            [[7.0, 7.0, 1.0]],
        ),
        (
            Blocks(pg.Gaussian(1.0), pg.SquareWave(1.0, bounds=INTERVAL)),
            [[7.0, 0.0, 1.0]],
            [[7.0, 0.0, 2.0]],
        ),
    ],
)
def test_values_are_what_the_mechanism_can_have_reported(mechanism, possible, impossible):
    possible, impossible = torch.tensor(possible), torch.tensor(impossible)
    pg.Reports(possible, mechanism, simulation=True)
    with pytest.raises(ValueError, match=r"values has 1 row that .* the first at row 1"):
        pg.Reports(torch.cat([possible, impossible]), mechanism, simulation=True)
    with pytest.raises(ValueError, match="columns"):
        pg.Reports(
            torch.zeros(1, 9), Blocks(mechanism, dim=1 if mechanism.dim is None else None), True
        )


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


def test_a_link_and_any_name_are_followed(tmp_path):
    path = tmp_path / ("ünï\u2603 " + "x" * 200)
    simulated().save(path)
    (tmp_path / "link").symlink_to(path)
    assert torch.equal(pg.Reports.load(tmp_path / "link").values, simulated().values)


def test_files_of_before_records_were_reported_several_times_are_read(tmp_path):
    planted(tmp_path / "r.npz", times=...)
    assert pg.Reports.load(tmp_path / "r.npz").times == 1


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


def test_what_is_printed_shows_no_value():
    reports = pg.Reports(torch.tensor([[123.456, 654.321]]), MECH, simulation=True)
    for text in (repr(reports), str(reports), reports.describe()):
        assert "<1 x 2>" in text or "1 reports of 2 columns" in text
        assert "123" not in text
        assert "654" not in text
    released = pg.Reports(torch.zeros(4, 2), MECH, False, 60.0, 0.0, times=2)
    assert "epsilon=60.0, delta=0.0, times=2" in repr(released)
    assert "2 of every record" in released.describe()
    assert "times" not in repr(reports)


def test_a_record_may_report_several_times():
    reports = pg.simulate(RAW, MECH, seed=1, times=3)
    assert len(reports) == 1200
    apart = reports.values.reshape(3, 400, 2) - RAW
    assert apart.abs().mean() == pytest.approx(0.3, rel=0.1)  # row r n + i is of record i
    assert torch.equal(reports.values[:400], MECH.privatize(RAW.repeat(3, 1), seed=1)[:400])
