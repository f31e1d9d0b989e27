"""Mechanisms, bounds and generators as plain JSON values and back: class and arguments.

Nothing is executed from a file: a name is looked up among the subclasses of the kinds asked for,
and its own constructor checks the parameters.
"""

import hashlib
import inspect
import json
import math
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from privgan.files import content

PACKAGE = __name__.partition(".")[0]

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
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return {"float": str(value)}
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, tuple | list):
        return [to_plain(entry, tensors, kinds) for entry in value]
    if isinstance(value, dict) and all(isinstance(key, str) for key in value):
        return {"mapping": {k: to_plain(entry, tensors, kinds) for k, entry in value.items()}}
    if isinstance(value, slice):
        return {"slice": [to_plain(end) for end in (value.start, value.stop, value.step)]}
    if isinstance(value, Tensor | np.ndarray):
        tensor = torch.as_tensor(value).detach().cpu()
        if tensors is None:
            dtype = str(tensor.dtype).removeprefix("torch.")
            return {"tensor": to_plain(tensor.tolist()), "dtype": dtype}
        key = f"argument {len(tensors)}"
        tensors[key] = tensor
        return {"tensor": key}
    return _object(value, tensors, kinds)


def _object(value: Any, tensors: dict[str, Tensor] | None, kinds: tuple[type[Any], ...]) -> Plain:
    cls = type(value)
    try:
        parameters = inspect.signature(cls).parameters
    except ValueError:  # a builtin
        parameters = None
    if parameters is None or not isinstance(value, kinds) or inspect.isroutine(value):
        raise TypeError(
            f"a {cls.__name__} cannot be written down; numbers, strings, slices, tensors, and "
            "lists and dicts of these can"
        )
    arguments = {}
    for argument in parameters:
        kept = getattr(value, argument, None)
        if not hasattr(value, argument) or inspect.ismethod(kept):
            raise TypeError(
                f"{cls.__name__} cannot be written down: its constructor takes {argument}, which "
                f"it does not keep; store it as self.{argument}"
            )
        arguments[argument] = to_plain(kept, tensors, kinds)
    written: dict[str, Plain] = {"object": cls.__name__, "arguments": arguments}
    # Somebody's own class may have the name of one that is here, and is not it.
    return written if _ours(cls) else written | {"own": True}


def from_plain(
    value: Plain,
    kinds: tuple[type[Any], ...],
    tensors: Mapping[str, Tensor] | None = None,
    *,
    most: int | None = None,
) -> Any:
    """The inverse of `to_plain`; objects must be of one of ``kinds``. Lists return as tuples.

    most: what the integers that this package's classes take may add up to. They are numbers of
    columns and of categories, and a constructor may fill memory with as many numbers; a file that
    was written by `to_plain` is longer than they are large. Raises ValueError for a class that is
    not known or arguments that it refuses, whatever ``value`` is.
    """
    try:
        return _Reader(kinds, tensors, math.inf if most is None else most).read(value)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


class _Reader:
    def __init__(
        self, kinds: tuple[type[Any], ...], tensors: Mapping[str, Tensor] | None, left: float
    ):
        self.tensors, self.left = tensors, left
        self.names = " or ".join(kind.__name__ for kind in kinds)
        known = [cls for kind in kinds for cls in _subclasses(kind)]
        self.own = {cls.__name__: cls for cls in known if not _ours(cls)}
        self.ours = {cls.__name__: cls for cls in known if _ours(cls)}

    def read(self, value: Any) -> Any:
        match value:
            case list():
                return tuple(self.read(entry) for entry in value)
            case {"float": "inf" | "-inf" | "nan" as name, **rest} if not rest:
                return float(str(name))
            case {"mapping": dict() as entries, **rest} if not rest:
                return {key: self.read(entry) for key, entry in entries.items()}
            case {"slice": [_, _, _] as ends, **rest} if not rest:
                return slice(*map(_end, ends))
            case {"tensor": str() as key, **rest} if not rest and self.tensors is not None:
                if key not in self.tensors:
                    raise ValueError(f"there is no tensor {key!r}")
                return self.tensors[key]
            case {"tensor": rows, "dtype": str() as dtype, **rest} if not rest:
                return _tensor(self.read(rows), dtype)
            case {"object": str() as name, "arguments": dict() as written, "own": True}:
                return self._object(name, written, self.own)
            case {"object": str() as name, "arguments": dict() as written, **rest} if not rest:
                # Before classes were told apart, files did not say whose a class is.
                return self._object(name, written, self.own | self.ours)
            case dict():
                raise ValueError(f"what has {sorted(value)} stands for nothing known")
        return value

    def _object(self, name: str, written: Any, known: dict[str, type[Any]]) -> Any:
        if name not in known:
            raise ValueError(
                f"{name!r} is no known {self.names}; if it is your own, import its module first"
            )
        cls = known[name]
        if _ours(cls):
            integers = (entry for entry in written.values() if type(entry) is int)
            self.left -= sum(abs(entry) for entry in integers)
            if self.left < 0:
                raise ValueError(f"{name} asks for more numbers than the file holds")
        arguments = {key: self.read(entry) for key, entry in written.items()}
        signature = inspect.signature(cls)
        try:
            if unknown := arguments.keys() - signature.parameters.keys():
                raise TypeError(f"it takes no {min(unknown)}")
            bound = inspect.BoundArguments(signature, OrderedDict(arguments))
            return cls(*bound.args, **bound.kwargs)
        except Exception as error:  # of any kind, for arguments of any kind
            raise ValueError(f"{name} cannot be made from what is written: {error}") from error


def _end(end: Plain) -> int | None:
    if end is None or type(end) is int:
        return end
    raise ValueError("a slice has ends that are no integers")


def _tensor(rows: Any, dtype: str) -> Tensor:
    kind = getattr(torch, dtype, None)
    if not isinstance(kind, torch.dtype):
        raise ValueError(f"{dtype!r} is no type of tensors")
    try:
        return torch.tensor(rows, dtype=kind)
    except Exception as error:
        raise ValueError(f"there are no {dtype} numbers in a tensor: {error}") from error


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


def _ours(cls: type[Any]) -> bool:
    return cls.__module__.partition(".")[0] == PACKAGE


def _subclasses(kind: type[Any]) -> list[type[Any]]:
    return [kind] + [cls for child in kind.__subclasses__() for cls in _subclasses(child)]
