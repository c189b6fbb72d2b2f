"""A time box shared by parts, and the lines that say how much of it is left."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping


class Clock:
    """Counts down.

    Args:
        seconds: of the whole.
        shares: part -> its share, in any unit; what a part leaves goes to those after it.
        now: seconds of a monotonic clock.
    """

    def __init__(self, seconds: float, shares: Mapping[str, float], now: Callable[[], float] = time.monotonic) -> None:
        self._now, self._shares = now, dict(shares)
        self.started = now()
        self.ends = self.started + seconds
        self.deadline = self.ends
        self.part = ""

    @property
    def left(self) -> float:
        """Seconds until the end of the whole; negative behind it."""
        return self.ends - self._now()

    @property
    def part_left(self) -> float:
        """Seconds until the end of the part."""
        return self.deadline - self._now()

    @property
    def elapsed(self) -> float:
        """Seconds since the beginning."""
        return self._now() - self.started

    def begin(self, part: str) -> float:
        """Begin a part; the seconds it has."""
        names = list(self._shares)
        rest = sum(self._shares[name] for name in names[names.index(part) :])
        seconds = max(0.0, self.left) * self._shares[part] / rest
        self.part, self.deadline = part, self._now() + seconds
        return seconds

    def say(self, text: str) -> None:
        """Print a line, and before it the time left of the whole and, in a part, of that."""
        part = f", {self.part} {_minutes(self.part_left)}" if self.part else ""
        print(f"[{_minutes(self.left)} left{part}] {text}", flush=True)


def _minutes(seconds: float) -> str:
    whole = max(0, round(seconds))
    return f"{whole // 60}:{whole % 60:02d}"
