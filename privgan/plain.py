"""Mechanisms, bounds and generators as plain JSON values and back: class and arguments.

Nothing is executed from a file: a name is looked up among the subclasses of the kinds asked for,
and its own constructor checks the parameters.
"""

import hashlib
import inspect
import json
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from privgan.files import content

Plain = None | bool | int | float | str | list["Plain"] | dict[str, "Plain"]


def to_plain(
    value: Any, tensors: dict[str, Tensor] | None = None, kinds: tuple[type[Any], ...] = (object,)
) -> Plain:
    """``value`` in what JSON knows; an object as its class and its constructor's arguments.

    Numbers survive exactly, infinities and NaN included. tensors: where to put tensors, to be
    stored beside the JSON under their keys; by default they are written out. kinds: what objects
    may be, where `from_plain` will be told so too. Raises TypeError for other objects, and for one
    that does not keep an argument of its constructor under the same name.
    """
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, np.generic):
        number: Plain = value.item()
        return number
    if isinstance(value, tuple | list):
        return [to_plain(entry, tensors, kinds) for entry in value]
    if isinstance(value, dict) and all(isinstance(key, str) for key in value):
        return {"mapping": {k: to_plain(entry, tensors, kinds) for k, entry in value.items()}}
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
    try:
        parameters = inspect.signature(type(value)).parameters
    except ValueError:  # a builtin
        parameters = None
    if parameters is None or not isinstance(value, kinds) or inspect.isroutine(value):
        raise TypeError(
            f"a {name} cannot be written down; numbers, strings, slices, tensors, and lists and "
            "dicts of these can"
        )
    arguments = {}
    for argument in parameters:
        kept = getattr(value, argument, None)
        if not hasattr(value, argument) or inspect.ismethod(kept):
            raise TypeError(
                f"{name} cannot be written down: its constructor takes {argument}, which it does "
                f"not keep; store it as self.{argument}"
            )
        arguments[argument] = to_plain(kept, tensors, kinds)
    return {"object": name, "arguments": arguments}


def from_plain(
    value: Plain, kinds: tuple[type[Any], ...], tensors: Mapping[str, Tensor] | None = None
) -> Any:
    """The inverse of `to_plain`; objects must be of one of ``kinds``. Lists return as tuples.

    Raises ValueError for a class that is not known or arguments that it refuses.
    """
    if isinstance(value, list):
        return tuple(from_plain(entry, kinds, tensors) for entry in value)
    if not isinstance(value, dict):
        return value
    parts: dict[str, Any] = value
    if "mapping" in parts:
        return {k: from_plain(entry, kinds, tensors) for k, entry in parts["mapping"].items()}
    if "slice" in parts:
        return slice(*parts["slice"])
    if "tensor" in parts:
        if tensors is not None:
            return tensors[parts["tensor"]]
        return torch.tensor(parts["tensor"], dtype=getattr(torch, parts["dtype"]))
    known = {cls.__name__: cls for kind in kinds for cls in _subclasses(kind)}
    name = parts["object"]
    if name not in known:
        raise ValueError(
            f"{name!r} is no known {' or '.join(kind.__name__ for kind in kinds)}; if it is your "
            "own, import its module first"
        )
    cls = known[name]
    arguments = {k: from_plain(entry, kinds, tensors) for k, entry in parts["arguments"].items()}
    signature = inspect.signature(cls)
    bound = inspect.BoundArguments(signature, OrderedDict(arguments))
    try:
        if unknown := arguments.keys() - signature.parameters.keys():
            raise TypeError(f"it takes no {min(unknown)}")
        return cls(*bound.args, **bound.kwargs)
    except TypeError as error:
        raise ValueError(f"{name} cannot be made from {parts['arguments']}: {error}") from None


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


def _subclasses(kind: type[Any]) -> list[type[Any]]:
    return [kind] + [cls for child in kind.__subclasses__() for cls in _subclasses(child)]
