"""A few of the kills that tests/kills.py does at length, in another process: it forks."""

import subprocess
import sys
from pathlib import Path

KILLS = Path(__file__).with_name("kills.py")


def test_nothing_half_written_loads_after_a_kill():
    command = [sys.executable, str(KILLS), "Generator.save", "Reports.save"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("9 kills, nothing half-written, the same bits") == 2
