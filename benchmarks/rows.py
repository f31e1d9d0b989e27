"""Training on more reports than one would hold in memory: start, memory, and the cost of a step.

    python -m benchmarks.rows            1e8 x 2 and 1e7 x 50 float32 numbers, in files made for it
    python -m benchmarks.rows --rows N   N x 2 and N/10 x 50

Trainings on the file and on a tensor of its first rows take turns, each in a process of its own.
Its memory is read from outside, from the kernel's high-water mark: growth is over what the process
held when it had imported, compiled and trained on a few reports. A step costs the processor time of
all threads, those that fetch included; wall time is told beside it. The files are deleted.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median

import numpy as np

from benchmarks.cases import BUILD

SHAPES = ((1, 2), (10, 50))  # the rows are divided by the first number
STEPS, TURNS = 400, 2
HELD = 20_000  # rows of the tensor that is compared with
PIECE = 10**6  # rows that are made at a time
GOALS = {"start": 5.0, "growth": 300e6, "ratio": 1.2}


@contextmanager
def reports(n: int, d: int) -> Iterator[Path]:
    """A file of ``n`` privatized points of a circle, in the first two of ``d`` columns."""
    BUILD.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=BUILD) as folder:
        path = Path(folder) / "reports.npy"
        out = np.lib.format.open_memmap(path, "w+", np.float32, (n, d))
        rng = np.random.default_rng(0)
        for first in range(0, n, PIECE):
            part = out[first : first + PIECE]
            angle = rng.uniform(0, 2 * np.pi, len(part))
            part[:] = rng.standard_normal(part.shape, np.float32) * 0.3
            part[:, 0] += np.cos(angle)
            part[:, 1] += np.sin(angle)
        out.flush()
        del out
        yield path


def training(path: str, kind: str) -> None:
    """In a process of its own: says when it is ready, trains, says what that took, and waits."""
    import torch

    import privgan as pg
    from privgan.training.trainer import Trainer, Training

    torch.set_num_threads(1)
    mechanism = pg.Gaussian(sigma=0.3)
    loss, cpu = pg.EntropicLoss.matched(mechanism), torch.device("cpu")
    known = torch.from_numpy(np.array(np.load(path, mmap_mode="r")[:HELD]))
    d = known.shape[1]

    def trainer(values) -> Trainer:
        return Trainer(Training(loss, steps=STEPS), pg.MLP(2, d), values, cpu)

    for _ in range(20):
        trainer(known).step()
    print("ready", flush=True)
    sys.stdin.readline()
    started = time.perf_counter()
    steps = trainer(path if kind == "file" else known)
    steps.step()
    start, wall, cpu_time = time.perf_counter() - started, time.perf_counter(), time.process_time()
    while not steps.done:
        steps.step()
    each = (time.perf_counter() - wall) / (STEPS - 1)
    cost = (time.process_time() - cpu_time) / (STEPS - 1)
    print(json.dumps({"start": start, "wall": each, "cpu": cost}), flush=True)
    sys.stdin.readline()


def observed(path: Path, kind: str) -> dict[str, float]:
    """What `training` says, and by how much its peak memory exceeded that at its start."""
    command = [sys.executable, "-m", "benchmarks.rows", "--train", str(path), kind]
    with subprocess.Popen(command, stdin=-1, stdout=-1, text=True) as process:
        assert process.stdout
        assert process.stdin
        assert process.stdout.readline() == "ready\n"
        before = _memory(process.pid, "VmRSS")
        process.stdin.write("\n")
        process.stdin.flush()
        found = json.loads(process.stdout.readline())
        found["growth"] = _memory(process.pid, "VmHWM") - before
        process.communicate("\n")
    return found


def _memory(pid: int, name: str) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name))


def measure(n: int, d: int) -> dict[str, float]:
    """Seconds to the first step, bytes of growth, and a step's cost over that of a tensor's."""
    with reports(n, d) as path:
        turns = [(observed(path, "tensor"), observed(path, "file")) for _ in range(TURNS)]
    held, filed = zip(*turns, strict=True)
    step = {k: (median(t[k] for t in held), median(t[k] for t in filed)) for k in ("cpu", "wall")}
    return {
        "start": median(t["start"] for t in filed),
        "growth": max(t["growth"] for t in filed),
        "tensor ms": 1e3 * step["cpu"][0],
        "file ms": 1e3 * step["cpu"][1],
        "ratio": step["cpu"][1] / step["cpu"][0],
        "wall ratio": step["wall"][1] / step["wall"][0],
    }


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.rows")
    parser.add_argument("--rows", type=float, default=1e8)
    parser.add_argument("--train", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.train:
        return training(*options.train)
    print("| rows | start s | growth MB | tensor, ms | file, ms | ratio | ratio in wall time |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for divisor, d in SHAPES:
        n = int(options.rows) // divisor
        found = measure(n, d)
        cells = [f"{n:.0e} x {d}", f"{found['start']:.2f}", f"{found['growth'] / 1e6:.0f}"]
        cells += [f"{found[k]:.2f}" for k in ("tensor ms", "file ms", "ratio", "wall ratio")]
        short = [name for name, most in GOALS.items() if found[name] > most]
        print(f"| {' | '.join(cells)} |" + "".join(f" FAIL: {name}" for name in short), flush=True)


if __name__ == "__main__":
    main()
