"""Progress of a running run, read from the end of its history. Cheap enough for every run once a second."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, NamedTuple

TAIL = 1 << 14
"""Bytes that are read at the end of a history; a line has a few hundred."""

NOT_METRICS = ("step", "epoch")
NOT_FINITE = ("nan", "inf", "-inf")
"""Strings in a history for numbers that JSON cannot hold."""


def last_row(path: Path) -> dict[str, Any]:
    """The last complete line of a ``metrics.jsonl``; empty if there is none."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - TAIL))
            lines = file.read().split(b"\n")[:-1]  # what follows the last line break is an incomplete line
    except OSError:
        return {}
    for line in reversed(lines):
        try:
            row = json.loads(line)
        except ValueError:  # damaged, or cut off at its beginning
            continue
        if isinstance(row, dict):
            return row
    return {}


class Point(NamedTuple):
    """Number of epochs that were done at a time, in seconds."""

    time: float
    epochs: int


class RunProgress:
    """Epochs, metrics and time left of one running run.

    Times are seconds of the caller's clock, never those of the file, which another machine may have written.

    Args:
        path: its ``metrics.jsonl``, which need not exist yet.
        epochs: number of epochs that it trains; None: it does not train.
        started: when it began in this session.
    """

    def __init__(self, path: Path, epochs: int | None, started: float) -> None:
        self.path, self.epochs = path, epochs
        self.row: dict[str, Any] = {}
        self._signature: tuple[int, int] | None = None
        self._read()
        self.resumed = self.done > 0
        """Whether it resumes an earlier attempt, so that its time in this session is not that of a whole run."""
        self._start = Point(started, self.done)
        self._first: Point | None = None
        self._last = self._start

    def update(self, now: float) -> None:
        """Read the last line again if the file has changed."""
        if not self._read():
            return
        point = Point(now, self.done)
        if point.epochs < self._last.epochs:  # it resumed from a checkpoint older than its history
            self._start, self._first, self._last = point, None, point
        elif point.epochs > self._last.epochs:
            self._first, self._last = self._first or point, point

    def _read(self) -> bool:
        try:
            status = os.stat(self.path)
        except OSError:
            return False
        signature = (status.st_mtime_ns, status.st_size)
        if signature == self._signature:
            return False
        self._signature, self.row = signature, last_row(self.path)
        return True

    @property
    def done(self) -> int:
        """Number of finished epochs."""
        epoch = self.row.get("epoch")
        return int(epoch) + 1 if isinstance(epoch, int | float) else 0

    @property
    def metrics(self) -> dict[str, float]:
        """The numbers of the last line, in its order, also those that are not finite."""
        found = {}
        for name, value in self.row.items():
            if name not in NOT_METRICS and (isinstance(value, int | float) or value in NOT_FINITE):
                found[name] = float(value)
        return found

    def seconds_left(self, now: float) -> float | None:
        """Seconds until its last epoch ends; None before its first epoch in this session has ended."""
        if self.epochs is None or self._first is None:
            return None
        # the first epoch includes the time of starting: it counts only until a second one has ended
        before = self._start if self._last == self._first else self._first
        pace = (self._last.time - before.time) / (self._last.epochs - before.epochs)
        return max(pace * (self.epochs - self._last.epochs) - (now - self._last.time), 0.0)
