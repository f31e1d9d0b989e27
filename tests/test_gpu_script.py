"""`make gpu` rehearsed on a CPU, so that on a device it can only fail for the device's reasons."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from unittest.mock import patch

import pytest

ROOT = Path(__file__).parent.parent
pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("benchmarks.gpu") is None and not (ROOT / "benchmarks/gpu").is_dir(),
    reason="no benchmarks beside the package",
)


@pytest.fixture(scope="module")
def document(tmp_path_factory):
    out = tmp_path_factory.mktemp("gpu")
    command = [sys.executable, "-m", "benchmarks.gpu", "--device", "cpu", "--tiny"]
    ran = subprocess.run(
        [*command, "--out", str(out)], cwd=ROOT, env=os.environ, capture_output=True, text=True
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "device CPU" in ran.stdout
    (file,) = out.glob("*.json")
    assert file.name == "gpu-cpu.json"
    return json.loads(file.read_text())


def failures(part, path=""):
    if isinstance(part, dict):
        for key, value in part.items():
            if key == "failed" and value and path != "suite":
                yield path, value
            yield from failures(value, f"{path}/{key}" if path else key)


def test_every_step_is_done_and_nothing_failed(document):
    steps = {"machine", "smoke", "suite", "training", "iteration", "race", "streaming", "memory"}
    assert {step for step, how in document["run"].items() if how == "done"} == steps
    assert steps <= set(document)
    assert not list(failures(document))


def test_what_is_said_of_the_machine_identifies_the_run(document):
    machine = document["machine"]
    assert machine["device"] == "CPU"
    assert machine["versions"]["torch"]
    assert machine["copy_bytes_per_second"] > 0
    assert machine["float32_flops_per_second"] > 0


def test_every_cost_agrees_with_float64(document):
    smoke = document["smoke"]
    assert smoke.pop("wrong") == []
    assert len(smoke) >= 16
    assert all(found["right"] for found in smoke.values())


def test_the_trainings_are_timed_and_profiled(document):
    training = document["training"]
    for name in ("circle", "images"):
        assert training[f"{name}_timed"]["seconds_per_step"] > 0
        assert training[f"{name}_timed"]["nll"]
        assert set(training[f"{name}_profile"]) >= {"idle_share", "waits_per_step"}


def test_what_a_training_came_to_is_judged(document):
    found = document["training"]["images_long"]
    assert found["seconds"] > 0
    assert 0 <= found["student_accuracy"] <= 1


def test_the_docs_say_what_was_measured_or_that_nothing_was(document):
    with_benchmarks = [str(ROOT), *sys.path]
    with patch.object(sys, "path", with_benchmarks):
        from benchmarks.gpu import table
    page = (ROOT / "docs/speed.md").read_text()
    files = sorted((ROOT / "benchmarks/results").glob("gpu-*.json"))
    for file in files:
        assert table.readme(json.loads(file.read_text())) in page
        assert f"benchmarks/results/{file.name}" in page
    assert (table.NOT_MEASURED in page) == (not files)
    assert table.readme(None) == table.readme({"machine": {}}) == table.NOT_MEASURED
    assert "| 64 | 2 | medium | squared L2 | **" in table.readme(document)
    assert len(table.over_floor(document)) == 6


def test_the_race_is_judged_by_true_errors(document):
    race = document["race"]
    assert race
    for found in race.values():
        assert found["reference_error"] < 1e-6
        for tol, ours in found["ours"].items():
            assert ours["error"] <= 1.05 * float(tol)
            assert ours["gradient_error"] < 0.05
            assert ours["value_error"] < 0.01
    known = [peer for found in race.values() for peer in found["others"].values()]
    assert any(isinstance(peer, dict) for peer in known)  # POT is in the lock


def test_a_step_that_fails_or_hangs_stops_no_other(tmp_path):
    sys.path.insert(0, str(ROOT))
    try:
        from benchmarks.gpu.__main__ import run
    finally:
        sys.path.remove(str(ROOT))
    log = tmp_path / "log"
    assert run([sys.executable, "-c", "exit(3)"], 9, os.environ, log) == "failed with status 3"
    hang = [sys.executable, "-c", "import time; print('up', flush=True); time.sleep(9)"]
    assert run(hang, 1, os.environ, log) == "stopped after 1 s"
    assert "up" in log.read_text()
