"""Several runs at a time on this machine, each in its own worker process. They share the GPUs. Needs no Ray."""

from __future__ import annotations

import math
import multiprocessing.connection
import time
from collections.abc import Callable, Iterable

from lacuna.errors import LacunaError
from lacuna.executors.base import Executor, Job, Outcome, Resources
from lacuna.executors.inline import Inline
from lacuna.executors.validation import check_gpus, check_whole
from lacuna.executors.worker import run_job
from lacuna.runs.machine import cores, gpu_count, visible_gpus

GPU_RUNS = 4
"""Default number of runs per GPU: small networks leave most of it idle."""


class Processes(Executor):
    """Trains on this machine, ``runs`` jobs at a time, each in a worker that is kept between jobs.

    A run has at most one GPU. Workers are distributed over the visible GPUs in turn. The memory that a run takes of its
    GPU is not limited.

    Args:
        runs: jobs at a time; None: four per GPU and at most one per core, without GPUs one per core.
        cpus: threads of a run; None: the cores divided by ``runs``.
        gpus: 0 hides the GPUs from the runs; None or 1: each run has one, if the machine has GPUs. ``auto``: the same
            here; :func:`lacuna.executors.opening.open_executor` lets runs share a GPU as measured instead.
        retries: restarts of a job after its worker died.
        work: the function that a worker calls with a job.

    Raises:
        LacunaError: a value out of its range.
    """

    def __init__(
        self,
        runs: int | None = None,
        cpus: int | None = None,
        gpus: float | str | None = None,
        retries: int = 2,
        work: Callable[[Job], Outcome] = run_job,
    ) -> None:
        check_whole("runs", runs, 1)
        check_whole("cpus", cpus, 1)
        check_whole("retries", retries, 0)
        check_gpus(gpus)
        self.gpus = None if isinstance(gpus, str) else gpus
        self.runs = runs or _default_runs(self.gpus)
        self.cpus = cpus or max(1, cores() // self.runs)
        devices = [] if gpus == 0 else visible_gpus()
        self._workers = [
            Inline(
                cpus=self.cpus,
                gpus=gpus,
                retries=retries,
                work=work,
                device=devices[n % len(devices)] if devices else None,
            )
            for n in range(self.runs)
        ]

    def resources(self, devices: int) -> Resources:
        """An equal share of the cores, and one GPU if the machine has GPUs.

        Raises:
            LacunaError: a run of several devices.
        """
        if devices > 1:
            raise LacunaError(f"executor=processes gives a run one device, not {devices}: set trainer.devices=1.")
        wanted = self.gpus if self.gpus is not None else float(gpu_count() > 0)
        return Resources(self.cpus, wanted)

    def check(self, requests: Iterable[Resources]) -> None:
        """Check that each run asks for at most one GPU and no more than this machine has."""
        have_cpus, have_gpus = cores(), gpu_count()
        for resources in requests:
            if resources.cpus > have_cpus:
                raise LacunaError(f"executor.cpus={resources.cpus}: this machine has {have_cpus} cores.")
            if math.ceil(resources.gpus) > min(1, have_gpus):
                raise LacunaError(
                    f"executor.gpus={resources.gpus:g}: executor=processes gives a run one GPU at most, and this "
                    f"machine has {have_gpus or 'no'} GPUs; leave it null to use all."
                )

    @property
    def slots(self) -> int:
        """The number of jobs at a time."""
        return self.runs

    def submit(self, job: Job) -> None:
        """Send the job to an idle worker."""
        idle = next((worker for worker in self._workers if not worker.busy), None)
        if idle is None:
            raise RuntimeError(f"{self.runs} jobs at a time")
        idle.submit(job)

    def wait(self, timeout: float) -> list[Outcome]:
        """Outcomes of the jobs that have ended, or of the first that ends in time."""
        until = time.monotonic() + timeout
        while True:
            watched = [handle for worker in self._workers for handle in worker.watched()]
            if not watched:
                return []
            multiprocessing.connection.wait(watched, max(0.0, until - time.monotonic()))
            ended = [outcome for worker in self._workers if worker.busy for outcome in worker.wait(0)]
            if ended or time.monotonic() >= until:
                return ended

    cancels = True

    def cancel(self, identity: str) -> None:
        """Ask the worker of this job to stop."""
        for worker in self._workers:
            worker.cancel(identity)

    def stop(self) -> None:
        """Ask all busy workers to stop."""
        for worker in self._workers:
            worker.stop()

    def close(self) -> None:
        """Stop all workers. They save their states and end at the same time."""
        self.stop()
        for worker in self._workers:
            worker.dismiss()
        for worker in self._workers:
            worker.close()


def _default_runs(gpus: float | None) -> int:
    shared = 0 if gpus == 0 else gpu_count()
    return max(1, min(cores(), GPU_RUNS * shared)) if shared else cores()
