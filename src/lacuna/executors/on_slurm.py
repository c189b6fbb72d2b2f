"""A table as SLURM jobs: groups of runs that share GPUs, submitted at once, each after the groups that it needs."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

from lacuna.errors import LacunaError
from lacuna.executors.base import Executor, Job, Outcome, Resources
from lacuna.executors.processes import GPU_RUNS
from lacuna.executors.schedule import DONE, FAILED, INTERRUPTED, RUNNING
from lacuna.executors.slurm_groups import Room
from lacuna.executors.slurm_jobs import Shape, SlurmJobs
from lacuna.executors.slurm_queue import CANCELLED, LOCAL, QUEUES, SLURM, Request
from lacuna.executors.slurm_records import Record, give_up
from lacuna.executors.slurm_texts import ended_text, queued_text
from lacuna.executors.validation import check_flag, check_lines, check_number, check_sbatch, check_whole
from lacuna.executors.worker import run_job

PAUSE = 0.5
"""Seconds between two looks at what the jobs have written."""


class OnSlurm(Executor):
    """Trains on a SLURM cluster. The jobs of a plan are submitted together, and SLURM starts each when it may.

    What was submitted is remembered in the output folder, so that no command submits what is queued already, neither
    the same one after an interrupt nor another one whose tables share runs. With ``wait=False`` the command ends when
    all is submitted; the next one tells of the runs that failed and submits what is missing.

    A job starts when those that it needs have ended in whatever way, and does the runs whose prerequisites are done.
    So a failed run holds up only the runs that need it.

    Args:
        cluster: ``slurm``, or ``local``: jobs are processes of this machine, for trying it out.
        wait: whether the command waits for the jobs, shows them, and cancels them when it is interrupted.
        partition, account, qos: as in ``sbatch``; None: the cluster's default.
        time: minutes of a job. Then its runs save their state, and it goes on after another wait in the queue.
        gpus: GPUs of a job; 0: none.
        cpus: CPU cores (threads) of each process of a run; None: 2.
        mem_gb: memory of a job; None: the cluster's default.
        runs_per_gpu: runs at a time on each GPU of a job, or in a job without GPUs; None: 4.
        runs: most runs of a job; None: twice as many as run at a time.
        jobs: most jobs at a time; None: no limit.
        retries: new jobs for a run whose job was lost; restarts of a run after its process died.
        requeues: how often a job goes on after its time limit.
        warning: seconds before the time limit at which runs save their state.
        setup: lines of shell before a job.
        sbatch: further parameters of ``sbatch``, by their long names.
        work: the function that a worker process calls with a run.

    Raises:
        LacunaError: a value out of its range.
    """

    in_order: ClassVar[bool] = False

    def __init__(
        self,
        cluster: str = SLURM,
        wait: bool = True,
        partition: str | None = None,
        account: str | None = None,
        qos: str | None = None,
        time: float = 240,
        gpus: int = 1,
        cpus: int | None = None,
        mem_gb: float | None = None,
        runs_per_gpu: int | None = None,
        runs: int | None = None,
        jobs: int | None = None,
        retries: int = 2,
        requeues: int = 10,
        warning: int = 90,
        setup: Sequence[str] = (),
        sbatch: Mapping[str, Any] | None = None,
        work: Callable[[Job], Outcome] = run_job,
    ) -> None:
        if cluster not in QUEUES:
            raise LacunaError(f"executor.cluster={cluster} is neither {SLURM} nor {LOCAL}.")
        check_flag("wait", wait)
        for key, value, least in (
            ("gpus", gpus, 0), ("cpus", cpus, 1), ("runs_per_gpu", runs_per_gpu, 1), ("runs", runs, 1),
            ("jobs", jobs, 1), ("retries", retries, 0), ("requeues", requeues, 0), ("warning", warning, 1),
        ):  # fmt: skip
            check_whole(key, value, least)
        check_number("time", time)
        check_number("mem_gb", 1 if mem_gb is None else mem_gb)
        named = {"partition": partition, "account": account, "qos": qos}
        given = {key: value for key, value in named.items() if value is not None} | check_sbatch(sbatch)
        self.detached, self.work = not wait, work
        self._gpus, self._cpus, self._most, self._retries = gpus, cpus or 2, jobs, retries
        at_a_time = (runs_per_gpu or GPU_RUNS) * max(1, gpus)
        # the states are saved before the end
        self._room = Room(runs or 2 * at_a_time, at_a_time, max(60 * time - 2 * warning, 30 * time))
        lines = check_lines("setup", setup)
        request = Request(self._cpus, gpus, time, warning, requeues, mem_gb, lines, given)
        self._slurm = SlurmJobs(cluster, Shape(self._room, request, jobs, retries, work))
        self._planned = 0
        self._watched: dict[str, Job] = {}
        self._loose: list[Job] = []
        self._told: set[str] = set()
        self._losses: Counter[str] = Counter()
        self._given_up: set[str] = set()
        self._stopping = False

    def resources(self, devices: int) -> Resources:
        """``cpus`` for each process of a run, and its share of a job's GPUs.

        Raises:
            LacunaError: a run of more devices than a job has GPUs.
        """
        if devices > 1 and 0 < self._gpus < devices:
            raise LacunaError(f"executor.gpus={self._gpus}: a run of trainer.devices={devices} needs as many.")
        share = devices if devices > 1 else self._gpus / self._room.at_a_time
        return Resources(self._cpus * devices, float(share) if self._gpus else 0.0)

    def check(self, requests: Iterable[Resources]) -> None:
        """Check that there is a queue, and submitit.

        Raises:
            LacunaError: there is not.
        """
        self._slurm.queue.check()

    def begin(self, jobs: Sequence[Job], expected: Mapping[str, float | None]) -> None:
        """Submit everything that is neither queued, nor failed in a job that no command has told of yet."""
        self._planned = len(jobs)
        slurm, absolute = self._slurm, [_absolute(job) for job in jobs]
        with slurm.locked(absolute[0].settings.output):
            slurm.look_up({job.identity for job in jobs})
            earlier = [record for record in slurm.all if record.alive]
            try:
                slurm.submit(self._missing(absolute), expected)
            except BaseException:
                slurm.cancel()
                raise
        if text := queued_text(slurm.own, earlier, detached=self.detached):
            print(text, file=sys.stderr, flush=True)

    def _missing(self, jobs: Iterable[Job]) -> list[Job]:
        """The runs that are in no job, nor finished by now, without those that need a failed one."""
        missing: list[Job] = []
        hopeless: set[str] = set()
        for job in jobs:
            needs = {needed.identity for needed in job.recipe.prerequisites.values()}
            if self._slurm.state(job.identity) == FAILED or needs & hopeless:
                hopeless.add(job.identity)
            elif job.identity not in self._slurm.of_run and not job.folder.finished:
                missing.append(job)
        return missing

    @property
    def slots(self) -> int:
        """All runs of a plan; of a sweep, as many as four jobs (or ``jobs``) do at a time."""
        return max(self._planned, (self._most or 4) * self._room.at_a_time)

    def takes(self, job: Job) -> bool:
        """Whether a run has begun in its SLURM job; or it is in none (any more), so that it must be submitted."""
        self._slurm.refresh()
        record = self._slurm.of_run.get(job.identity)
        if record is None or record.state(job.identity) in (RUNNING, DONE, FAILED) or job.folder.finished:
            return True
        return self._slurm.over(record)  # it ended too early, or found prerequisites missing that are done now

    def submit(self, job: Job) -> None:
        """Watch a run; one that is in no job gets one.

        Raises:
            LacunaError: ``wait=False`` and the run was not planned: a sweep cannot go on without its results.
        """
        self._watched[job.identity] = job
        if job.identity not in self._slurm.of_run and not job.folder.finished:
            if self.detached:
                raise LacunaError("executor.wait=false is for tables: a sweep waits for its runs, leave wait true.")
            self._loose.append(job)

    def wait(self, timeout: float) -> list[Outcome]:
        """Outcomes of the runs that have ended. Runs whose job was lost get another one."""
        until = time.monotonic() + timeout
        while True:
            self._submit_loose()
            self._slurm.refresh()
            outcomes = [outcome for job in list(self._watched.values()) if (outcome := self._outcome(job))]
            for outcome in outcomes:
                del self._watched[outcome.identity]
                self._told.add(outcome.identity)
            if outcomes or time.monotonic() >= until:
                return outcomes
            time.sleep(max(0.0, min(PAUSE, until - time.monotonic())))

    cancels = True

    def cancel(self, identity: str) -> None:
        """Ask the job of a run to stop it; its other runs go on."""
        self._given_up.add(identity)
        if (record := self._slurm.of_run.get(identity)) is not None:
            give_up(record.folder, identity)

    def stop(self) -> None:
        """Cancel the jobs of this command, those in the queue as well; runs save their state."""
        if not self._stopping and not self.detached:
            self._stopping = True
            self._slurm.cancel()

    def close(self) -> None:
        """Cancel the jobs of this command if they have runs left; forget the jobs that are concluded."""
        try:
            if not self.detached:
                self.stop()
                self._slurm.await_end()
        finally:
            self._slurm.forget(self._told)
            self._watched, self._loose, self._stopping = {}, [], False

    def _submit_loose(self) -> None:
        """Submit the runs that are in no job."""
        loose, self._loose = self._loose, []
        if loose and not self._stopping:
            absolute = [_absolute(job) for job in loose]
            with self._slurm.locked(absolute[0].settings.output):
                self._slurm.submit(absolute, {})

    def _outcome(self, job: Job) -> Outcome | None:
        """How a run has ended; None if it has not. One whose job was lost is submitted again."""
        identity, slurm = job.identity, self._slurm
        record = slurm.of_run.get(identity)
        if job.folder.finished:
            return Outcome(identity)
        stopped = record is None or not record.alive or record.state(identity) == INTERRUPTED
        if identity in self._given_up and stopped:
            self._loose = [other for other in self._loose if other.identity != identity]
            return Outcome.stopped(identity)
        if record is None:
            return Outcome.stopped(identity) if self._stopping else None
        if record.state(identity) == FAILED:
            return Outcome(identity, record.events[identity].error or "unknown reason")
        if self._stopping:  # a job of an earlier command goes on
            return Outcome.stopped(identity) if record not in slurm.own or slurm.over(record) else None
        if not slurm.over(record):
            return None
        return self._lost(job, record)

    def _lost(self, job: Job, record: Record) -> Outcome | None:
        """Submit a run again whose job ended without an outcome; it failed if that was tried, or the job cancelled."""
        identity, reason = job.identity, self._slurm.reason(record)
        self._losses[identity] += 1
        if self._losses[identity] > self._retries or reason.startswith(CANCELLED):
            return Outcome(identity, ended_text(record, reason, self._losses[identity]))
        how = reason.lower() or "ended too early"
        print(f"{job.title}: its job {record.id} {how}; another one takes it up.", file=sys.stderr)
        del self._slurm.of_run[identity]
        self._loose.append(job)
        return None


def _absolute(job: Job) -> Job:
    """The same job wherever it is done."""
    folders = job.settings
    folders = replace(folders, output=folders.output.absolute(), data_root=folders.data_root.absolute())
    return replace(job, settings=folders)
