import json

import numpy as np
import pytest
import torch

import privgan as pg
from privgan.artifact import data

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
