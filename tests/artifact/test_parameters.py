"""Parameters are checked before anything runs."""

import json
import sys

import pytest
from projects import plan, run

from privgan.artifact import run as runner


def test_smoke_keeps_the_templates_own_scale(project):
    assert json.loads((run(project, "smoke") / "toy.json").read_text())["numbers"]["steps"] == 10


@pytest.mark.parametrize(
    ("error", "message", "overrides"),
    [
        (ValueError, "unknown parameter 'step'; the template has rate, steps", {"step": 1}),
        (
            TypeError,
            r"'rate' is '1e-3', a str; .* write 1\.0e-3",
            {"rate": "1e-3"},
        ),
        (TypeError, "'steps' is 2.0, a float; the template's is 10, a int", {"steps": 2.0}),
        (TypeError, "'steps' is True, a bool", {"steps": True}),
        (
            TypeError,
            r"'rates\[1\]' is '1e-3', a str; the template's is 0\.5, a float .*write 1\.0e-3",
            {"rates": [1.0, "1e-3"]},
        ),
        (
            TypeError,
            r"'weights\[fine\]' is '1e-3', a str; .*1\.0e-3",
            {"weights": {"fine": "1e-3"}},
        ),
        (TypeError, "'a key of masses' is '1e-3', a str", {"masses": {"1e-3": 0.5}}),
        (TypeError, r"'corners\[1\]\[0\]' is '1e0', a str", {"corners": [[0, 1], ["1e0", 2.0]]}),
        (TypeError, r"'extra\[0\]' is '1e-3', a str \(in YAML", {"extra": ["1e-3"]}),
        (
            TypeError,
            r"'rates' is 0\.5, a float; the template's is \[0\.5\], a list",
            {"rates": 0.5},
        ),
    ],
)
def test_parameters_are_checked_before_anything_runs(project, error, message, overrides):
    with pytest.raises(error, match=message):
        run(project, **overrides)
    assert not (project / "figures").exists()


def test_an_integer_may_stand_for_a_float(project):
    given = {"rate": 2, "rates": [1, 0.1], "weights": {"coarse": 1}, "extra": ["a", 3]}
    assert (run(project, **given) / "toy.json").exists()


@pytest.mark.parametrize(
    ("message", "change"),
    [
        ("unknown key 'papr'", {"papr": {"steps": 20}}),
        ("data is 'mnits'; it must be mnist, tables or left out", {"data": "mnits"}),
        ("paper is 5; it must be a mapping of parameters", {"paper": 5}),
        ("scales.yaml / toy is 3; it must be a mapping of data, paper, stand_in", 3),
        ("'out_dir' is set by the runner", {"out_dir": "/tmp"}),
    ],
)
def test_plans_and_overrides_are_checked(project, message, change):
    overrides = change if change == {"out_dir": "/tmp"} else {}
    if not overrides:
        plan(project, change)
    with pytest.raises(ValueError, match=message):
        run(project, **overrides)


@pytest.mark.parametrize("text", ["{a: ", "", "sigma"])
def test_parameters_that_are_no_mapping_are_named(project, monkeypatch, text):
    monkeypatch.setattr(sys, "argv", ["execute", "run", "toy", "--parameters", text])
    with pytest.raises(SystemExit, match=r"--parameters (is not YAML|must be a mapping)"):
        runner.main()
