"""A device that is none: tensors that say they are on CUDA and compute on the CPU.

What would fail on a device fails here: arithmetic between it and the CPU, numpy's view of it. What
would make the host wait there is counted: a number read, a copy that is waited for, a shape that
depends on what a tensor holds. So a whole training runs "on a device" where there is none.

Triton is left out, as on a device where it does not start.
"""

import sys
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import patch

import torch
from torch.multiprocessing.reductions import StorageWeakRef
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from privgan.sinkhorn import _triton, _triton_dense

CUDA = torch.device("cuda:0")
aten = torch.ops.aten
READS = {aten._local_scalar_dense.default, aten.equal.default, aten.is_nonzero.default}
# Their shapes depend on what tensors hold.
SHAPED = {"nonzero", "masked_select", "_unique2", "unique_dim", "unique_consecutive", "bincount"}
INDEXED = {"index", "index_put", "index_put_", "_unsafe_index"}
PACKAGE = str(Path(_triton.__file__).parents[1])


class There(torch.Tensor):
    """A tensor on the stand-in; ``inner`` holds its numbers. To C++ it is a meta tensor."""

    @staticmethod
    def __new__(cls, inner):
        made = torch.Tensor._make_wrapper_subclass(
            cls,
            inner.shape,
            strides=inner.stride(),
            storage_offset=inner.storage_offset(),
            dtype=inner.dtype,
            device="meta",
        )
        made.inner = inner
        StandIn.current.note(inner)
        return made

    device = property(lambda _: CUDA)
    is_cuda = property(lambda _: True)
    is_meta = property(lambda _: False)

    def __repr__(self, **_):
        return f"There({self.inner})"

    @classmethod
    def __torch_dispatch__(cls, function, types, arguments=(), keywords=None):
        return StandIn.current.run(function, arguments, keywords or {})


class _Functions(TorchFunctionMode):
    """What never reaches the dispatcher, or only after a look for a driver."""

    def __torch_function__(self, function, types, arguments=(), keywords=None):
        keywords = dict(keywords or {})
        name = getattr(function, "__name__", "")
        first = arguments[0] if arguments else None
        if name == "tolist" and isinstance(first, There):
            StandIn.current.wait("tolist")
            return first.inner.tolist()
        if name in ("numpy", "__array__") and isinstance(first, There):
            raise TypeError("can't convert cuda:0 device type tensor to numpy")
        if name == "pin_memory":
            return first
        if name == "data_ptr" and isinstance(first, There):
            return first.inner.data_ptr()
        if name in ("cuda", "cpu"):
            return _moved(first, (name,), keywords)
        if name == "to" and isinstance(first, torch.Tensor):
            return _moved(first, arguments[1:], keywords)
        if _is_cuda(keywords.get("device")):
            keywords["device"] = "cpu"
            made = function(*arguments, **keywords)
            if name in ("tensor", "as_tensor", "asarray"):
                StandIn.current.wait(f"{name} to the device")
            needs = made.requires_grad
            return There(made.detach()).requires_grad_(needs)
        return function(*arguments, **keywords)


def _is_cuda(device):
    """As C++ may say it, too: a module is taken to where a tensor is by what that is there."""
    return device is not None and torch.device(device).type in ("cuda", "meta")


def _moved(tensor, arguments, keywords):
    """``Tensor.to``, whose target may be a device, a type, both, or another tensor."""
    device, dtype = keywords.get("device"), keywords.get("dtype")
    blocking, copy = not keywords.get("non_blocking", False), keywords.get("copy", False)
    for given in arguments:
        if isinstance(given, torch.Tensor):
            device, dtype = given.device, given.dtype
        elif isinstance(given, torch.dtype):
            dtype = given
        elif isinstance(given, str | torch.device):
            device = given
    there = isinstance(tensor, There)
    wanted = there if device is None else _is_cuda(device)
    if dtype is not None and dtype != tensor.dtype:
        tensor = torch.ops.aten._to_copy.default(tensor, dtype=dtype)
    elif copy and wanted == there:
        return tensor.clone()
    if wanted == there:
        return tensor
    return _Crossed.apply(tensor, wanted, blocking)


class _Crossed(torch.autograd.Function):
    @staticmethod
    def forward(ctx, tensor, wanted, blocking):
        ctx.wanted = wanted
        if blocking or not wanted:
            StandIn.current.wait("copy to the device" if wanted else "copy to the host")
        return There(tensor.clone()) if wanted else tensor.inner.clone()

    @staticmethod
    def backward(ctx, grad):
        return _Crossed.apply(grad, not ctx.wanted, True), None, None


