"""Products in the precision of their factors, whatever the caller has allowed torch elsewhere.

TensorFloat32's and bfloat16's mantissas make errors of several reg in a cost.
"""

import contextlib
import os
import threading
from collections.abc import Iterator
from typing import Any

import torch

_lock = threading.Lock()
_inside = 0  # how many `full_precision` there are in all threads: the switches belong to all
_before: list[tuple[Any, str]] = []


@contextlib.contextmanager
def full_precision() -> Iterator[None]:
    """TensorFloat32, bfloat16 and autocast off inside; also a decorator.

    Whatever switch turned them on, a device's own decides, and it can always be read. (Once it has
    been set, reading the old ``allow_tf32`` may raise.)
    """
    autocast = [kind for kind in ("cpu", "cuda") if torch.is_autocast_enabled(kind)]
    for kind in autocast:
        torch.set_autocast_enabled(kind, False)
    _enter()
    try:
        yield
    finally:
        _leave()
        for kind in autocast:
            torch.set_autocast_enabled(kind, True)


def _enter() -> None:
    global _inside
    with _lock:
        _inside += 1
        if _inside == 1:
            _before[:] = [(switch, switch.fp32_precision) for switch in _switches()]
            for switch, _ in _before:
                switch.fp32_precision = "ieee"


def _leave() -> None:
    global _inside
    with _lock:
        _inside -= 1
        if not _inside:
            for switch, precision in _before:
                switch.fp32_precision = "none"  # as a wider switch says, which may be all there was
                if switch.fp32_precision != precision:
                    switch.fp32_precision = precision


def _switches() -> list[Any]:
    backends: Any = torch.backends  # whose stubs know of neither
    return [backends.cuda.matmul, backends.mkldnn.matmul]


if hasattr(os, "register_at_fork"):  # no child begins with the lock of a thread it does not have
    release = _lock.release
    os.register_at_fork(before=_lock.acquire, after_in_parent=release, after_in_child=release)
