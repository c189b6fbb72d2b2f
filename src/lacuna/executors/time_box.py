"""A time box: so many minutes from the start of the command, after which no run begins and those that run stop."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

from lacuna.drawing.durations import duration
from lacuna.errors import LacunaError
from lacuna.executors.schedule import Schedule

STOP_WITHIN = 30.0
"""Seconds that runs have to save their state and stop."""
TICK = 1.0
"""Seconds between two looks at what runs."""


class TimeBox:
    """How much time is left.

    Args:
        minutes: above 0; None: there is no end.
        started: when it began, in seconds of ``clock``; None: now.
        clock: a monotonic clock, in seconds.

    Raises:
        LacunaError: minutes that are no number above 0.
    """

    def __init__(
        self, minutes: Any = None, started: float | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        number = isinstance(minutes, int | float) and not isinstance(minutes, bool)
        if minutes is not None and not (number and 0 < minutes < math.inf):
            raise LacunaError(f"minutes={minutes} must be null or a number above 0, as in minutes=9 or minutes=0.5.")
        self._clock = clock
        self._seconds = math.inf if minutes is None else 60.0 * minutes
        self._started = clock() if started is None else started

    @property
    def left(self) -> float:
        """Seconds until it ends, at least 0; infinite where there is no end."""
        return max(0.0, self._started + self._seconds - self._clock())

    @property
    def over(self) -> bool:
        """Whether it has ended."""
        return self.left == 0

    @property
    def text(self) -> str:
        """For people: ``3 min of the time box left``; empty where there is no end."""
        return "" if math.isinf(self._seconds) else f"{duration(self.left)} of the time box left"

    def __str__(self) -> str:
        return duration(self._seconds)


def work_off(schedule: Schedule, box: TimeBox, tick: Callable[[], None], say: Callable[[str], None]) -> None:
    """Do what a schedule holds until it is done or the box has ended; what runs then saves its state and stops.

    Args:
        tick: called about once a second.
        say: told that the box has ended.
    """
    while schedule.open and not box.over:
        schedule.advance(min(TICK, box.left))
        tick()
    if not schedule.open:
        return
    say(f"the time box of {box} has ended: what runs saves its state and stops")
    schedule.stop()
    until = time.monotonic() + STOP_WITHIN
    while schedule.open and time.monotonic() < until:
        schedule.advance(TICK)
        tick()
    if schedule.open:
        schedule.give_up()
