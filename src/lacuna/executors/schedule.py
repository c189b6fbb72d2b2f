"""From a graph of jobs to an executor: what is ready is handed over, what fails blocks only what needs it."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from lacuna.executors.base import Executor, Job, Outcome

WAITING, RUNNING, DONE, FAILED, BLOCKED, INTERRUPTED = "waiting", "running", "done", "failed", "blocked", "interrupted"


@dataclass
class Task:
    """A job and how it stands.

    Args:
        job: what is to be done.
        cells: what it is for, for people: ``misconv/table1: MisConv, SVHN``.
        state: waiting, running, done, failed, blocked (what it needs failed) or interrupted.
        error: why it failed, one sentence or a traceback.
        started, ended: seconds of a monotonic clock.
    """

    job: Job
    cells: tuple[str, ...] = ()
    state: str = WAITING
    error: str | None = None
    started: float | None = None
    ended: float | None = None
    missing: set[str] = field(default_factory=set)
    """Identities of needed jobs that are not done yet."""

    @property
    def ended_for_good(self) -> bool:
        """Whether nothing more will happen to it here."""
        return self.state not in (WAITING, RUNNING)


Listener = Callable[[Task], None]
"""Called whenever a task's state changes."""


class Schedule:
    """Runs jobs in the order their needs allow, as many at a time as the executor takes.

    Args:
        executor: where they run.
        listeners: told of every change of state.
    """

    def __init__(self, executor: Executor, listeners: Iterable[Listener] = ()) -> None:
        self.executor, self.listeners = executor, tuple(listeners)
        self.tasks: dict[str, Task] = {}
        self._ready: deque[str] = deque()
        self._dependents: dict[str, list[str]] = {}
        self._running = 0
        self._stopping = False

    def add(self, job: Job, cells: Iterable[str] = ()) -> Task:
        """Take up a job, after those it needs that are not finished; one that was added before stays as it is.

        A needed run that was not added must be finished already.
        """
        known = self.tasks.get(job.identity)
        if known is not None:
            known.cells = tuple(dict.fromkeys([*known.cells, *cells]))
            return known
        task = Task(job, tuple(cells))
        self.tasks[job.identity] = task
        for needed in job.recipe.prerequisites.values():
            first = self.tasks.get(needed.identity)
            if first is None or first.state == DONE:
                continue
            if first.ended_for_good:
                self._end(task, BLOCKED, f"needs {first.job.folder.path.name}, which {first.state}")
                return task
            task.missing.add(needed.identity)
            self._dependents.setdefault(needed.identity, []).append(job.identity)
        if not task.missing:
            self._ready.append(job.identity)
        self._tell(task)
        return task

    @property
    def open(self) -> bool:
        """Whether anything still waits or runs."""
        return bool(self._running or (self._ready and not self._stopping))

    def running(self) -> list[Task]:
        """The tasks that run now."""
        return [task for task in self.tasks.values() if task.state == RUNNING]

    def advance(self, timeout: float) -> list[Task]:
        """Hand over what is ready, then wait up to ``timeout`` seconds for something to end; what has ended."""
        while self._ready and not self._stopping and self._running < self.executor.slots:
            task = self.tasks[self._ready.popleft()]
            task.state, task.started = RUNNING, time.monotonic()
            self._running += 1
            self._tell(task)
            self.executor.submit(task.job)
        if not self._running:
            return []
        ended: list[Task] = []
        for outcome in self.executor.wait(timeout):
            ended += self._take(outcome)
        return ended

    def stop(self) -> None:
        """Begin nothing more, and have what runs save its state and end; :meth:`advance` until nothing is open.

        What is interrupted then blocks nothing: it goes on, and what needs it follows, when the same is asked for
        again.
        """
        self._stopping = True
        self.executor.stop()

    def give_up(self) -> None:
        """End what did not stop in time, by force: it goes on later from the checkpoint that it has."""
        self.executor.close()
        for task in self.running():
            self._running -= 1
            self._end(task, INTERRUPTED, "it did not stop in time")

    def _take(self, outcome: Outcome) -> list[Task]:
        task = self.tasks[outcome.identity]
        self._running -= 1
        if outcome.done or (outcome.interrupted and task.job.folder.finished):
            self._end(task, DONE)
            for identity in self._dependents.pop(outcome.identity, ()):
                dependent = self.tasks[identity]
                dependent.missing.discard(outcome.identity)
                if not dependent.missing and dependent.state == WAITING:
                    # what many wait for was done first; what it makes possible comes before other new work
                    self._ready.appendleft(identity)
            return [task]
        self._end(task, INTERRUPTED if outcome.interrupted else FAILED, outcome.error)
        return [task] if outcome.interrupted and self._stopping else [task, *self._block(task)]

    def _block(self, task: Task) -> list[Task]:
        blocked: list[Task] = []
        for identity in self._dependents.pop(task.job.identity, ()):
            dependent = self.tasks[identity]
            if not dependent.ended_for_good:
                self._end(dependent, BLOCKED, f"needs {task.job.folder.path.name}, which {task.state}")
                blocked += [dependent, *self._block(dependent)]
        return blocked

    def _end(self, task: Task, state: str, error: str | None = None) -> None:
        task.state, task.error, task.ended = state, error, time.monotonic()
        self._tell(task)

    def _tell(self, task: Task) -> None:
        for listener in self.listeners:
            listener(task)
