"""The history of a run on disk: JSON lines, one for every epoch. It is the source of truth; mirrors follow it."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from lightning_utilities.core.rank_zero import rank_zero_only
from pytorch_lightning.loggers.logger import Logger

from lacuna.files import disk_errors, write_text
from lacuna.runs.history import HISTORY, numbers, read_history, whole_lines

__all__ = ["HISTORY", "DiskLogger", "read_history"]

Row = dict[str, Any]


class DiskLogger(Logger):
    """Appends JSON lines to ``folder/metrics.jsonl``: ``{"step": 12, "epoch": 0, "loss": 0.3}``.

    Lines have no time stamps, so the history of a resumed run equals that of an uninterrupted one byte by byte. Values
    that are not finite are the strings ``"nan"``, ``"inf"`` and ``"-inf"``; :func:`read_history` reads them as numbers.

    Args:
        folder: of the run.
        then: called with every line that has been written, as numbers, and its place in the file (from 0).
    """

    def __init__(self, folder: Path | str, then: Callable[[Row, int], None] | None = None) -> None:
        super().__init__()
        self.folder, self.then = Path(folder), then
        self.path = self.folder / HISTORY
        lines = whole_lines(self.path)
        self.lines = len(lines)
        self._inherited = len(lines)
        if self.path.exists() and self.path.stat().st_size != sum(len(line.encode()) + 1 for line in lines):
            # a process killed while it wrote leaves half a line
            self._rewrite(lines)

    @property
    def name(self) -> str:
        """Lightning's name for the experiment."""
        return self.folder.name

    @property
    def version(self) -> str:
        """Lightning's name for the attempt; there is only one."""
        return ""

    @property
    def save_dir(self) -> str:
        """Folder for files of this logger."""
        return str(self.folder)

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Append one line, written when this returns."""
        row: dict[str, Any] = {} if step is None else {"step": int(step)}
        row |= {key: _plain(value) for key, value in metrics.items()}
        with disk_errors(self.path):
            self.folder.mkdir(parents=True, exist_ok=True)
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(row, allow_nan=False) + "\n")
        self.lines += 1
        if self.then is not None:
            self.then(numbers(row), self.lines - 1)

    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        """Do nothing: the configuration is stored in ``recipe.json``."""

    @rank_zero_only
    def truncate(self, lines: int) -> None:
        """Keep the first ``lines`` lines."""
        if lines < self.lines:
            self._rewrite(whole_lines(self.path)[:lines])
        self._inherited = 0

    @rank_zero_only
    def drop_inherited(self) -> None:
        """Drop the lines from before this logger: those of an attempt that left no checkpoint."""
        if self._inherited:
            self._rewrite(whole_lines(self.path)[self._inherited :])
        self._inherited = 0

    def close(self, exit_code: int = 0) -> None:
        """Do nothing: the file is not kept open."""

    def _rewrite(self, lines: list[str]) -> None:
        write_text(self.path, "".join(line + "\n" for line in lines))
        self.lines = len(lines)


def _plain(value: Any) -> Any:
    if isinstance(value, (bool, int, str)) or value is None:
        return value
    number = float(value)
    return number if math.isfinite(number) else str(number)
