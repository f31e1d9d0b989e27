import json

import pytest

from privgan.artifact.claims import Claim, record, verdict


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
