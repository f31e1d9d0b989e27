"""The tests marked gpu."""

import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ET
from pathlib import Path

TOLD = 12  # failures told in full


def measure(record, device, tiny, deadline):
    # In the rehearsal one file is enough: all of it is skipped, and the rest takes long to read.
    tests = "tests/sinkhorn/test_replay.py" if tiny else "tests"
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder, "report.xml")
        command = [sys.executable, "-m", "pytest", tests, "-m", "gpu", "-q", "--tb=short"]
        # Warnings of a library version that is not the locked one are no reason to fail here.
        command += ["-p", "no:cacheprovider", "-W", "default", "--continue-on-collection-errors"]
        command += [f"--junitxml={report}"]
        try:
            done = subprocess.run(
                command, timeout=deadline - time.monotonic() - 3, stderr=subprocess.STDOUT
            )
            record["status"] = done.returncode
        except subprocess.TimeoutExpired:
            record["status"] = "stopped: out of time"
        if not report.exists():
            return
        for key, value in summary(report).items():
            record[key] = value


def summary(report: Path) -> dict:
    cases = list(ET.parse(report).getroot().iter("testcase"))
    failed = [c for c in cases if c.find("failure") is not None]
    broken = [c for c in cases if c.find("error") is not None]
    skipped = [c for c in cases if c.find("skipped") is not None]
    return {
        "ran": len(cases) - len(broken) - len(skipped),
        "skipped": len(skipped),
        "failed": [name(c) for c in failed],
        "not_collected": [name(c) for c in broken],
        "told": {name(c): told(c) for c in (failed + broken)[:TOLD]},
    }


def name(case: ET.Element) -> str:
    return f"{case.get('classname')}.{case.get('name')}"


def told(case: ET.Element) -> list[str]:
    text = next(part.text or "" for part in case if part.tag in ("failure", "error"))
    root = str(Path(__file__).parents[2]) + "/"  # where this runs is nobody's business
    return text.replace(root, "").splitlines()[-25:]
