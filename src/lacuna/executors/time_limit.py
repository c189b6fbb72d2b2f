"""A time limit of a command (``minutes=``). At its end no run starts; running ones save their state and stop."""

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
"""Seconds between two checks of the running jobs."""


class TimeLimit:
    """Counts down the time limit of a command.

    Args:
        minutes: above 0; None: no limit.
        started: start of the command, in seconds of ``clock``; None: now.
        clock: a monotonic clock, in seconds.

    Raises:
        LacunaError: minutes that are not a number above 0.
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
    def seconds_left(self) -> float:
        """Seconds until the limit, at least 0; infinite without a limit."""
        return max(0.0, self._started + self._seconds - self._clock())

    @property
    def reached(self) -> bool:
        """Whether the time is up."""
        return self.seconds_left == 0

    @property
    def text(self) -> str:
        """For people: ``time limit in 3 min``; empty without a limit."""
        return "" if math.isinf(self._seconds) else f"time limit in {duration(self.seconds_left)}"

    def __str__(self) -> str:
        return duration(self._seconds)


def run_until_limit(schedule: Schedule, limit: TimeLimit, tick: Callable[[], None], log: Callable[[str], None]) -> None:
    """Do the jobs of a schedule until all are done or the time limit is reached. Then running jobs are stopped.

    Args:
        schedule: jobs and their executor.
        limit: the time limit.
        tick: called about once a second.
        log: called with a line of text when the limit is reached.
    """
    while schedule.active and not limit.reached:
        schedule.advance(min(TICK, limit.seconds_left))
        tick()
    if not schedule.active:
        return
    log(f"time limit of {limit} reached: running runs save their state and stop")
    schedule.stop()
    until = time.monotonic() + STOP_WITHIN
    while schedule.active and time.monotonic() < until:
        schedule.advance(TICK)
        tick()
    if schedule.active:
        schedule.kill_running()
