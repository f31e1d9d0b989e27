import json
import math

import pytest
import torch

from privgan._version import __version__
from privgan.artifact.claims import (
    Claim,
    claims_table,
    found_in_words,
    machine,
    near,
    record,
    verdict,
)


@pytest.mark.parametrize(
    ("bounds", "measured", "passed", "tolerance"),
    [
        ({"high": 1.0}, 1.0, True, "<= 1"),
        ({"high": 1.0}, 1.1, False, "<= 1"),
        ({"low": 0.5}, 0.4, False, ">= 0.5"),
        ({"low": 0.5, "high": 1.0}, 0.7, True, "0.5 to 1"),
        ({"high": 1.0}, float("nan"), False, "<= 1"),
    ],
)
def test_a_claim_holds_within_its_tolerance(bounds, measured, passed, tolerance):
    claim = Claim("c", "p", measured, **bounds)
    assert (claim.passed, claim.tolerance) == (passed, tolerance)


def test_a_claim_without_a_tolerance_is_no_claim():
    with pytest.raises(ValueError, match="no tolerance"):
        verdict([Claim("c", "p", 1.0)])


def test_the_verdict_raises_when_any_claim_fails():
    good, bad = Claim("good", "p", 0.0, high=1.0), Claim("bad", "p", 2.0, high=1.0)
    assert verdict([good]).startswith("PASS  good")
    with pytest.raises(AssertionError, match="FAIL  bad"):
        verdict([good, bad])


def test_record_keeps_claims_numbers_and_the_machine(tmp_path):
    path = tmp_path / "folder" / "n.json"
    record(path, [Claim("c", "p", 0.5, high=1.0)], w2={"a": 1.0})
    content = json.loads(path.read_text())
    assert content["claims"][0]["verdict"] == "PASS"
    assert content["numbers"] == {"w2": {"a": 1.0}}
    assert {"torch", "device", "threads"} <= set(content["machine"])


def test_on_stand_in_data_a_failure_is_reported_and_not_raised(monkeypatch):
    monkeypatch.setenv("PRIVGAN_STAND_IN", "scikit-learn digits")
    assert verdict([Claim("bad", "p", 2.0, high=1.0)]).startswith("FAIL  bad")


def test_the_table_says_which_version_made_the_numbers(tmp_path):
    about = {"stand_in": None, "seconds": 61.7}
    for name, version in (("new", __version__), ("old", "0.0.1")):
        record(tmp_path / f"{name}.json", [Claim("c", "p", 0.5, high=1.0)])
        content = json.loads((tmp_path / f"{name}.json").read_text())
        (tmp_path / f"{name}.json").write_text(json.dumps(content | about | {"privgan": version}))
    new, old = claims_table(tmp_path, ["new", "old"]).splitlines()[2:]
    assert new.split() == ["new", "c", "p", "0.5", "<=", "1", "PASS", "62", __version__]
    assert old.endswith("0.0.1, older")
    markdown = claims_table(tmp_path, ["new"], markdown=True)
    assert f"| new | c | p | 0.5 | <= 1 | PASS | 62 | {__version__} |" in markdown


def test_the_machine_is_the_one_it_runs_on():
    before = torch.get_num_threads()
    torch.set_num_threads(before + 1)
    try:
        assert machine()["threads"] == before + 1
    finally:
        torch.set_num_threads(before)


def test_a_goal_that_is_missed_is_shown_and_stops_nothing():
    missed = Claim("accuracy", ">= 0.9", 0.8, low=0.9, goal=True)
    assert not missed.passed
    assert verdict([missed]).startswith("FAIL  accuracy")
    with pytest.raises(AssertionError, match="outside its tolerance"):
        verdict([missed, Claim("rate", "-1", 0.0, high=-0.5)])


def test_a_claim_over_seeds_has_their_mean_and_its_standard_error():
    claim = near("radius", 1.0, [0.9, 1.0, 1.1], 0.05)
    assert (claim.measured, claim.low, claim.high) == pytest.approx((1.0, 0.95, 1.05))
    assert claim.error == pytest.approx(0.1 / 3**0.5)
    assert claim.found == "1.000 ± 0.058"
    assert near("one number", 1.0, 0.5, 0.5).found == "0.5"
    assert not near("radius", 1.0, [0.9, 0.9], 0.05).passed


def test_what_was_changed_after_a_look_says_so_everywhere(tmp_path):
    claim = Claim("c", "p", 0.5, high=1.0, error=0.1, revised="the first try had 20 repetitions")
    assert "(revised: the first try had 20 repetitions)" in verdict([claim])
    path = tmp_path / "n.json"
    record(path, [claim])
    content = json.loads(path.read_text()) | {"stand_in": None, "seconds": 1, "privgan": "0"}
    path.write_text(json.dumps(content))
    assert "| 0.50 ± 0.10 | <= 1, revised | PASS |" in claims_table(tmp_path, ["n"], markdown=True)


def test_numbers_are_said_to_the_second_digit_of_their_error():
    said = {
        (1.0038, 0.00217): "1.0038 ± 0.0022",
        (0.8498, 0.0186): "0.850 ± 0.019",
        (1663.68, 0.4): "1663.68 ± 0.40",
        (12345.6, 250.0): "12346 ± 250",
        (0.5, 1e-12): "0.5 ± 1e-12",
        (0.01187, 0.0): "0.01187",
        (2.0, math.inf): "2 ± inf",
    }
    assert {numbers: found_in_words(*numbers) for numbers in said} == said
