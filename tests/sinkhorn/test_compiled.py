"""The Triton loops compiled ahead of time, as launches would, by the assembler Triton ships."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
RECORDED = json.loads((HERE / "registers.json").read_text())  # by `launches.py`, which says how


@pytest.mark.parametrize("architecture", [80, 90])
def test_the_loops_compile_without_a_device(tmp_path, architecture):
    """Machine code that fits the registers: no spills, no TensorFloat32; as recorded."""
    triton = pytest.importorskip("triton")
    run = subprocess.run(
        [sys.executable, HERE / "launches.py", str(architecture)],
        env=os.environ | {"TRITON_CACHE_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr
    found = json.loads(run.stdout)[f"sm_{architecture}"]
    for loop, uses in found.items():
        # A single register: what the assembler may put aside for another warp to fit.
        assert uses["STACK"] <= 8, f"{loop} spills"
        assert uses["LOCAL"] == 0, f"{loop} has an array in local memory"
        assert uses["REG"] * uses["threads"] <= 65536, f"{loop} does not fit a multiprocessor"
        assert uses["SHARED"] <= 163 * 1024, f"{loop} does not fit an A100's shared memory"
    assert all("unaligned" not in loop for loop in found)  # each buffer begins where torch puts it
    if triton.__version__ == RECORDED["triton"]:
        assert found == RECORDED[f"sm_{architecture}"]


@pytest.mark.parametrize("architecture", [80, 90])
def test_every_class_of_widths_is_compiled(architecture):
    halves = [loop for loop in RECORDED[f"sm_{architecture}"] if loop.startswith("half_steps")]
    for rows, columns in ((16, 512), (8, 1024), (4, 2048), (2, 4096), (1, 8192), (1, 16384)):
        assert any(f"ROWS={rows}, COLUMNS={columns}" in loop for loop in halves)
