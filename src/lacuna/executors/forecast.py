"""How long the rest of a graph of runs takes: what was known before, corrected by what happens now."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from lacuna.executors.run_progress import Watch
from lacuna.executors.schedule import DONE, Task


@dataclass(frozen=True)
class Left:
    """What is still to do.

    Args:
        running: seconds of every running run of which something is known.
        waiting: seconds of all waiting runs of which something is known, one after another.
        unknown: how many runs nothing is known of.
    """

    running: tuple[float, ...]
    waiting: float
    unknown: int

    def seconds(self, slots: int) -> float | None:
        """Until everything known is done, so many runs at a time; None where nothing is known."""
        if self.unknown and not self.running and not self.waiting:
            return None
        return max([(sum(self.running) + self.waiting) / max(slots, 1), *self.running])


class Forecast:
    """Learns from the runs of this session.

    A run that was expected to take so many seconds is expected to be off by the same factor as the others were, and
    one that nothing was known of to take as long as its like did here.

    Args:
        estimates: seconds that a run was expected to take, by identity; None where nothing was known.
    """

    def __init__(self, estimates: Mapping[str, float | None]) -> None:
        self.estimates = {identity: seconds for identity, seconds in estimates.items() if seconds is not None}
        self._taken: dict[str, float] = {}
        self._like: dict[str, list[float]] = {}
        self._groups: dict[str, str] = {}

    def ended(self, task: Task) -> None:
        """Learn from a whole run; leave out those that went on from an earlier attempt."""
        if task.state == DONE and task.started is not None and task.ended is not None:
            seconds = task.ended - task.started
            self._taken[task.job.identity] = seconds
            self._like.setdefault(self._group(task), []).append(seconds)

    def left(self, waiting: Iterable[Task], running: Mapping[str, tuple[Task, Watch]], now: float) -> Left:
        """Of everything that waits or runs.

        Args:
            running: the tasks that run and how far they are, by identity.
            now: seconds of the clock that stamped the tasks.
        """
        factor = self._factor(running, now)
        first = [self.of_running(task, watch, now, factor) for task, watch in running.values()]
        later = [self._whole(task, factor) for task in waiting]
        return Left(
            running=tuple(seconds for seconds in first if seconds is not None),
            waiting=sum(seconds for seconds in later if seconds is not None),
            unknown=sum(seconds is None for seconds in [*first, *later]),
        )

    def of_running(self, task: Task, watch: Watch, now: float, factor: float | None = None) -> float | None:
        """Seconds that a running run still takes: by its own pace, or what was expected of it."""
        by_pace = watch.left(now)
        if by_pace is not None:
            return by_pace
        whole = self._whole(task, self._factor({}, now) if factor is None else factor)
        return None if whole is None or watch.resumed else max(whole - (now - (task.started or now)), 0.0)

    def _whole(self, task: Task, factor: float) -> float | None:
        like = self._like.get(self._group(task)) if self._like else None
        if like:
            return sum(like) / len(like)
        expected = self.estimates.get(task.job.identity)
        return None if expected is None else expected * factor

    def _factor(self, running: Mapping[str, tuple[Task, Watch]], now: float) -> float:
        """Real over expected time, of what has ended and of what can be foreseen of what runs."""
        real = {identity: seconds for identity, seconds in self._taken.items() if identity in self.estimates}
        for identity, (task, watch) in running.items():
            left = watch.left(now)
            if identity in self.estimates and left is not None and task.started is not None and not watch.resumed:
                real[identity] = now - task.started + left
        expected = sum(self.estimates[identity] for identity in real)
        return sum(real.values()) / expected if expected > 0 else 1.0

    def _group(self, task: Task) -> str:
        """What runs of about the same length have in common: everything but the seed."""
        identity = task.job.identity
        if identity not in self._groups:
            recipe = task.job.recipe
            self._groups[identity] = f"{recipe.group}-{recipe.family}"
        return self._groups[identity]
