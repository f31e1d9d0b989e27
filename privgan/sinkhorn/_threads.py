"""Shares of a compiled loop, run in ordinary threads.

Loops are compiled for a range of rows and let go of Python's lock, so that its threads can share
them. Numba's own threads would be a second pool beside torch's: one of its layers kills a forked
child, another aborts when two threads solve at once, starting either changes torch's number of
threads, and what they run is optimised twice, so that a process that compiles a loop gets other
bits than those that find it on disk.
"""

import functools
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch

PART = 2**18  # numbers that a thread visits at least: handing out takes as long as half of them


def shares(work: int) -> int:
    """How many threads should share a loop that visits ``work`` numbers: at most torch's."""
    if work < 2 * PART:  # asking for the rest takes a while
        return 1
    return min(torch.get_num_threads(), os.cpu_count() or 1, work // PART)


def share_out(run: Callable[[int], Any], count: int) -> None:
    """``run(0)`` to ``run(count - 1)``, side by side."""
    others = [_pool().submit(run, t) for t in range(1, count)]
    run(0)
    for other in others:
        other.result()


@functools.cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(os.cpu_count(), "privgan")


def _alone() -> None:
    """A forked child has none of its parent's threads, and would wait for them for ever.

    Torch's cannot be started again either: until it is told otherwise, the child has one.
    """
    _pool.cache_clear()
    if torch.get_num_threads() > 1:
        torch.set_num_threads(1)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_alone)
