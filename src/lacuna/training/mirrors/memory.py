"""What a run's mirrors have been told: ``mirrors.json`` in its folder. So no line is logged twice."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path

from lacuna import files
from lacuna.errors import LacunaError
from lacuna.training.mirrors.base import Entry

FILE = "mirrors.json"
SECONDS = 1.0
"""Between two writes: short epochs shall not wait for the disk."""


class Memory:
    """By mirror: ``lines`` of the history that it has, ``finished`` with the final results, and its own keys.

    Args:
        folder: of the run.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / FILE
        self.entries: dict[str, Entry] = {}
        with contextlib.suppress(LacunaError, OSError, AttributeError, TypeError, ValueError):
            self.entries = {str(name): dict(entry) for name, entry in files.read_json(self.path).items()}
        self._written = time.monotonic()

    def __getitem__(self, name: str) -> Entry:
        return self.entries.setdefault(name, {})

    def finished(self, name: str) -> bool:
        """Whether a mirror has everything, so that there is nothing left to tell it."""
        return bool(self.entries.get(name, {}).get("finished"))

    def save(self, *, now: bool = True) -> None:
        """Write the file, at once or if the last time is long enough ago; a full disk is reported by the run itself."""
        if not now and time.monotonic() - self._written < SECONDS:
            return
        self._written = time.monotonic()
        with contextlib.suppress(LacunaError, OSError):
            files.write_json(self.path, self.entries)
