"""Validation of what people hand over: name the argument, the first bad entry, the cure.

No message prints a record: rows, columns, types and shapes only.
"""

import math
import operator
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any, SupportsIndex

import numpy as np
import torch
from torch import Tensor

FLOATS = (torch.float32, torch.float64)


def as_tensor(name: str, value: Any) -> Tensor:
    """``value`` as a dense tensor, of the type it has and on the device it lives on.

    Tensors come as they are. NumPy arrays of any layout and byte order, data frames and series,
    nested lists, and what else speaks NumPy's protocol or DLPack are borrowed where torch can write
    to their memory, else copied. Python numbers in an array of objects or a list are float64, or
    integers if all are.

    Raises TypeError for what holds no numbers, and ValueError for masked entries and lists of
    unequal rows, naming the first.
    """
    if isinstance(value, list | tuple) and value and all(isinstance(v, Tensor) for v in value):
        value = _stacked(name, value)
    if isinstance(value, Tensor):
        return _dense(name, value)
    if hasattr(value, "to_numpy"):  # a frame: its own conversion knows its types best
        value = value.to_numpy()
    elif hasattr(value, "__dlpack__") and not isinstance(value, np.ndarray):  # from any device
        tensor: Tensor = torch.utils.dlpack.from_dlpack(value)
        return tensor.clone()
    return _from_numpy(name, _as_array(name, value))


def as_float_tensor(name: str, value: Any) -> Tensor:
    """``value``, as `as_tensor` takes it, as a float32 or float64 tensor.

    Raises TypeError for other numbers too: silently casting integers or half precision
    would change what the caller believes is being computed.
    """
    tensor = as_tensor(name, value)
    if tensor.dtype not in FLOATS:
        raise TypeError(
            f"{name} has dtype {str(tensor.dtype).removeprefix('torch.')}; "
            "convert it to float32 or float64"
        )
    return tensor


def _stacked(name: str, rows: list[Tensor] | tuple[Tensor, ...]) -> Tensor:
    for row, tensor in enumerate(rows):
        if tensor.shape != rows[0].shape:
            raise ValueError(f"{name}: row {row} is of another length than row 0")
        if (tensor.dtype, tensor.device) != (rows[0].dtype, rows[0].device):
            raise TypeError(f"{name}: row {row} is of another type or device than row 0")
    return torch.stack([*rows])


def _dense(name: str, tensor: Tensor) -> Tensor:
    """The tensor, if any code can compute with it."""
    if tensor.layout != torch.strided or tensor.is_nested or tensor.is_quantized:
        raise TypeError(f"{name} is a sparse, nested or quantized tensor; pass a dense one")
    if torch.masked.is_masked_tensor(tensor):
        raise TypeError(f"{name} is a masked tensor; pass the rows that are not masked")
    if tensor.is_meta:
        raise TypeError(f"{name} is on the meta device, where tensors hold no numbers")
    if tensor.is_inference() and not torch.is_inference_mode_enabled():
        return tensor.clone()  # autograd refuses the original
    return tensor.resolve_neg()


def _as_array(name: str, value: Any) -> np.ndarray:
    """What is no tensor as an array without masked entries, of numbers as far as it has any."""
    try:
        array = value if isinstance(value, np.ndarray) else np.asarray(value)
    except Exception as error:  # other libraries have many words, some of which show records
        rows = value if isinstance(value, list | tuple) else []
        for row, length in enumerate(map(_length, rows)):
            if length != _length(rows[0]):
                fault = f"{name}: row {row} is of another length than row 0"
                raise ValueError(fault) from None
        raise TypeError(_no_numbers(name, value)) from error
    if array.ndim == 0 and array.dtype.kind not in "biufc":
        raise TypeError(_no_numbers(name, value))
    if isinstance(array, np.ma.MaskedArray):
        masked = np.ma.getmaskarray(array)
        if masked.any():
            first = _place(np.argwhere(masked)[0])
            raise ValueError(f"{name} is masked, first at {first}; drop or fill masked entries")
        array = array.data
    return _unboxed(name, array) if array.dtype.kind == "O" else np.asarray(array)


