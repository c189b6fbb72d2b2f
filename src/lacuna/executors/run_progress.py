"""How far a running run is, from the tail of its history: cheap enough to ask once a second for every run."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, NamedTuple

TAIL = 1 << 14
"""Bytes at the end of a history that are read; a line has a few hundred."""

NOT_METRICS = ("step", "epoch")
NOT_FINITE = ("nan", "inf", "-inf")
"""How a history writes what JSON has no numbers for."""


def last_row(path: Path) -> dict[str, Any]:
    """The last complete line of a ``metrics.jsonl``; empty if there is none."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - TAIL))
            lines = file.read().split(b"\n")[:-1]  # behind the last line's end stands at most half a line
    except OSError:
        return {}
    for line in reversed(lines):
        try:
            row = json.loads(line)
        except ValueError:  # damaged, or its beginning was not read
            continue
        if isinstance(row, dict):
            return row
    return {}


class Point(NamedTuple):
    """So many epochs were done at that time."""

    time: float
    epochs: int


class Watch:
    """Epochs, metrics and time left of one running run.

    Times are seconds of whatever clock the caller uses, never those of the file: another machine may have written it.

    Args:
        path: its ``metrics.jsonl``, which need not exist yet.
        epochs: how many it trains; None: it does not train.
        started: when it began here.
    """

    def __init__(self, path: Path, epochs: int | None, started: float) -> None:
        self.path, self.epochs = path, epochs
        self.row: dict[str, Any] = {}
        self._seen: tuple[int, int] | None = None
        self._read()
        self.resumed = self.done > 0
        """Whether it goes on from an earlier attempt, so that its time here is not that of a whole run."""
        self._start = Point(started, self.done)
        self._first: Point | None = None
        self._last = self._start

    def look(self, now: float) -> None:
        """Read the last line, if the file changed since the last time."""
        if not self._read():
            return
        point = Point(now, self.done)
        if point.epochs < self._last.epochs:  # its last checkpoint was older than its history
            self._start, self._first, self._last = point, None, point
        elif point.epochs > self._last.epochs:
            self._first, self._last = self._first or point, point

    def _read(self) -> bool:
        try:
            status = os.stat(self.path)
        except OSError:
            return False
        seen = (status.st_mtime_ns, status.st_size)
        if seen == self._seen:
            return False
        self._seen, self.row = seen, last_row(self.path)
        return True

    @property
    def done(self) -> int:
        """Epochs that are behind it."""
        epoch = self.row.get("epoch")
        return int(epoch) + 1 if isinstance(epoch, int | float) else 0

    @property
    def metrics(self) -> dict[str, float]:
        """The numbers of the last line, in its order; those that are not finite included."""
        found = {}
        for name, value in self.row.items():
            if name not in NOT_METRICS and (isinstance(value, int | float) or value in NOT_FINITE):
                found[name] = float(value)
        return found

    def left(self, now: float) -> float | None:
        """Seconds to its last epoch, None where no epoch ended yet."""
        if self.epochs is None or self._first is None:
            return None
        # the first epoch's time is also that of starting: once there is another one, it no longer counts
        before = self._start if self._last == self._first else self._first
        pace = (self._last.time - before.time) / (self._last.epochs - before.epochs)
        return max(pace * (self.epochs - self._last.epochs) - (now - self._last.time), 0.0)
