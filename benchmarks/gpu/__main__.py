"""Runs every step on the device, the most important first, and writes what each one found.

    python -m benchmarks.gpu                    on the CUDA device, within eight minutes
    python -m benchmarks.gpu --device cpu --tiny     the same lines on a CPU, in half a minute
    python -m benchmarks.gpu --only race        one step

It runs in a bare folder with what is installed there, and takes wheels of what is not from
build/wheels (``make gpu-wheels`` fills it). Each step is a process with a budget of its own: one
that fails or hangs takes no other with it. The results are one JSON file, named after the device
and written anew whenever there is something new to say.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from benchmarks.gpu.record import Record

ROOT = Path(__file__).parents[2]
WHEELS, SITE = ROOT / "build/wheels", ROOT / "build/gpu-site"
# Seconds each may take. Their sum is what one call has.
BUDGETS = {
    "machine": 30,
    "smoke": 90,
    "suite": 80,
    "training": 70,
    "iteration": 30,
    "race": 140,
    "streaming": 60,
    "memory": 20,
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu")
    parser.add_argument("--device", default="cuda", help="cuda, or cpu for a rehearsal")
    parser.add_argument("--out", default=os.environ.get("OUT", "build/gpu"), metavar="DIR")
    parser.add_argument("--minutes", type=float, default=8.0, help="for all steps together")
    parser.add_argument("--tiny", action="store_true", help="the smallest sizes")
    parser.add_argument("--only", action="append", choices=BUDGETS, metavar="STEP")
    parser.add_argument("--step", choices=BUDGETS, help=argparse.SUPPRESS)
    parser.add_argument("--file", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.step:
        work(options)
    else:
        orchestrate(options)


def orchestrate(options: argparse.Namespace) -> None:
    """Run the steps one after the other, then print the table."""
    deadline = time.monotonic() + 60 * options.minutes
    out = Path(options.out)
    out.mkdir(parents=True, exist_ok=True)
    file, log = out / "gpu.json", out / "gpu.log"
    file.unlink(missing_ok=True)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), *wheels()])}
    record = Record(file, "run")
    record["commit"] = commit()
    for step in options.only or BUDGETS:
        seconds = min(BUDGETS[step], deadline - time.monotonic() - 2)
        if seconds < 5:
            record[step] = "skipped: no time was left"
            continue
        print(f"{step}: at most {seconds:.0f} s", flush=True)
        command = [sys.executable, "-m", "benchmarks.gpu", "--step", step, "--file", str(file)]
        command += ["--device", options.device, "--minutes", str(seconds / 60)]
        command += ["--tiny"] if options.tiny else []
        started = time.monotonic()
        record[step] = run(command, seconds, environment, log)
        print(f"{step}: {record[step]} after {time.monotonic() - started:.0f} s", flush=True)
    name = json.loads(file.read_text()).get("machine", {}).get("device", options.device)
    final = out / f"gpu-{re.sub(r'[^a-z0-9]+', '-', name.lower()).strip('-')}.json"
    file.replace(final)
    from benchmarks.gpu import table

    print(table.of(json.loads(final.read_text())))
    print(final)


def run(command: list[str], seconds: float, environment: dict, log: Path) -> str:
    """How a step ended; what it printed goes to the log."""
    with log.open("a") as output:
        output.write(f"\n=== {' '.join(command)}\n")
        output.flush()
        try:
            done = subprocess.run(
                command, cwd=ROOT, env=environment, timeout=seconds, stdout=output, stderr=output
            )
        except subprocess.TimeoutExpired:
            return f"stopped after {seconds:.0f} s"
    return "done" if done.returncode == 0 else f"failed with status {done.returncode}"


def work(options: argparse.Namespace) -> None:
    """One step, in this process."""
    import importlib

    step = importlib.import_module(f"benchmarks.gpu.{options.step}")
    deadline = time.monotonic() + 60 * options.minutes
    step.measure(Record(options.file, options.step), options.device, options.tiny, deadline)


def wheels() -> list[str]:
    """Folders to add to the path: one with the wheels of what is not installed, or none."""
    missing = [str(w) for w in sorted(WHEELS.glob("*.whl")) if not installed(w.name.split("-")[0])]
    if not missing:
        return []
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps"]
    command += ["--no-compile", "--upgrade", "--target", str(SITE), *missing]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        print(f"wheels are left out: {done.stderr.strip().splitlines()[-1:]}")
        return []
    return [str(SITE)]


def installed(distribution: str) -> bool:
    try:
        version(distribution)
    except PackageNotFoundError:
        return False
    return True


def commit() -> str | None:
    """The commit that is measured, where this is a checkout."""
    try:
        found = subprocess.run(
            ["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True
        )
    except OSError:
        return None
    return found.stdout.strip() or None


if __name__ == "__main__":
    main()