class StandIn(TorchDispatchMode):
    """Within it the device "cuda" is at hand.

    waits: how often the host waited, by the package's line and by what for. peak: the most bytes
    that tensors there ever held, and held: what they do; `reset` begins anew.
    """

    current = None

    def __init__(self):
        super().__init__()
        self.storages, self.most = {}, 0
        self.reset()

    def reset(self):
        self.waits = Counter()
        self.peak = self.held()

    def held(self):
        self.storages = {s: size for s, size in self.storages.items() if not s.expired()}
        self.most = sum(self.storages.values())
        return self.most

    def note(self, inner):
        """Count a tensor's memory, if it is new."""
        storage = inner.untyped_storage()
        if (reference := StorageWeakRef(storage)) not in self.storages:
            self.storages[reference] = storage.nbytes()
            self.most += storage.nbytes()  # at most: some of them may be gone
            if self.most > self.peak:
                self.peak = max(self.peak, self.held())

    def __enter__(self):
        self.stack = ExitStack()
        for target, name, value in (
            (torch.cuda, "is_available", lambda: True),
            (torch.cuda, "current_stream", lambda *_: SimpleNamespace(cuda_stream=0)),
            (torch.cuda, "mem_get_info", lambda *_: (2**36, 2**36)),
            (torch.cuda, "memory_reserved", lambda *_: 0),
            (torch.cuda, "memory_allocated", lambda *_: 0),
            (torch.cuda, "default_generators", (torch.Generator(),)),
            (_triton, "starts", lambda: False),
            (_triton_dense, "starts", lambda: False),
        ):
            self.stack.enter_context(patch.object(target, name, value))
        self.stack.enter_context(_Functions())
        self.before, StandIn.current = StandIn.current, self
        return super().__enter__()

    def __exit__(self, *fault):
        super().__exit__(*fault)
        StandIn.current = self.before
        self.stack.__exit__(*fault)

    def __torch_dispatch__(self, function, types, arguments=(), keywords=None):
        return self.run(function, arguments, keywords or {})

    def wait(self, kind):
        """Note that the host waits, and which line of the package has it do so."""
        frame, place = sys._getframe(1), "outside"
        while frame is not None:
            file = frame.f_code.co_filename
            if file.startswith(PACKAGE):
                place = f"{Path(file).name}:{frame.f_lineno}"
                break
            frame = frame.f_back
        self.waits[f"{place} {kind}"] += 1

    def run(self, function, arguments, keywords):
        leaves = list(_tensors((arguments, tuple(keywords.values()))))
        there = [t for t in leaves if isinstance(t, There)]
        device = keywords.get("device")
        made = _is_cuda(device)
        if not there and not made:
            return function(*arguments, **keywords)
        name = function._schema.name.removeprefix("aten::")
        self._check(function, name, arguments, leaves)
        if made or (there and device is not None):
            keywords = keywords | {"device": torch.device("cpu")}
        wrapped = {id(t.inner): t for t in there}
        given = _mapped(_inner, arguments)
        named = {key: _mapped(_inner, value) for key, value in keywords.items()}
        with torch.no_grad():
            out = function(*given, **named)
        if name == "copy_" and not isinstance(arguments[0], There):
            return arguments[0]
        return _mapped(lambda t: _wrapped(t, wrapped), out)

    def _check(self, function, name, arguments, leaves):
        """Count a wait, or raise as a device would."""
        here = [t for t in leaves if not isinstance(t, There) and t.ndim]
        if function in READS or name in SHAPED:
            self.wait(name)
        elif name in INDEXED:
            indices = [i for i in arguments[1] if i is not None]
            shaped = any(i.dtype in (torch.bool, torch.uint8) for i in indices)
            sent = any(not isinstance(i, There) for i in indices)
            masked = name != "index" and not arguments[2].ndim and len(indices) == 1
            if (shaped and not masked) or sent:
                self.wait(name)
        elif name == "copy_":
            if len({isinstance(t, There) for t in arguments[:2]}) == 2:
                asynchronous = isinstance(arguments[0], There) and arguments[2:] == (True,)
                if not asynchronous:
                    self.wait("copy_")
        elif here and len(here) < len(leaves) and name not in ("_to_copy", "set_"):
            raise RuntimeError(
                f"{function}: expected all tensors to be on the same device, but found at least "
                "two devices, cuda:0 and cpu!"
            )


def _tensors(values):
    for value in values:
        if isinstance(value, torch.Tensor):
            yield value
        elif isinstance(value, list | tuple):
            yield from _tensors(value)


def _mapped(function, value):
    """Torch's own tree_map takes longer than what it maps."""
    if isinstance(value, list | tuple):
        return type(value)([_mapped(function, entry) for entry in value])
    return function(value)


def _inner(leaf):
    return leaf.inner if isinstance(leaf, There) else leaf


def _wrapped(out, wrapped):
    if not isinstance(out, torch.Tensor):
        return out
    return wrapped.get(id(out)) if id(out) in wrapped else There(out)
