"""The time of a command, shared by its parts, and log lines with the time left."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping


class Clock:
    """Counts down the time of the command and of its present part.

    Args:
        seconds: of all parts together.
        shares: part -> its share, in any unit. Time that a part does not use goes to the parts after it.
        now: a monotonic clock, in seconds.
    """

    def __init__(self, seconds: float, shares: Mapping[str, float], now: Callable[[], float] = time.monotonic) -> None:
        self._now, self._shares = now, dict(shares)
        self.started = now()
        self.ends = self.started + seconds
        self.deadline = self.ends
        self.part = ""

    @property
    def left(self) -> float:
        """Seconds until the end of the command; negative after it."""
        return self.ends - self._now()

    @property
    def part_left(self) -> float:
        """Seconds until the end of the present part."""
        return self.deadline - self._now()

    @property
    def elapsed(self) -> float:
        """Seconds since the start."""
        return self._now() - self.started

    def begin(self, part: str) -> float:
        """Start a part; the seconds that it has."""
        names = list(self._shares)
        rest = sum(self._shares[name] for name in names[names.index(part) :])
        seconds = max(0.0, self.left) * self._shares[part] / rest
        self.part, self.deadline = part, self._now() + seconds
        return seconds

    def log(self, text: str) -> None:
        """Print a line, preceded by the time left of the command and of the present part."""
        part = f", {self.part} {_minutes(self.part_left)}" if self.part else ""
        print(f"[{_minutes(self.left)} left{part}] {text}", flush=True)


def _minutes(seconds: float) -> str:
    whole = max(0, round(seconds))
    return f"{whole // 60}:{whole % 60:02d}"
