"""Files that are whole or absent, and tensors in files that know whether they are intact."""

import contextlib
import hashlib
import json
import os
import secrets
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor


def write_atomically(path: Path, content: str | bytes, what: str = "") -> None:
    """Replace ``path`` with ``content``; a reader never meets half a file.

    Makes missing folders. The content is on the disk before it takes the name, and is written
    aside under a name that no other writer has. Raises OSError naming ``what`` and ``path``; an
    existing file is then as it was.
    """
    part = path.with_name(f".{path.name}.{secrets.token_hex(6)}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(part, "xb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    except OSError as error:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)
        raise OSError(
            error.errno, f"cannot write {what + ' ' if what else ''}{path}: {error.strerror}"
        ) from error


def check_writable(path: Path, what: str) -> None:
    """Raise the OSError of `write_atomically` now, rather than when there is something to lose."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise OSError(error.errno, f"cannot write {what} {path}: {error.strerror}") from error


UNSIGNED = "0" * 64  # stands in the place of the SHA-256 while that is taken


def save_tensors(
    path: Path, kind: str, about: Mapping[str, Any], tensors: Mapping[str, Tensor], what: str
) -> None:
    """Write named tensors and what they are, ``about`` (plain types), as one safetensors file.

    kind: the name and version of the format, which `load_tensors` asks for. No pickle is involved.
    A SHA-256 of the whole file goes with it. Raises OSError naming ``what`` and ``path``.
    """
    # Copies: safetensors refuses tensors that share memory or have gaps.
    whole = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    metadata = {"format": kind, "about": json.dumps(about), "sha256": UNSIGNED}
    file = safetensors.torch.save(whole, metadata)
    signature = hashlib.sha256(file).hexdigest()
    write_atomically(path, _replaced(file, UNSIGNED, signature), what)


def load_tensors(path: Path, kind: str, what: str) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """What `save_tensors` wrote: ``about``, and the tensors on the CPU.

    Raises FileNotFoundError, or ValueError naming ``what`` and ``path`` for a file that is damaged
    or is something else.
    """
    fault = f"{what} {path} cannot be read"
    file = path.read_bytes()
    try:
        tensors = safetensors.torch.load(file)
        size = int.from_bytes(file[:8], "little")
        metadata = json.loads(file[8 : 8 + size])["__metadata__"]
        signature, said, text = (metadata[key] for key in ("sha256", "format", "about"))
        unsigned = _replaced(file, signature, UNSIGNED)
    except Exception as error:  # the library has many words for a damaged file
        raise ValueError(f"{fault}: it is damaged or another file") from error
    if said != kind:
        raise ValueError(f"{fault}: its format is {said!r}, not {kind!r}")
    if hashlib.sha256(unsigned).hexdigest() != signature:
        raise ValueError(f"{fault}: it is damaged, its SHA-256 does not fit its content")
    return json.loads(text), tensors


def _replaced(file: bytes, old: str, new: str) -> bytes:
    """The file with another SHA-256 in its header, where quotes in any text are escaped."""
    return file.replace(f'"sha256":"{old}"'.encode(), f'"sha256":"{new}"'.encode(), 1)


def content(tensor: Tensor) -> memoryview:
    """The bytes of a contiguous CPU tensor of any type, without a copy."""
    return tensor.flatten().view(torch.uint8).numpy().data
