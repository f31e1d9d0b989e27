"""Objects that are what their attributes say: mechanisms, costs, bounds.

Two of one class are equal when all their attributes are, tensors by content, so that they may be
compared, kept in sets and sent to another process. They are frozen dataclasses (``eq=False,
repr=False``: what is here serves them better), whose constructors set attributes through
``vars(self).update``. Their subclasses, plain ones with a constructor of their own too, need
nothing more.
"""

import hashlib
import inspect
from typing import Any

import numpy as np
import torch
from torch import Tensor

from privgan.files import content

PLACED = "_placed"  # the attribute that holds uploaded constants, no part of the value


class Value:
    """Equal, hashed and pickled by its attributes; printed by its constructor's arguments."""

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        return self is other or _key(self.__getstate__()) == _key(other.__getstate__())

    def __hash__(self) -> int:
        return hash((type(self).__qualname__, _key(self.__getstate__())))

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != PLACED}

    def __repr__(self) -> str:
        shown = []
        for name, argument in inspect.signature(type(self)).parameters.items():
            value = vars(self).get(name, ...)  # an ellipsis for what was not kept
            if argument.kind is argument.VAR_POSITIONAL and isinstance(value, tuple | list):
                shown += [repr(entry) for entry in value]
            elif _key(value) != _key(argument.default):
                shown.append(f"{name}={value!r}")
        return f"{type(self).__name__}({', '.join(shown)})"

    def placed(self, name: str, like: Tensor) -> Tensor:
        """The constant kept as ``name``, numbers or a tensor, in the type and place of ``like``.

        It is taken to each device once, and handed out again: do not write to it.
        """
        cache: dict[Any, Tensor] = vars(self).setdefault(PLACED, {})
        key = name, like.dtype, like.device
        if key not in cache:
            with torch.inference_mode(False):  # a tensor made within it is no use to autograd
                constant = torch.as_tensor(getattr(self, name), dtype=like.dtype)
                cache[key] = constant.to(like.device)
        return cache[key]


def _key(value: Any) -> Any:
    """``value`` in what can be compared and hashed: tensors by content, and what holds them."""
    if isinstance(value, np.ndarray):
        value = torch.as_tensor(value)
    if isinstance(value, Tensor):
        tensor = value.detach().cpu().contiguous()
        return tensor.shape, tensor.dtype, hashlib.sha256(content(tensor)).digest()
    if isinstance(value, tuple | list):
        return tuple(_key(entry) for entry in value)
    if isinstance(value, dict):
        return tuple(sorted((repr(name), _key(entry)) for name, entry in value.items()))
    if isinstance(value, slice):  # which Python 3.11 cannot hash
        return "slice", value.start, value.stop, value.step
    return value
