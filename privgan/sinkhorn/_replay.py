"""CUDA graphs of an iteration's launches, kept for the next problem of that size.

At batch size launching takes longer than what is launched. A CUDA graph repeats many launches in
one, but on the addresses it was recorded with, so its buffers stay in place; and matrices up to
`_dense.KEEP_ENTRIES` lie in storage that outlives a solve, where the next one finds them again.
"""

import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

KEEP = 8  # recordings kept in a thread, one for each size; the least recently used goes first

_kept = threading.local()


def found(cost: Tensor, kernel: Tensor, make: Callable[[Tensor, Tensor], Any]) -> Any:
    """What ``make`` makes of these matrices, recorded; or recorded earlier for this place.

    cost (n, m): where the recording wants it, which may be elsewhere. Large ones are made anew.
    """
    from privgan.sinkhorn._dense import KEEP_ENTRIES, kept

    n, m = kernel.shape
    if n * m > KEEP_ENTRIES:
        return make(cost, kernel)
    cost = kept("cost", cost, n, m)
    recordings = _kept.__dict__.setdefault("recordings", OrderedDict())
    key = cost.data_ptr(), kernel.data_ptr(), cost.dtype, kernel.dtype, kernel.device, n, m
    if key not in recordings:
        recordings[key] = make(cost, kernel).recorded()
        while len(recordings) > KEEP:
            recordings.popitem(last=False)
    recordings.move_to_end(key)
    return recordings[key]


def recorded(runs: Sequence[Callable[[], None]], like: Tensor) -> list[Callable[[], None]]:
    """Replays of ``runs`` as CUDA graphs; off a CUDA device, the same again."""
    if not like.is_cuda:
        return list(runs)
    replays, stream = [], _side_stream(like.device)
    with torch.cuda.device(like.device):
        for run in runs:
            graph = torch.cuda.CUDAGraph()
            stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(stream):
                for _ in range(2):  # libraries set themselves up in their first calls
                    run()
            torch.cuda.current_stream().wait_stream(stream)
            # thread_local: what other threads do on the device is no fault of this recording.
            with torch.cuda.graph(graph, stream=stream, capture_error_mode="thread_local"):
                run()
            replays.append(graph.replay)
    return replays


def _side_stream(device: torch.device) -> torch.cuda.Stream:
    """Where a thread makes its recordings: one, for every stream gets a workspace of its own."""
    streams = _kept.__dict__.setdefault("streams", {})
    if device not in streams:
        streams[device] = torch.cuda.Stream(device)
    return streams[device]


def clear() -> None:
    """Forget this thread's recordings, and with them their memory."""
    _kept.__dict__.clear()
