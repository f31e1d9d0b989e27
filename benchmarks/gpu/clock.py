"""Time on a device, where work is asynchronous."""

import statistics
import time
from collections.abc import Callable
from typing import Any

import torch


def synchronize(device: str) -> None:
    if device != "cpu":
        torch.cuda.synchronize()


def seconds(device: str, task: Callable[[], Any]) -> float:
    """Of one call, from an idle device to an idle device."""
    synchronize(device)
    start = time.perf_counter()
    task()
    synchronize(device)
    return time.perf_counter() - start


def median(device: str, task: Callable[[], Any], runs: int = 5, limit: float = 2.0) -> float:
    """The median over warm calls; fewer of them once they have taken ``limit`` seconds."""
    task()
    times: list[float] = []
    while len(times) < runs and (not times or sum(times) < limit):
        times.append(seconds(device, task))
    return statistics.median(times)
