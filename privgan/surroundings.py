"""Torch's ambient switches, as they are by default whatever the caller has set.

Gradients off, autocast, a default type or device, TensorFloat32: each of them reaches into every
function that is called, and would change its numbers or break it. What trains, draws or judges
here runs within `usual`, and so means the same everywhere.
"""

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
        for kind in AUTOCAST:
            if torch.is_autocast_enabled(kind):
                stack.enter_context(torch.autocast(kind, enabled=False))
        if (dtype := torch.get_default_dtype()) != torch.float32:
            stack.callback(torch.set_default_dtype, dtype)
            torch.set_default_dtype(torch.float32)
        if torch.get_default_device().type != "cpu":
            stack.enter_context(torch.device("cpu"))
        stack.enter_context(full_precision(convolutions=True))
        yield


class full_precision:
    """TensorFloat32 and bfloat16 off inside: their mantissas make errors of several reg in a cost.

    Whatever switch turned them on, a device's own decides, and it can always be read. (Once it has
    been set, reading the old ``allow_tf32`` may raise.) convolutions: theirs too, not only those of
    matrix products.
    """

    before: list[tuple[Any, str]]

    def __init__(self, *, convolutions: bool = False):
        backends: Any = torch.backends  # whose stubs know of none of these
        switches = [backends.cuda.matmul, backends.mkldnn.matmul]
        if convolutions:
            switches += [backends.cudnn.conv, backends.mkldnn.conv]
        self.before = [(switch, switch.fp32_precision) for switch in switches]

    def __enter__(self) -> None:
        for switch, _ in self.before:
            switch.fp32_precision = "ieee"

    def __exit__(self, *_: object) -> None:
        for switch, precision in self.before:
            switch.fp32_precision = "none"  # as a wider switch says, which may be all there was
            if switch.fp32_precision != precision:
                switch.fp32_precision = precision
