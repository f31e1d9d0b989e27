"""Validation of what people hand over: name the argument, the first bad entry, the cure."""

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

FLOATS = (torch.float32, torch.float64)


def as_float_tensor(name: str, value: Any) -> Tensor:
    """``value`` (tensor or array) as a float32 or float64 tensor, on the device it lives on.

    Raises TypeError for anything else: silently casting integers or half precision
    would change what the caller believes is being computed.
    """
    if not isinstance(value, Tensor):
        if isinstance(value, np.ndarray) and not (value.flags.writeable and value.flags.forc):
            value = value.copy()  # torch borrows neither read-only nor reversed memory
        try:
            value = torch.as_tensor(value)
        except (TypeError, ValueError, RuntimeError) as error:
            raise TypeError(f"{name} must be a numeric tensor or array: {error}") from None
    tensor: Tensor = value
    if tensor.dtype not in FLOATS:
        raise TypeError(
            f"{name} has dtype {str(tensor.dtype).removeprefix('torch.')}; "
            "convert it to float32 or float64"
        )
    return tensor


def check_finite(name: str, value: Tensor, what: str = "entry") -> None:
    """Raise ValueError at the first NaN or infinity; rows are named for 2-D records."""
    value = value.detach()
    if math.isfinite(value.sum()):  # many times faster than looking at each, and enough
        return
    bad = ~torch.isfinite(value)
    if not bad.any():  # the sum overflowed
        return
    where = tuple(int(i) for i in bad.nonzero()[0])
    count = int(bad.any(-1).sum()) if what == "row" else int(bad.sum())
    index = f"row {where[0]} (column {where[1]})" if what == "row" else f"index {list(where)}"
    raise ValueError(
        f"{name} has {count} non-finite {what}{'' if count == 1 else 's'}, the first at {index}: "
        f"{value[where].item()}; remove or repair {'it' if count == 1 else 'them'} first"
    )


def as_records(name: str, value: Any) -> Tensor:
    """``value`` as finite records: a float tensor (n, d) with at least one row and column."""
    records = as_float_tensor(name, value)
    if records.ndim != 2:
        raise ValueError(
            f"{name} has shape {tuple(records.shape)}; records are (n, d), one row each"
            + (f": use {name}.reshape(-1, 1) for scalars" if records.ndim == 1 else "")
        )
    if records.numel() == 0:
        raise ValueError(f"{name} is empty: shape {tuple(records.shape)}; give at least one record")
    check_finite(name, records, "row")
    return records


def as_pair(name_x: str, x: Any, name_y: str, y: Any) -> tuple[Tensor, Tensor]:
    """Two sets of records in one space: same columns, dtype and device."""
    x, y = as_records(name_x, x), as_records(name_y, y)
    if x.shape[1] != y.shape[1]:
        raise ValueError(
            f"{name_x} has {x.shape[1]} columns and {name_y} has {y.shape[1]}; they must agree"
        )
    check_same(name_x, x, name_y, y)
    return x, y


def check_same(name_x: str, x: Tensor, name_y: str, y: Tensor) -> None:
    """Raise unless two tensors share dtype and device."""
    if x.dtype != y.dtype:
        raise TypeError(f"{name_x} is {x.dtype} and {name_y} is {y.dtype}; convert one of them")
    if x.device != y.device:
        raise ValueError(f"{name_x} is on {x.device} and {name_y} on {y.device}; move one of them")


def positive(name: str, value: Any) -> float:
    """``value`` as a finite float above zero; strings and bools are refused."""
    if isinstance(value, str | bool):
        raise TypeError(f"{name} must be a number, got {value!r}")
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise TypeError(f"{name} must be a number, got {value!r}") from None
    if not (0.0 < number < float("inf")):
        raise ValueError(f"{name} must be positive and finite, got {value!r}")
    return number


def integer(name: str, value: Any) -> int:
    """``value`` as an int; bools and floats are refused."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise TypeError(f"{name} must be an integer, got {value!r}")
    return int(value)


def positive_int(name: str, value: Any) -> int:
    """``value`` as an int of at least one."""
    if integer(name, value) < 1:
        raise ValueError(f"{name} must be at least 1, got {value!r}")
    return int(value)


def fraction(name: str, value: Any) -> float:
    """``value`` as a float in [0, 1)."""
    if isinstance(value, str | bool) or not isinstance(value, int | float | np.number):
        raise TypeError(f"{name} must be a number, got {value!r}")
    if not 0.0 <= value < 1.0:
        raise ValueError(f"{name} is a fraction in [0, 1), got {value!r}")
    return float(value)


def probability(name: str, value: Any) -> float:
    """``value`` as a float in (0, 1)."""
    if not 0.0 < positive(name, value) < 1.0:
        raise ValueError(f"{name} must lie in (0, 1), got {value!r}")
    return float(value)


def public(name: str, value: Any) -> float:
    """``value`` as a finite float that somebody wrote down.

    Tensors, arrays and their scalars are refused: a bound or a sensitivity read off the records
    reveals them, and such a number is how it would come.
    """
    if isinstance(value, Tensor | np.ndarray | np.generic):
        raise TypeError(
            f"{name} must be a public constant, not read off data, got {value!r} "
            f"({type(value).__name__}); if it is public, pass a Python number: float({name})"
        )
    if isinstance(value, str | bool) or not isinstance(value, int | float):
        raise TypeError(f"{name} must be a number, got {value!r}")
    if not np.isfinite(value):
        raise ValueError(f"{name} must be finite, got {value!r}")
    return float(value)


def instance(name: str, value: Any, kind: type) -> None:
    """Raise TypeError unless ``value`` is a ``kind``."""
    if not isinstance(value, kind):
        raise TypeError(
            f"{name} must be a {kind.__name__}, got a {type(value).__name__}: {value!r}"
        )
