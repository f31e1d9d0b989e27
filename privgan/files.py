"""Files that are whole or absent, and that are believed only as far as they can be checked.

Nothing here runs code from a file. Whatever is wrong with one, a reader learns of it by a single
ValueError that names the file.
"""

import contextlib
import errno
import hashlib
import json
import math
import os
import secrets
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import safetensors
import safetensors.torch
import torch
import torch.distributed as dist
from torch import Tensor

ABANDONED = 3600.0  # seconds after which the writer of a file on the side is taken for dead
SHOWN = 300  # characters of a fault in a file: what is quoted from it may be of any length
UNSIGNED = "0" * 64  # stands in the place of the SHA-256 while that is taken


def write_atomically(
    path: Path, content: str | bytes | Callable[[BinaryIO], None], what: str = ""
) -> None:
    """Replace ``path`` with ``content``, or what that writes; a reader never meets half a file.

    Makes missing folders. The content is on the disk before it takes the name, and is written
    aside under a name that no other writer has. A link stays a link, and who may read an old file
    may read the new one. Of processes that train together only the first writes. Raises OSError
    naming ``what`` and ``path``; an existing file is then as it was.
    """
    if dist.is_available() and dist.is_initialized() and dist.get_rank():
        return
    target = Path(os.path.realpath(path))
    part = target.with_name(f".privgan-{secrets.token_hex(8)}.part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _clear_away(target.parent)
        with open(part, "xb") as file:
            if target.exists():
                shutil.copymode(target, part)
            if callable(content):
                content(file)
            else:
                file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, target)
    except OSError as error:
        raise OSError(
            error.errno, f"cannot write {what + ' ' if what else ''}{path}: {error.strerror}"
        ) from error
    finally:  # of a write that failed, or was interrupted
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)


def check_writable(path: Path, what: str) -> None:
    """Raise the OSError of `write_atomically` now, rather than when there is something to lose."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise OSError(error.errno, f"cannot write {what} {path}: {error.strerror}") from error


def _clear_away(folder: Path) -> None:
    """Delete what writers that were killed have left in ``folder``."""
    for left in folder.glob(".privgan-*.part"):
        with contextlib.suppress(OSError):  # another writer may be as quick
            if time.time() - left.stat().st_mtime > ABANDONED:
                left.unlink()


@contextlib.contextmanager
def reading(path: Path, fault: str) -> Iterator[None]:
    """Within it, whatever goes wrong with ``path`` is a ValueError: ``fault``, and what it was.

    A file that is missing or forbidden keeps its own kind of error, with the same words.
    """
    try:
        if path.exists() and not path.is_file():  # a pipe would keep its reader waiting
            raise ValueError("it is no file")
        yield
    except (FileNotFoundError, PermissionError) as error:
        code = error.errno or (errno.ENOENT if not path.exists() else errno.EACCES)
        raise type(error)(code, f"{fault}: {os.strerror(code)}") from None
    except Exception as error:  # libraries have many words for a damaged file
        said = f"{error}" if isinstance(error, ValueError) else f"{type(error).__name__}: {error}"
        raise ValueError(f"{fault}: {said[:SHOWN]}") from error


def parse(text: str | bytes, *, constant: Callable[[str], Any] | None = None) -> Any:
    """What JSON says that has every key once, and finite numbers; ValueError for any other.

    constant: what to make of NaN and the infinities, which are not JSON, but written by Python.
    """
    try:
        return json.loads(
            text,
            object_pairs_hook=_each_once,
            parse_float=_finite,
            parse_constant=constant or _finite,
        )
    except RecursionError:
        raise ValueError("its JSON is nested too deeply") from None


def to_json(name: str, value: Any, *, indent: int | None = None) -> str:
    """``value`` as JSON: plain types, and numbers of NumPy and torch, single or in arrays.

    Raises TypeError naming ``name`` for anything else.
    """
    try:
        return json.dumps(value, default=_plain, indent=indent)
    except (TypeError, ValueError, RecursionError) as error:
        raise TypeError(
            f"{name} cannot be written as JSON: {error}; make it numbers, texts, lists and mappings"
        ) from None


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic | np.ndarray | Tensor):
        return value.tolist()
    raise TypeError(f"it holds a {type(value).__name__}")


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("its JSON has a key twice")
    return found


def _finite(literal: str) -> float:
    number = float(literal)
    if not math.isfinite(number):
        raise ValueError(f"its JSON has a number that is not finite, {literal}")
    return number


def save_tensors(
    path: Path, kind: str, about: Mapping[str, Any], tensors: Mapping[str, Tensor], what: str
) -> None:
    """Write named tensors and what they are, ``about``, as one safetensors file.

    kind: the name and version of the format, which `load_tensors` asks for. about: what `to_json`
    takes. No pickle is involved. A SHA-256 of the whole file goes with it. Raises OSError naming
    ``what`` and ``path``, TypeError for an ``about`` that JSON cannot hold.
    """
    # Copies: safetensors refuses tensors that share memory or have gaps.
    whole = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    text = to_json("about", about)
    metadata = {"format": kind, "about": text, "sha256": UNSIGNED}
    file = safetensors.torch.save(whole, metadata)
    signature = hashlib.sha256(file).hexdigest()
    write_atomically(path, _replaced(file, UNSIGNED, signature), what)


def load_tensors(path: Path, kind: str, what: str) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """What `save_tensors` wrote: ``about``, and the tensors on the CPU.

    Raises FileNotFoundError, or ValueError naming ``what`` and ``path`` for a file that is damaged
    or is something else.
    """
    with reading(path, f"{what} {path} cannot be read"):
        file = path.read_bytes()
        try:
            tensors = safetensors.torch.load(file)
            size = int.from_bytes(file[:8], "little")
            metadata = parse(file[8 : 8 + size])["__metadata__"]
            signature, said, text = (metadata[key] for key in ("sha256", "format", "about"))
            unsigned = _replaced(file, signature, UNSIGNED)
        except Exception as error:
            raise ValueError("it is damaged or another file") from error
        if said != kind:
            raise ValueError(f"its format is {said!r}, not {kind!r}")
        if hashlib.sha256(unsigned).hexdigest() != signature:
            raise ValueError("it is damaged, its SHA-256 does not fit its content")
        about = parse(text, constant=float)
        if not isinstance(about, dict):
            raise ValueError(f"it says nothing about itself but {about!r}")
    return about, tensors


def _replaced(file: bytes, old: str, new: str) -> bytes:
    """The file with another SHA-256 in its header, where quotes in any text are escaped."""
    return file.replace(f'"sha256":"{old}"'.encode(), f'"sha256":"{new}"'.encode(), 1)


def content(tensor: Tensor) -> memoryview:
    """The bytes of a contiguous CPU tensor of any type, without a copy."""
    return tensor.flatten().view(torch.uint8).numpy().data
