"""Results that are on disk as soon as they are known."""

import json
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any


class Record:
    """One step's part of a JSON file, written whenever an entry is set."""

    def __init__(self, file: Path, step: str):
        self.file, self.step = file, step
        self.entries: dict[str, Any] = {}

    def __setitem__(self, key: str, value: Any) -> None:
        self.entries[key] = value
        document = json.loads(self.file.read_text()) if self.file.exists() else {}
        document[self.step] = self.entries
        partial = self.file.with_suffix(".partial")
        partial.write_text(json.dumps(document, indent=1))
        partial.replace(self.file)

    def __getitem__(self, key: str) -> Any:
        return self.entries[key]

    def of(self, step: str) -> dict[str, Any]:
        """What an earlier step has found."""
        return json.loads(self.file.read_text()).get(step, {}) if self.file.exists() else {}

    def guarded(self, key: str, task: Callable[..., Any], *arguments: Any) -> Any:
        """What a task returns, kept under ``key``; if it raises, what it raised."""
        started = time.perf_counter()
        try:
            found = task(*arguments)
        except Exception as error:  # whatever fails on a new device is a result
            told = traceback.format_exc().splitlines()
            self[key] = {"failed": f"{type(error).__name__}: {error}"[:500], "trace": told[-12:]}
            print(f"{key}: {self[key]['failed']}", flush=True)
            return None
        if isinstance(found, int | float | str | list | dict | None):
            self[key] = found
        print(f"{key}: {found} ({time.perf_counter() - started:.2f} s)", flush=True)
        return found
