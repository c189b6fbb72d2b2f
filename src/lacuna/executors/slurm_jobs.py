"""The SLURM jobs of a command: submits groups of runs, and knows which job has which run and what became of it."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from lacuna.executors.base import Job, Outcome
from lacuna.executors.schedule import BLOCKED, DONE, FAILED
from lacuna.executors.slurm_groups import Group, Room, make_groups
from lacuna.executors.slurm_job import GroupWork
from lacuna.executors.slurm_queue import LOCAL, QUEUES, SLURM, Request, here
from lacuna.executors.slurm_records import Record, Records

GRACE = 40.0
"""Seconds that cancelled jobs have to save the state of their runs; SLURM itself kills after 30."""

LATE = 20.0
"""Seconds after the end of a job in which what it wrote on another machine may still come to light."""


@dataclass(frozen=True)
class Shape:
    """What all jobs have in common.

    Args:
        room: for runs.
        request: to the queue; CPU cores are those of a single run.
        most: jobs at a time; None: no limit.
        retries: restarts of a run after its process died.
        work: what a worker process does with a run.
    """

    room: Room
    request: Request
    most: int | None
    retries: int
    work: Callable[[Job], Outcome]


class SlurmJobs:
    """Jobs in one queue, and those that earlier commands submitted to any.

    Args:
        queue: name of the queue for new jobs.
        shape: of new jobs.
    """

    def __init__(self, queue: str, shape: Shape) -> None:
        self.shape = shape
        self.queues = {name: kind() for name, kind in QUEUES.items()}
        self.queue = self.queues[queue]
        self.all: list[Record] = []
        """In the order of submission."""
        self.own: list[Record] = []
        """Those submitted here."""
        self.of_run: dict[str, Record] = {}
        """The job that has a run, or had it last."""
        self._records: Records | None = None
        self._asked = -math.inf
        self._ended: dict[str, float] = {}

    # ------------------------------------------------------------------ submission

    @contextmanager
    def locked(self, output: Path) -> Iterator[None]:
        """No other command looks up or submits jobs of an output folder in the meantime."""
        self._records = self._records or Records(output)
        with self._records.locked():
            yield

    def look_up(self, identities: Collection[str]) -> None:
        """Find the jobs of earlier commands that still have some runs, or in which one failed; drop what is over."""
        assert self._records is not None
        self.all = self._records.load()
        self.refresh()
        for record in self.all:
            failed = record.of_state(FAILED)
            for identity in set(identities).intersection(record.runs if record.alive else failed):
                self.of_run[identity] = record
            if not record.alive and not failed:
                record.drop()
        self.all = [record for record in self.all if record in self.of_run.values()]

    def submit(self, jobs: Sequence[Job], expected: Mapping[str, float | None]) -> None:
        """Submit runs in groups, each after the groups and the earlier jobs that it needs.

        Args:
            jobs: with absolute folders, prerequisites first.
            expected: seconds that they are expected to take, by identity.

        Raises:
            LacunaError: the queue refuses a job.
        """
        mine: list[Record] = []
        for group in make_groups(jobs, expected, self.shape.room):
            needed = (needed.identity for job in group.jobs for needed in job.recipe.prerequisites.values())
            records = [record for identity in needed if (record := self.of_run.get(identity))]
            queued = [record for record in self.all if record.alive and record.queue == self.queue.name]
            after = [mine[need].id for need in group.needs] + [record.id for record in records if record in queued]
            if self.shape.most is not None and len(queued) >= self.shape.most:
                after.append(queued[-self.shape.most].id)  # it takes the place of that one
            mine.append(self._submit(group, list(dict.fromkeys(after))))

    def _submit(self, group: Group, after: list[str]) -> Record:
        assert self._records is not None
        folder, shape = self._records.new_folder(), self.shape
        cpus = max(job.resources.cpus for job in group.jobs)
        gpus = shape.request.gpus if any(job.resources.gpus for job in group.jobs) else 0
        work = GroupWork(
            folder,
            group.jobs,
            group.at_a_time,
            cpus,
            None if gpus else 0,
            shape.retries,
            after if self.queue.name == LOCAL else (),
            shape.work,
        )
        request = replace(shape.request, cpus=cpus * group.at_a_time, gpus=gpus)
        id = self.queue.submit(work, folder, request, after)
        record = self._records.add(folder, id, self.queue.name, group.jobs)
        self.all.append(record)
        self.own.append(record)
        self.of_run |= dict.fromkeys(record.runs, record)
        return record

    # ------------------------------------------------------------------ what becomes of them

    def refresh(self) -> None:
        """Read what the jobs have written and, now and then, ask the queues which are alive."""
        for record in self.all:
            record.update()
        now = time.monotonic()
        if now - self._asked < self.queue.poll_seconds:
            return
        self._asked = now
        for name, queue in self.queues.items():
            asked = [record for record in self.all if record.alive and record.queue == name]
            alive = queue.alive([record.id for record in asked]) if asked else None
            for record in asked if alive is not None else ():
                record.alive = record.id in (alive or ()) and (name == SLURM or record.host == here())
                record.update()

    def state(self, identity: str) -> str | None:
        """What is known of a run; None: it has not begun."""
        record = self.of_run.get(identity)
        return None if record is None else record.state(identity)

    def over(self, record: Record) -> bool:
        """Whether a job has ended, long enough ago to know all that it wrote."""
        if record.alive:
            return False
        late = LATE if record.queue == SLURM else 0.0
        return time.monotonic() - self._ended.setdefault(record.id, time.monotonic()) >= late

    def reason(self, record: Record) -> str:
        """How a job ended, in the word of its queue."""
        return self.queues[record.queue].reason(record.id)

    # ------------------------------------------------------------------ the end

    def cancel(self) -> None:
        """Ask the jobs submitted here to save the states of their runs and end, if they have any left."""
        self.queue.cancel([record.id for record in self.own if record.alive and not _concluded(record)])

    def await_end(self) -> None:
        """Wait until cancelled jobs have ended; end them after a while."""
        left = {record.id for record in self.own if record.alive and not _concluded(record)}
        until = time.monotonic() + GRACE
        while left and time.monotonic() < until:
            alive = self.queue.alive(left)
            left = left if alive is None else alive
            time.sleep(self.queue.poll_seconds / 5 if left else 0)
        self.queue.cancel(left, kill=True)
        for record in self.own:
            record.alive = record.alive and _concluded(record)
            record.update()

    def forget(self, told: Collection[str]) -> None:
        """Forget the jobs without runs to come, if the user knows of all runs that failed in them."""
        for record in self.all:
            failed = record.of_state(FAILED)
            if (record.alive and not _concluded(record)) or not failed <= set(told):
                continue
            if failed or record.alive:
                record.mark_told()
            else:
                record.drop()
        self.all, self.own, self.of_run = [], [], {}


def _concluded(record: Record) -> bool:
    """Whether none of its runs is still to come."""
    return all(record.state(identity) in (DONE, FAILED, BLOCKED) for identity in record.runs)
