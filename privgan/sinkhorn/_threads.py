"""Shares of a compiled loop, run side by side by torch's own threads.

Loops are compiled for a range of rows and let go of Python's lock, so that threads can share them.
Torch's threads, if they are OpenMP's, wait for more work by turning round for some milliseconds,
and another pool would have to share the cores with them: it would be half as fast. So they are
asked themselves, through the library that torch has loaded; ordinary threads are there for a torch
with others.

Numba's own threads would not do. One of its layers kills a forked child, another aborts when two
threads solve at once, starting either changes torch's number of threads, and what they run is
optimised twice, so that a process that compiles a loop gets other bits than those that find it on
disk.
"""

import ctypes
import functools
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch

PART = 3 * 2**18  # numbers that a thread visits at least: handing out takes as long as most of them


def shares(work: int) -> int:
    """How many threads should share a loop that visits ``work`` numbers: at most torch's."""
    if work < 2 * PART:  # asking for the rest takes a while
        return 1
    return min(torch.get_num_threads(), os.cpu_count() or 1, work // PART)


def share_out(run: Callable[[int], Any], count: int) -> None:
    """``run(0)`` to ``run(count - 1)``, side by side."""
    if count == 1:
        run(0)
    elif team := _team():
        _share_in(team, run, count)
    else:
        others = [_pool().submit(run, t) for t in range(1, count)]
        run(0)
        for other in others:
            other.result()


def _share_in(team: ctypes.CDLL, run: Callable[[int], Any], count: int) -> None:
    faults: list[BaseException] = []

    def body(_: Any) -> None:
        try:  # a team may be smaller than it was asked to be
            for t in range(team.omp_get_thread_num(), count, team.omp_get_num_threads()):
                run(t)
        except BaseException as error:  # which could not pass through the library
            faults.append(error)

    team.GOMP_parallel(_BODY(body), None, count, 0)
    if faults:
        raise faults[0]


_BODY = ctypes.CFUNCTYPE(None, ctypes.c_void_p)


@functools.cache
def _team() -> ctypes.CDLL | None:
    """The OpenMP library that torch's threads belong to, if it is known and can be asked."""
    try:
        loaded = {line.split()[-1] for line in Path("/proc/self/maps").read_text().splitlines()}
    except OSError:  # not Linux
        return None
    home = Path(torch.__file__).parent / "lib"
    names = [path for path in map(Path, loaded) if path.name.startswith(("libgomp", "libiomp"))]
    own = [path for path in names if path.parent == home] or names
    if len(own) != 1 or "OpenMP" not in torch.__config__.parallel_info():
        return None
    library = ctypes.CDLL(str(own[0]))
    if not hasattr(library, "GOMP_parallel"):
        return None
    library.GOMP_parallel.argtypes = [_BODY, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint]
    library.GOMP_parallel.restype = None
    return library


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
