"""The schedule of a graph of jobs: ready jobs are submitted; a failed job blocks only the jobs that need it."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from lacuna.executors.base import Executor, Job, Outcome

WAITING, RUNNING, DONE, FAILED, BLOCKED, INTERRUPTED = "waiting", "running", "done", "failed", "blocked", "interrupted"


@dataclass
class Task:
    """A job and its state.

    Args:
        job: the job.
        cells: the cells that need it, for people: ``misconv/table1: MisConv, SVHN``.
        state: waiting, running, done, failed, blocked (a prerequisite failed) or interrupted.
        error: why it failed: one sentence or a traceback.
        started, ended: seconds of a monotonic clock.
    """

    job: Job
    cells: tuple[str, ...] = ()
    state: str = WAITING
    error: str | None = None
    started: float | None = None
    ended: float | None = None
    waiting_for: set[str] = field(default_factory=set)
    """Identities of prerequisites that are not done yet."""

    @property
    def final(self) -> bool:
        """Whether the state will not change any more."""
        return self.state not in (WAITING, RUNNING)


Listener = Callable[[Task], None]
"""Called at every change of a task's state."""


class Schedule:
    """Does jobs after their prerequisites, as many at a time as the executor takes.

    Args:
        executor: does the jobs.
        listeners: called at every change of a task's state.
    """

    def __init__(self, executor: Executor, listeners: Iterable[Listener] = ()) -> None:
        self.executor, self.listeners = executor, tuple(listeners)
        self.tasks: dict[str, Task] = {}
        self._ready: deque[str] = deque()
        self._dependents: dict[str, list[str]] = {}
        self._running = 0
        self._stopping = False

    def add(self, job: Job, cells: Iterable[str] = ()) -> Task:
        """Add a job; add its unfinished prerequisites first. A job that was added before gets the cells only.

        A prerequisite that was not added must be finished already.
        """
        existing = self.tasks.get(job.identity)
        if existing is not None:
            existing.cells = tuple(dict.fromkeys([*existing.cells, *cells]))
            return existing
        task = Task(job, tuple(cells))
        self.tasks[job.identity] = task
        for needed in job.recipe.prerequisites.values():
            first = self.tasks.get(needed.identity)
            if first is None or first.state == DONE:
                continue
            if first.final:
                self._end(task, BLOCKED, f"needs {first.job.folder.path.name}, which {first.state}")
                return task
            task.waiting_for.add(needed.identity)
            self._dependents.setdefault(needed.identity, []).append(job.identity)
        if not task.waiting_for:
            self._ready.append(job.identity)
        self._notify(task)
        return task

    @property
    def active(self) -> bool:
        """Whether a job runs or can still start."""
        return bool(self._running or (self._ready and not self._stopping))

    def running(self) -> list[Task]:
        """The running tasks."""
        return [task for task in self.tasks.values() if task.state == RUNNING]

    def advance(self, timeout: float) -> list[Task]:
        """Submit ready jobs, then wait up to ``timeout`` seconds for a job to end; the tasks that have ended."""
        self._submit_ready()
        if not self._running and (self.executor.in_order or not self._ready):
            return []
        ended: list[Task] = []
        for outcome in self.executor.wait(timeout):
            ended += self._handle(outcome)
        return ended

    def cancel(self, identity: str) -> None:
        """Give up one job: it does not start, or is asked to save its state and stop. It ends as interrupted, or done.

        Nothing else may need it.
        """
        task = self.tasks[identity]
        if task.state == RUNNING:
            self.executor.cancel(identity)
        elif not task.final:
            if identity in self._ready:
                self._ready.remove(identity)
            self._end(task, INTERRUPTED, "it was given up")

    def _submit_ready(self) -> None:
        """Submit the ready jobs that the executor takes."""
        later: list[str] = []
        while self._ready and not self._stopping and self._running < self.executor.slots:
            task = self.tasks[self._ready[0]]
            if not self.executor.takes(task.job):
                if self.executor.in_order:
                    break
                later.append(self._ready.popleft())
                continue
            self._ready.popleft()
            task.state, task.started = RUNNING, time.monotonic()
            self._running += 1
            self._notify(task)
            self.executor.submit(task.job)
        self._ready.extendleft(reversed(later))

    def stop(self) -> None:
        """Start no more jobs; ask the running ones to save their state and stop. :meth:`advance` until none is active.

        Jobs interrupted by this block nothing: the same command resumes them later.
        """
        self._stopping = True
        self.executor.stop()

    def kill_running(self) -> None:
        """Kill the jobs that did not stop in time. They can be resumed from their last checkpoint."""
        self.executor.close()
        for task in self.running():
            self._running -= 1
            self._end(task, INTERRUPTED, "it did not stop in time")

    def _handle(self, outcome: Outcome) -> list[Task]:
        task = self.tasks[outcome.identity]
        self._running -= 1
        if outcome.done or (outcome.interrupted and task.job.folder.finished):
            self._end(task, DONE)
            for identity in self._dependents.pop(outcome.identity, ()):
                dependent = self.tasks[identity]
                dependent.waiting_for.discard(outcome.identity)
                if not dependent.waiting_for and dependent.state == WAITING:
                    # jobs that have become possible come before other new ones
                    self._ready.appendleft(identity)
            return [task]
        self._end(task, INTERRUPTED if outcome.interrupted else FAILED, outcome.error)
        return [task] if outcome.interrupted and self._stopping else [task, *self._block(task)]

    def _block(self, task: Task) -> list[Task]:
        blocked: list[Task] = []
        for identity in self._dependents.pop(task.job.identity, ()):
            dependent = self.tasks[identity]
            if not dependent.final:
                self._end(dependent, BLOCKED, f"needs {task.job.folder.path.name}, which {task.state}")
                blocked += [dependent, *self._block(dependent)]
        return blocked

    def _end(self, task: Task, state: str, error: str | None = None) -> None:
        task.state, task.error, task.ended = state, error, time.monotonic()
        self._notify(task)

    def _notify(self, task: Task) -> None:
        for listener in self.listeners:
            listener(task)
