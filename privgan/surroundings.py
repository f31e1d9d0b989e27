"""Torch's ambient switches, as they are by default whatever the caller has set.

Gradients off, autocast, a default type or device, TensorFloat32: each of them reaches into every
function that is called, and would change its numbers or break it. What trains, draws or judges
here runs within `usual`, and so means the same everywhere.
"""

import os
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch

AUTOCAST = ("cpu", "cuda", "mps", "xpu")


@contextmanager
def usual(*, grad: bool | None = None) -> Iterator[None]:
    """Within it torch computes in the precision of its tensors, with float32 and the CPU as
    defaults. Also a decorator.

    grad: whether gradients are recorded; None leaves that, and inference mode, to the caller.
    """
    with ExitStack() as stack:
        if grad is not None:
            if torch.is_inference_mode_enabled():  # what is made within it can never be trained
                stack.enter_context(torch.inference_mode(False))
            stack.enter_context(torch.set_grad_enabled(grad))
        if (dtype := torch.get_default_dtype()) != torch.float32:
            stack.callback(torch.set_default_dtype, dtype)
            torch.set_default_dtype(torch.float32)
        if torch.get_default_device().type != "cpu":
            stack.enter_context(torch.device("cpu"))
        stack.enter_context(full_precision(convolutions=True))
        yield


@contextmanager
def full_precision(*, convolutions: bool = False) -> Iterator[None]:
    """Autocast, TensorFloat32 and bfloat16 off inside: their mantissas make errors of several reg
    in a cost. Also a decorator.

    Whatever switch turned them on, a device's own decides, and it can always be read. (Once it has
    been set, reading the old ``allow_tf32`` may raise.) convolutions: theirs too, not only those of
    matrix products.
    """
    cast = [kind for kind in AUTOCAST if torch.is_autocast_enabled(kind)]
    for kind in cast:
        torch.set_autocast_enabled(kind, False)
    backends: Any = torch.backends  # whose stubs know of none of these
    switches = [backends.cuda.matmul, backends.mkldnn.matmul]
    if convolutions:
        switches += [backends.cudnn.conv, backends.mkldnn.conv]
    for switch in switches:
        _raise(switch)
    try:
        yield
    finally:
        for switch in switches:
            _restore(switch)
        for kind in cast:
            torch.set_autocast_enabled(kind, True)


# The switches belong to all threads: the first that raises one remembers what it was, and the last
# that is done with it restores that.
_lock = threading.Lock()
_raised: dict[Any, tuple[str, int]] = {}
if hasattr(os, "register_at_fork"):  # no child begins with the lock of a thread it does not have
    _free = _lock.release
    os.register_at_fork(before=_lock.acquire, after_in_parent=_free, after_in_child=_free)


def _raise(switch: Any) -> None:
    with _lock:
        before, users = _raised.get(switch, (switch.fp32_precision, 0))
        _raised[switch] = before, users + 1
        if not users:
            switch.fp32_precision = "ieee"


def _restore(switch: Any) -> None:
    with _lock:
        before, users = _raised.pop(switch)
        if users > 1:
            _raised[switch] = before, users - 1
            return
        switch.fp32_precision = "none"  # as a wider switch says, which may be all there was
        if switch.fp32_precision != before:
            switch.fp32_precision = before
