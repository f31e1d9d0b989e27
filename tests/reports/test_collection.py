import json

import numpy as np
import pytest
import torch
from planted import MECH, RAW, planted, refused, simulated

import privgan as pg
from privgan.mechanisms import Budget
from privgan.plain import to_plain


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
    refused(tmp_path / "r.npz", "epsilon is said to be 9, but .* has no bounds")
    gaussian = to_plain(pg.Gaussian(1.0, bounds=pg.Box(-2.0, 2.0, dim=2)))
    planted(tmp_path / "r.npz", mechanism=gaussian, epsilon=99.0)
    refused(tmp_path / "r.npz", "no epsilon at delta = 0")


def test_a_link_and_any_name_are_followed(tmp_path):
    path = tmp_path / ("ünï\u2603 " + "x" * 200)
    simulated().save(path)
    (tmp_path / "link").symlink_to(path)
    assert torch.equal(pg.Reports.load(tmp_path / "link").values, simulated().values)


def test_files_of_before_records_were_reported_several_times_are_read(tmp_path):
    planted(tmp_path / "r.npz", times=...)
    assert pg.Reports.load(tmp_path / "r.npz").times == 1


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
