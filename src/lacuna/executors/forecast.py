"""How long the remaining runs of a graph take: estimates from earlier runs, corrected by the runs of this session."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from lacuna.executors.run_progress import RunProgress
from lacuna.executors.schedule import DONE, Task


@dataclass(frozen=True)
class Remaining:
    """The work still to do.

    Args:
        running: seconds left of every running run with an estimate.
        waiting: seconds of every waiting run with an estimate.
        unknown: number of running and waiting runs without an estimate.
    """

    running: tuple[float, ...]
    waiting: tuple[float, ...]
    unknown: int

    @property
    def timed(self) -> int:
        """Number of runs with an estimate."""
        return len(self.running) + len(self.waiting)

    def seconds(self, slots: int) -> float | None:
        """Seconds until all runs are done, ``slots`` at a time; None if no run has an estimate.

        A run without an estimate counts as the mean of those with one.
        """
        total = total_seconds([*self.running, *self.waiting], self.unknown)
        return None if total is None else max([total / max(slots, 1), *self.running])


def total_seconds(estimates: list[float], unknown: int) -> float | None:
    """The sum of estimates, with their mean for each of ``unknown`` more runs; None if there are only unknown ones."""
    if unknown and not estimates:
        return None
    return sum(estimates) + (unknown * sum(estimates) / len(estimates) if unknown else 0.0)


def timed_text(timed: int, unknown: int) -> str:
    """How many runs an estimate rests on: `` (12 of 40 runs timed)``; empty if on all."""
    return f" ({timed} of {timed + unknown} runs timed)" if unknown else ""


class Forecast:
    """Learns from the runs of this session.

    All estimates are scaled by the ratio of real to expected time of the runs so far. A run without an estimate is
    expected to take as long as the same run with other seeds took in this session.

    Args:
        estimates: seconds that a run was expected to take, by identity; None: unknown.
    """

    def __init__(self, estimates: Mapping[str, float | None]) -> None:
        self.estimates = {identity: seconds for identity, seconds in estimates.items() if seconds is not None}
        self._taken: dict[str, float] = {}
        self._of_group: dict[str, list[float]] = {}
        self._groups: dict[str, str] = {}

    def learn(self, task: Task) -> None:
        """Learn from a task that ended. Do not call it for a run that was resumed."""
        if task.state == DONE and task.started is not None and task.ended is not None:
            seconds = task.ended - task.started
            self._taken[task.job.identity] = seconds
            self._of_group.setdefault(self._group(task), []).append(seconds)

    def remaining(
        self, waiting: Iterable[Task], running: Mapping[str, tuple[Task, RunProgress]], now: float
    ) -> Remaining:
        """The work in all waiting and running tasks.

        Args:
            waiting: tasks that have not started.
            running: by identity, the tasks that run and their progress.
            now: seconds of the clock that stamped the tasks.
        """
        factor = self._factor(running, now)
        first = [self.seconds_left(task, progress, now, factor) for task, progress in running.values()]
        later = [self._whole(task, factor) for task in waiting]
        return Remaining(
            running=tuple(seconds for seconds in first if seconds is not None),
            waiting=tuple(seconds for seconds in later if seconds is not None),
            unknown=sum(seconds is None for seconds in [*first, *later]),
        )

    def seconds_left(self, task: Task, progress: RunProgress, now: float, factor: float | None = None) -> float | None:
        """Seconds that a running task still takes: from its pace, or from its estimate. None: unknown."""
        by_pace = progress.seconds_left(now)
        if by_pace is not None:
            return by_pace
        whole = self._whole(task, self._factor({}, now) if factor is None else factor)
        return None if whole is None or progress.resumed else max(whole - (now - (task.started or now)), 0.0)

    def _whole(self, task: Task, factor: float) -> float | None:
        similar = self._of_group.get(self._group(task)) if self._of_group else None
        if similar:
            return sum(similar) / len(similar)
        expected = self.estimates.get(task.job.identity)
        return None if expected is None else expected * factor

    def _factor(self, running: Mapping[str, tuple[Task, RunProgress]], now: float) -> float:
        """Real over expected time, of finished runs and of running ones with a known pace."""
        real = {identity: seconds for identity, seconds in self._taken.items() if identity in self.estimates}
        for identity, (task, progress) in running.items():
            left = progress.seconds_left(now)
            if identity in self.estimates and left is not None and task.started is not None and not progress.resumed:
                real[identity] = now - task.started + left
        expected = sum(self.estimates[identity] for identity in real)
        return sum(real.values()) / expected if expected > 0 else 1.0

    def _group(self, task: Task) -> str:
        """Equal for runs that differ in the seed only."""
        identity = task.job.identity
        if identity not in self._groups:
            recipe = task.job.recipe
            self._groups[identity] = f"{recipe.group}-{recipe.family}"
        return self._groups[identity]
