"""Mechanisms, bounds and generators as plain JSON values and back: class and arguments.

Nothing is executed from a file: a name is looked up among the subclasses of the kinds asked for,
and its own constructor checks the parameters.
"""

import hashlib
import inspect
import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from privgan.files import content

Plain = None | bool | int | float | str | list["Plain"] | dict[str, "Plain"]


def to_plain(value: Any, tensors: dict[str, Tensor] | None = None) -> Plain:
    """``value`` in what JSON knows; an object as its class and its constructor's arguments.

    Numbers survive exactly, infinities and NaN included. tensors: where to put tensors, to be
    stored beside the JSON under their keys; by default they are written out. Raises TypeError for
    an object that does not keep an argument of its constructor under the same name.
    """
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, tuple | list):
        return [to_plain(entry, tensors) for entry in value]
    if isinstance(value, slice):
        return {"slice": [to_plain(end) for end in (value.start, value.stop, value.step)]}
    if isinstance(value, Tensor | np.ndarray):
        tensor = torch.as_tensor(value).detach().cpu()
        if tensors is None:
            return {"tensor": tensor.tolist(), "dtype": str(tensor.dtype).removeprefix("torch.")}
        key = f"argument {len(tensors)}"
        tensors[key] = tensor
        return {"tensor": key}
    name = type(value).__name__
    arguments = {}
    for argument in inspect.signature(type(value)).parameters:
        kept = getattr(value, argument, None)
        if not hasattr(value, argument) or inspect.ismethod(kept):
            raise TypeError(
                f"{name} cannot be written down: its constructor takes {argument}, which it does "
                f"not keep; store it as self.{argument}"
            )
        arguments[argument] = to_plain(kept, tensors)
    return {"object": name, "arguments": arguments}


def from_plain(
    value: Plain, kinds: tuple[type, ...], tensors: Mapping[str, Tensor] | None = None
) -> Any:
    """The inverse of `to_plain`; objects must be of one of ``kinds``. Lists return as tuples.

    Raises ValueError for a class that is not known or arguments that it refuses.
    """
    if isinstance(value, list):
        return tuple(from_plain(entry, kinds, tensors) for entry in value)
    if not isinstance(value, dict):
        return value
    said: dict[str, Any] = value
    if "slice" in said:
        return slice(*said["slice"])
    if "tensor" in said:
        if tensors is not None:
            return tensors[said["tensor"]]
        return torch.tensor(said["tensor"], dtype=getattr(torch, said["dtype"]))
    known = {cls.__name__: cls for kind in kinds for cls in _subclasses(kind)}
    name = said["object"]
    if name not in known:
        raise ValueError(
            f"{name!r} is no known {' or '.join(kind.__name__ for kind in kinds)}; if it is your "
            "own, import its module first"
        )
    cls = known[name]
    arguments = {k: from_plain(entry, kinds, tensors) for k, entry in said["arguments"].items()}
    positional = []
    for key, parameter in inspect.signature(cls).parameters.items():
        if parameter.kind is parameter.VAR_POSITIONAL:
            positional = list(arguments.pop(key))
    try:
        return cls(*positional, **arguments)
    except TypeError as error:
        raise ValueError(f"{name} cannot be made from {said['arguments']}: {error}") from None


def digest(value: Any) -> str:
    """SHA-256, in hex, of what `to_plain` says of ``value``: equal for things that mean the same.

    Every number counts in full, and every entry of a tensor; how a thing is printed does not.
    """
    tensors: dict[str, Tensor] = {}
    found = hashlib.sha256(json.dumps(to_plain(value, tensors), sort_keys=True).encode())
    for tensor in tensors.values():
        found.update(f"{tuple(tensor.shape)} {tensor.dtype}".encode())
        found.update(content(tensor.contiguous()))
    return found.hexdigest()


def _subclasses(kind: type) -> list[type]:
    children: list[type] = kind.__subclasses__()
    return [kind, *(cls for child in children for cls in _subclasses(child))]
