"""Files that are whole or absent: written aside, then moved into place in one step."""

import contextlib
import os
from pathlib import Path


def write_atomically(path: Path, content: str | bytes, what: str = "") -> None:
    """Replace ``path`` with ``content``; a reader never meets half a file.

    Makes missing folders. Raises OSError naming ``what`` and ``path``; an existing file is
    then as it was.
    """
    part = path.with_name(path.name + ".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_bytes(content.encode() if isinstance(content, str) else content)
        os.replace(part, path)
    except OSError as error:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)
        raise OSError(
            error.errno, f"cannot write {what + ' ' if what else ''}{path}: {error.strerror}"
        ) from error