def _unboxed(name: str, array: np.ndarray) -> np.ndarray:
    """An array of Python objects as one of the numbers that they are."""
    strange = {kind for kind in set(map(type, array.flat)) if not _is_number(kind)}
    if strange:
        where, entry = next((i, v) for i, v in np.ndenumerate(array) if type(v) in strange)
        raise TypeError(
            f"{name} holds a {type(entry).__name__} at {_place(where)}, where a number belongs; "
            "repair it, or leave its row or column out"
        )
    return np.array(array.tolist(), None if array.size else np.float64).reshape(array.shape)


def _from_numpy(name: str, array: np.ndarray) -> Tensor:
    if not (array.flags.behaved and array.flags.forc and array.dtype.isnative):
        # torch borrows no memory that is read-only, reversed, or in another byte order
        array = np.array(array, array.dtype.newbyteorder("="), order="C")
    try:
        return torch.from_numpy(array)
    except TypeError:
        raise TypeError(
            f"{name} must be a numeric tensor or array, got dtype {array.dtype}; make numbers of it"
        ) from None


def _is_number(kind: type) -> bool:
    return issubclass(kind, int | float | np.integer | np.floating) and not issubclass(kind, bool)


def _no_numbers(name: str, value: Any) -> str:
    return f"{name} must be a numeric tensor or array, got a {type(value).__name__}"


def _length(row: Any) -> int:
    return len(row) if hasattr(row, "__len__") else -1


