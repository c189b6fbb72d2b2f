"""What happens inside a SLURM job: its runs are done on the machine that SLURM has chosen, several at a time.

Before the time limit (SIGUSR2) the runs save their state, and submitit puts the same job into the queue again. At
SIGTERM (``scancel``, preemption) they save their state, too, and the job ends.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

from lacuna.executors.base import Executor, Job, Outcome
from lacuna.executors.inline import Inline
from lacuna.executors.processes import Processes
from lacuna.executors.schedule import BLOCKED, DONE, WAITING, Schedule, Task
from lacuna.executors.slurm_queue import LocalQueue
from lacuna.executors.slurm_records import given_up, write_event
from lacuna.executors.time_limit import TimeLimit, run_until_limit
from lacuna.executors.worker import run_job
from lacuna.runs.folder import RunFolder

SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)
LATE = 5.0
"""Seconds after which prerequisites are looked for again: files of another machine may be seen late."""


class GroupWork:
    """The work of one SLURM job; submitit stores it and calls it there.

    Args:
        folder: of the job's files; what becomes of its runs is written there.
        jobs: its runs, prerequisites first, with absolute folders.
        at_a_time: number of runs at a time; one run at a time may have several GPUs.
        cpus: threads of a run.
        gpus: 0 hides the GPUs from the runs; None: they have those of the job.
        retries: restarts of a run after its process died.
        after: ids of processes to wait for; jobs of a cluster start when they may.
        work: what a worker process does with a run.
    """

    def __init__(
        self,
        folder: Path,
        jobs: Sequence[Job],
        at_a_time: int,
        cpus: int,
        gpus: int | None,
        retries: int,
        after: Sequence[str] = (),
        work: Callable[[Job], Outcome] = run_job,
    ) -> None:
        self.folder, self.jobs, self.at_a_time = folder, tuple(jobs), at_a_time
        self.cpus, self.gpus, self.retries, self.after, self.work = cpus, gpus, retries, tuple(after), work
        self.home, self.command = Path.cwd(), list(sys.argv)

    def __call__(self) -> None:
        """Do the runs that are not done; called again after the time limit."""
        limit = SignalLimit()
        os.chdir(self.home)
        sys.argv = self.command  # is recorded with the numbers
        while LocalQueue().alive(self.after) and not limit.reached:
            time.sleep(0.2)
        with self._executor() as executor:
            schedule = Schedule(executor, [self._note])
            self._await_files()
            for job in self.jobs:
                self._add(job, schedule)
            run_until_limit(schedule, limit, lambda: self._give_up(schedule), lambda text: print(text, flush=True))
        limit.conclude()

    def checkpoint(self) -> Any:
        """What submitit puts into the queue after the time limit: the same."""
        from submitit.core.utils import DelayedSubmission

        return DelayedSubmission(self)

    def _executor(self) -> Executor:
        if self.at_a_time == 1:
            return Inline(cpus=self.cpus, gpus=self.gpus, retries=self.retries, work=self.work)
        return Processes(self.at_a_time, self.cpus, self.gpus, self.retries, self.work)

    def _await_files(self) -> None:
        """Give the file system of a cluster some time where prerequisites of other jobs seem to be missing."""
        here = {job.identity for job in self.jobs}
        if "SLURM_JOB_ID" in os.environ and any(set(_missing(job)) - here for job in self.jobs):
            time.sleep(LATE)

    def _add(self, job: Job, schedule: Schedule) -> None:
        if job.folder.finished:
            write_event(self.folder, job.identity, DONE)
            return
        # runs of other jobs are not done here: a failed one would be done again by every job that needs it
        missing = [folder for identity, folder in _missing(job).items() if identity not in schedule.tasks]
        if missing:
            write_event(self.folder, job.identity, BLOCKED, f"needs {missing[0].path.name}, which is not done")
        else:
            schedule.add(job)

    def _give_up(self, schedule: Schedule) -> None:
        """Stop the single runs that the command gave up."""
        for identity in given_up(self.folder) & schedule.tasks.keys():
            schedule.cancel(identity)

    def _note(self, task: Task) -> None:
        if task.state != WAITING:
            write_event(self.folder, task.job.identity, task.state, task.error)


class SignalLimit(TimeLimit):
    """A limit that a signal sets: SLURM's before the time limit, or SIGTERM."""

    def __init__(self) -> None:
        super().__init__()
        self._number = 0
        self._theirs: dict[int, Any] = {number: signal.signal(number, self._note) for number in SIGNALS}

    @property
    def seconds_left(self) -> float:
        """0 after a signal."""
        return 0.0 if self._number else super().seconds_left

    def __str__(self) -> str:
        return f"the job ({signal.Signals(self._number).name})"

    def conclude(self) -> None:
        """After a signal, end: as submitit does, which may put the job into the queue again.

        Raises:
            SystemExit: there was a signal.
        """
        if not self._number:
            return
        handler = self._theirs[self._number]
        if self._number != signal.SIGTERM and callable(handler):
            handler(self._number, None)
        raise SystemExit(1)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self._number in (0, signal.SIGTERM):  # one of the others, after SIGTERM, means that the job may go on later
            self._number = number


def _missing(job: Job) -> dict[str, RunFolder]:
    """The prerequisites of a run that are not finished, by identity."""
    folders = {
        needed.identity: RunFolder.of(job.settings.output, needed) for needed in job.recipe.prerequisites.values()
    }
    return {identity: folder for identity, folder in folders.items() if not folder.finished}
