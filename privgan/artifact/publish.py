"""From a hidden folder to their place: a notebook's pictures and numbers, so that they agree.

A folder cannot take the place of some files among many in one step. So what a run has made is
sealed first: its numbers list the SHA-256 of every picture, and the folder takes a name that says
it is whole. The old numbers then go before the first picture moves and the new ones come last. A
kill at any moment leaves either all of the old, or a sealed folder that the next run moves to its
place; until then no numbers lie beside another run's pictures, and `check_whole` refuses them.
"""

import hashlib
import json
import os
from pathlib import Path
from typing import Any

from privgan.files import parse, reading, write_atomically


def sealed(into: Path, output: str) -> Path:
    """The folder of what is whole and not yet in its place."""
    return into / f".{output}.made"


def seal(stage: Path, into: Path, output: str, **about: Any) -> None:
    """Add ``about`` and the pictures' digests to the numbers in ``stage``; it is then `sealed`."""
    path = stage / f"{output}.json"
    if not path.exists():
        raise ValueError(f"{output} recorded no numbers; its last cell should write {path.name}")
    pictures = sorted(set(stage.iterdir()) - {stage / name for name in _last(output)})
    content = read_numbers(path) | about
    content["pictures"] = {picture.name: _sha256(picture) for picture in pictures}
    write_atomically(path, json.dumps(content, indent=1) + "\n")
    os.replace(stage, sealed(into, output))


def publish(into: Path, output: str) -> None:
    """Move what is `sealed` to its place; after a kill, call it again.

    Pictures that the replaced numbers list, and the new ones do not, are removed.
    """
    made = sealed(into, output)
    numbers, notebook = (into / name for name in _last(output))
    if (made / numbers.name).exists():
        if numbers.exists():
            new = read_numbers(made / numbers.name)["pictures"]
            for name in set(read_numbers(numbers).get("pictures", {})) - set(new):
                (into / name).unlink(missing_ok=True)
        notebook.unlink(missing_ok=True)
        numbers.unlink(missing_ok=True)
    last = [name for name in _last(output) if (made / name).exists()]
    pictures = sorted({path.name for path in made.iterdir()} - set(last))
    for name in [*pictures, *last]:
        os.replace(made / name, into / name)
    made.rmdir()


def check_whole(into: Path, output: str) -> None:
    """Raise ValueError unless the numbers are there, and every picture is the one made with them.

    Numbers of an older version list no pictures, and are taken at their word.
    """
    path = into / f"{output}.json"
    if sealed(into, output).exists():
        raise ValueError(f"a run was killed while it moved {output} into {into}; repeat it")
    if not path.exists():
        raise ValueError(f"{path} is missing; make {output} again")
    for name, digest in read_numbers(path).get("pictures", {}).items():
        if not (into / name).exists() or _sha256(into / name) != digest:
            raise ValueError(f"{into / name} is not what {path.name} was made with; repeat the run")


def _last(output: str) -> tuple[str, str]:
    return f"{output}.json", f"{output}.ipynb"


def read_numbers(path: Path) -> dict[str, Any]:
    """What a notebook recorded; ValueError for a file that is damaged or something else."""
    with reading(path, f"{path} is not JSON as a notebook records it"):
        content = parse(path.read_bytes(), constant=float)
        if not isinstance(content, dict):
            raise ValueError(f"it is a {type(content).__name__}")
        return content


def executed(folder: Path) -> dict[str, dict[str, Any]]:
    """The numbers of every notebook in ``folder``, by its name; not those of stand-in data."""
    paths = sorted(folder.glob("[0-9]*.json"))
    return {path.stem: read_numbers(path) for path in paths if "." not in path.stem}


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
