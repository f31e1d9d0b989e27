"""One training over processes of one thread each, every one on a core of its own: does it scale?

    python -m benchmarks.ranks              on an idle machine with two cores or more: minutes
    python -m benchmarks.ranks --steps 3    a rehearsal

Weak scaling: two processes on twice the work of one. A step's work is its reports times its
generated points, so the batch has twice the reports beside as many points, and each process half
of the points beside all reports; ideal is one process's wall time. Strong scaling: two processes on
the batch of one; ideal is half of it. Turns of one and of two alternate, and medians are told.

Processor time stands beside wall time. One process alone waits for nobody: where its wall time is
more, the machine was not idle, and the line says BUSY. Iterations are told too, for a larger batch
may take others.
"""

import argparse
import os
import socket
import statistics
import time
from contextlib import closing
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

import privgan as pg
from privgan.artifact import data
from privgan.training.trainer import Trainer, Training

STEPS, WARM, TURNS = 60, 15, 3
SIZES = (1000, 250), (4000, 1000), (8000, 2000)  # reports and generated points of one process
KINDS = {"weak": 2, "strong": 1}  # times as many reports for two processes
IDLE = 1.1  # times its processor time that one process may take


def steps(size: int, points: int, count: int) -> dict[str, float]:
    """Median milliseconds of a step, its milliseconds of processor time, its iterations, and the
    kB that a process sends."""
    mechanism = pg.Gaussian(sigma=0.3)
    reports = mechanism.privatize(data.circle(20_000, seed=0), seed=1)
    loss = pg.EntropicLoss.matched(mechanism)
    plan = Training(loss, steps=WARM + count, batch_size=size, generated=points)
    trainer, taken = Trainer(plan, pg.MLP(2, 2), reports, torch.device("cpu")), []
    while not trainer.done:
        if trainer.state.step == WARM:
            warm = time.process_time()
        started = time.perf_counter()
        trainer.step()
        taken.append(time.perf_counter() - started)
    cpu = 1e3 * (time.process_time() - warm) / count
    lately = statistics.mean(trainer.state.history.n_iter[WARM:])
    weights = sum(p.numel() for p in trainer.generator.parameters())
    sent = 4 * weights + 4 * size * 2 + 8 * (size + 1) * lately if dist.is_initialized() else 0.0
    wall = 1e3 * statistics.median(taken[WARM:])
    return {"wall": wall, "cpu": cpu, "iterations": lately, "kB": sent / 1e3}


def one(rank: int, count: int, cores: list[int], port: int, said: Any, *work: int) -> None:
    """A process of ``count``, which tells what its `steps` took if it is the first."""
    os.sched_setaffinity(0, {cores[rank]})  # before there are other threads, which inherit it
    torch.set_num_threads(1)
    if count > 1:
        os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
        dist.init_process_group("gloo", rank=rank, world_size=count)
    found = steps(*work)
    if not rank:
        said.put(found)
    if count > 1:
        dist.barrier()  # gloo aborts a process whose peer has left while it still listens
        dist.destroy_process_group()


def together(count: int, cores: list[int], *work: int) -> dict[str, float]:
    """What `steps` takes ``count`` processes."""
    with closing(socket.socket()) as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    said = mp.get_context("spawn").SimpleQueue()
    mp.spawn(one, (count, cores, port, said, *work), nprocs=count)
    found: dict[str, float] = said.get()
    return found


def measure(cores: list[int], size: int, points: int, times: int, count: int) -> list[str]:
    """The cells of a line: what one process takes, what two take on ``times`` as many reports."""
    turns = [
        (together(1, cores, size, points, count), together(2, cores, times * size, points, count))
        for _ in range(TURNS)
    ]
    one, two = (
        {name: statistics.median(turn[name] for turn in own) for name in own[0]}
        for own in zip(*turns, strict=True)
    )
    cells = [f"{size}, {points}", f"{times * size}, {points}"]
    cells += [
        f"{found[name]:.1f}" for name in ("wall", "cpu", "iterations") for found in (one, two)
    ]
    ratio = two["wall"] / one["wall"]
    busy = one["wall"] > IDLE * one["cpu"]
    return [*cells, f"{two['kB'] / 1e3:.2f}", f"{ratio:.2f}{' BUSY' if busy else ''}"]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.ranks")
    parser.add_argument("--steps", type=int, default=STEPS, help="that are timed in a turn")
    options = parser.parse_args()
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        raise SystemExit("two processes need a core each, and this one may use but one")
    heads = ["scaling", "one: reports, points", "two: reports, points", "wall ms, one", "two"]
    heads += ["cpu ms, one", "two", "iterations, one", "two", "MB sent by each", "wall, two / one"]
    print(f"| {' | '.join(heads)} |\n|{' --- |' * len(heads)}")
    for kind, times in KINDS.items():
        for size, points in SIZES:
            cells = measure(cores, size, points, times, options.steps)
            print(f"| {kind} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