def _place(index: Iterable[int]) -> str:
    """A row, and the columns if there are any, in words."""
    row, *columns = (str(int(i)) for i in index)
    return f"row {row}" + (f" (column {', '.join(columns)})" if columns else "")


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
        column = "to_frame()" if hasattr(value, "to_frame") else "reshape(-1, 1)"
        raise ValueError(
            f"{name} has shape {tuple(records.shape)}; records are (n, d), one row each"
            + (f": use {name}.{column} for scalars" if records.ndim == 1 else "")
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


def as_path(name: str, value: Any) -> Path:
    """``value`` (a string or a path) as a path, in which a first ``~`` is the home folder."""
    if not isinstance(value, str | os.PathLike) or isinstance(os.fspath(value), bytes):
        raise TypeError(f"{name} must be a path, got {shown(value)}")
    if not os.fspath(value):
        raise ValueError(f"{name} is an empty path; name a file")
    try:
        return Path(value).expanduser()
    except RuntimeError as error:  # pathlib's for a home that cannot be found
        raise ValueError(f"{name} starts in a home folder that is not known: {error}") from None


def shown(value: Any) -> str:
    """A setting, as an error may print it; what could hold records is named by its type alone."""
    if isinstance(value, type):
        return f"the class {value.__name__}; make one: {value.__name__}(...)"
    plain = value is None or isinstance(value, bool | int | float | str | slice | np.number)
    text = repr(value) if plain else ""
    return text if 0 < len(text) < 80 else f"a {type(value).__name__}"


def _scalar(value: Any) -> Any:
    """The Python number in a NumPy scalar, or in an array or tensor without axes."""
    if isinstance(value, Tensor) and value.ndim == 0:
        return value.item()
    if isinstance(value, np.generic | np.ndarray) and value.ndim == 0:
        return value.item() if value.dtype.kind in "biuf" else value
    return value


def number(name: str, value: Any) -> float:
    """``value`` as a float: any number, but no string, bool or array with axes."""
    plain = _scalar(value)
    if isinstance(plain, str | bytes | bool | Tensor | np.ndarray | np.generic):
        raise TypeError(f"{name} must be a number, got {shown(value)}")
    try:
        return float(plain)
    except OverflowError:
        raise ValueError(f"{name} must be finite, got {shown(value)}") from None
    except (TypeError, ValueError):
        raise TypeError(f"{name} must be a number, got {shown(value)}") from None


def positive(name: str, value: Any) -> float:
    """``value`` as a finite float above zero."""
    found = number(name, value)
    if not (0.0 < found < math.inf):
        raise ValueError(f"{name} must be positive and finite, got {shown(value)}")
    return found


def integer(name: str, value: Any) -> int:
    """``value`` as an int; bools and floats are refused."""
    plain = _scalar(value)
    other = isinstance(plain, bool | type | Tensor | np.ndarray | np.generic)
    if other or not isinstance(plain, SupportsIndex):
        raise TypeError(f"{name} must be an integer, got {shown(value)}")
    return operator.index(plain)


def positive_int(name: str, value: Any) -> int:
    """``value`` as an int of at least one."""
    found = integer(name, value)
    if found < 1:
        raise ValueError(f"{name} must be at least 1, got {shown(value)}")
    return found


def sequence(name: str, values: Any, of: str) -> list[Any]:
    """The entries of what can be gone through, ``of`` being what they are; no text is meant."""
    if not isinstance(values, Iterable) or isinstance(values, str | bytes):
        raise TypeError(
            f"{name} must be a sequence of {of}, got {shown(values)}; of one it is ({name},)"
        )
    return [*values]


def positive_ints(name: str, values: Any) -> tuple[int, ...]:
    """A sequence of ints of at least one; an error names the first that is none."""
    entries = enumerate(sequence(name, values, "integers"))
    return tuple(positive_int(f"{name}[{k}]", value) for k, value in entries)


def rows(name: str, value: Any, columns: int) -> int:
    """``value`` as an int of at least one, of rows of so many numbers that memory has room for."""
    found = positive_int(name, value)
    try:
        torch.empty((found, columns), dtype=torch.float64)
    except RuntimeError:
        raise ValueError(
            f"{name} = {found} rows of {columns} numbers do not fit into memory; ask for fewer"
        ) from None
    return found


def flag(name: str, value: Any) -> bool:
    """``value`` as a bool; nothing else stands for one."""
    plain = _scalar(value)
    if not isinstance(plain, bool):
        raise TypeError(f"{name} must be True or False, got {shown(value)}")
    return plain


def fraction(name: str, value: Any) -> float:
    """``value`` as a float in [0, 1)."""
    found = number(name, value)
    if not 0.0 <= found < 1.0:
        raise ValueError(f"{name} is a fraction in [0, 1), got {shown(value)}")
    return found


def probability(name: str, value: Any) -> float:
    """``value`` as a float in (0, 1)."""
    found = positive(name, value)
    if not found < 1.0:
        raise ValueError(f"{name} must lie in (0, 1), got {shown(value)}")
    return found


def public(name: str, value: Any) -> float:
    """``value`` as a finite float that somebody wrote down.

    Tensors, arrays and their scalars are refused: a bound or a sensitivity read off the records
    reveals them, and such a number is how it would come.
    """
    if isinstance(value, Tensor | np.ndarray | np.generic):
        raise TypeError(
            f"{name} must be a public constant, not read off data, got a {type(value).__name__}; "
            f"if it is public, pass a Python number: float({name})"
        )
    if isinstance(value, str | bool) or not isinstance(value, int | float):
        raise TypeError(f"{name} must be a number, got {shown(value)}")
    if not np.isfinite(value):
        raise ValueError(f"{name} must be finite, got {shown(value)}")
    return float(value)


def one_of(name: str, value: Any, known: Iterable[str]) -> str:
    """``value``, which must be one of the ``known`` texts."""
    if not isinstance(value, str) or value not in known:
        raise ValueError(f"{name} must be one of {', '.join(known)}, got {shown(value)}")
    return value


def function(name: str, value: Any, such_as: str) -> None:
    """Raise TypeError unless ``value`` can be called; a model, called with numbers, is none."""
    if not callable(value) or isinstance(value, torch.nn.Module):
        raise TypeError(f"{name} must be a function, such as {such_as}, got {shown(value)}")


def instance(name: str, value: Any, kind: type) -> None:
    """Raise TypeError unless ``value`` is a ``kind``."""
    if not isinstance(value, kind):
        words = shown(value)
        got = words if words.startswith(("a ", "the ")) else f"a {type(value).__name__}: {words}"
        raise TypeError(f"{name} must be a {kind.__name__}, got {got}")
