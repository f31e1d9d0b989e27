"""Weak scaling of one training over processes: as many reports and points a process, more of them.

    python -m benchmarks.ranks

One process trains on batches of 1000 reports and 250 points, two on 2000 and 500, one thread each,
over gloo, each pinned to a processor of its own where there are enough; and alike on four times as
many. The work of a step grows
with the square of the batch, so that a process of two has twice the work of one alone: what counts
as ideal is half of what one process needs for the large batch. Beside wall time stands processor
time, which says on a busy machine what a step would take on an idle one, but for waiting.
"""

import json
import os
import socket
import statistics
import sys
import time
from contextlib import closing

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

import privgan as pg
from privgan.artifact import data
from privgan.training.trainer import Trainer, Training

STEPS, WARM = 60, 15
CASES = ((1, 1000), (1, 2000), (2, 2000), (1, 4000), (1, 8000), (2, 8000))  # processes, reports


def steps(count: int, size: int) -> dict[str, float]:
    """Median milliseconds of a step, its milliseconds of processor time, and what it sends."""
    mechanism = pg.Gaussian(sigma=0.3)
    reports = mechanism.privatize(data.circle(20_000, seed=0), seed=1)
    plan = Training(pg.EntropicLoss.matched(mechanism), steps=STEPS, batch_size=size)
    trainer, taken = Trainer(plan, pg.MLP(2, 2), reports, torch.device("cpu")), []
    while not trainer.done:
        if trainer.state.step == WARM:
            warm = time.process_time()
        started = time.perf_counter()
        trainer.step()
        taken.append(time.perf_counter() - started)
    weights = sum(p.numel() for p in trainer.generator.parameters())
    lately = statistics.mean(trainer.state.history.n_iter[WARM:])
    a_step = 4 * weights + 4 * size * 2 + 8 * (size + 1) * lately
    cpu = 1e3 * (time.process_time() - warm) / (STEPS - WARM)
    found = {"ms": 1e3 * statistics.median(taken[WARM:]), "cpu ms": cpu, "iterations": lately}
    return found | ({"kB": a_step / 1e3} if count > 1 else {"kB": 0.0})


def one(rank: int, count: int, size: int, port: int) -> None:
    torch.set_num_threads(1)
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {cores[rank % len(cores)]})
    if count > 1:
        os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
        dist.init_process_group("gloo", rank=rank, world_size=count)
    found = steps(count, size)
    if not rank:
        print(json.dumps({"processes": count, "reports": size} | found), flush=True)
    if count > 1:
        dist.destroy_process_group()


def main() -> None:
    for count, size in CASES:
        with closing(socket.socket()) as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        mp.spawn(one, (count, size, port), nprocs=count)


if __name__ == "__main__":
    sys.exit(main())
