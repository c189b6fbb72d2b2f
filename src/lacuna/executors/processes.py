"""Several runs at a time on this machine, each in a worker process of its own; they share its GPUs, without Ray."""

from __future__ import annotations

import math
import multiprocessing.connection
import time
from collections.abc import Callable, Iterable

from lacuna.errors import LacunaError
from lacuna.executors.base import Executor, Job, Outcome, Resources
from lacuna.executors.inline import Inline
from lacuna.executors.validation import gpu_share, whole
from lacuna.executors.worker import work as train
from lacuna.runs.machine import cores, gpu_count, visible_gpus

GPU_RUNS = 4
"""Runs a GPU by default: small networks leave most of one idle."""


class Processes(Executor):
    """Trains on this machine, ``runs`` jobs at a time, each in a worker that is kept between jobs.

    A run has one GPU at most; the workers share the GPUs that are visible, in turn. Nothing bounds the memory that a
    run takes of its GPU.

    Args:
        runs: jobs at a time; None: four a GPU where there are GPUs, and no more than there are cores.
        cpus: threads of a run; None: the cores divided by ``runs``.
        gpus: 0 hides the GPUs from the runs; None or 1: each has one, where there are any.
        retries: how often a job is taken up again after its worker died.
        work: what a worker does with a job.

    Raises:
        LacunaError: a value out of its range.
    """

    def __init__(
        self,
        runs: int | None = None,
        cpus: int | None = None,
        gpus: float | None = None,
        retries: int = 2,
        work: Callable[[Job], Outcome] = train,
    ) -> None:
        whole("runs", runs, 1)
        whole("cpus", cpus, 1)
        whole("retries", retries, 0)
        gpu_share(gpus)
        self.runs = runs or _default_runs(gpus)
        self.cpus, self.gpus = cpus or max(1, cores() // self.runs), gpus
        devices = [] if gpus == 0 else visible_gpus()
        self._places = [
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
        """The same share of the cores for every run, and a GPU where there are GPUs.

        Raises:
            LacunaError: a run of several devices.
        """
        if devices > 1:
            raise LacunaError(f"executor=processes gives a run one device, not {devices}: set trainer.devices=1.")
        wanted = self.gpus if self.gpus is not None else float(gpu_count() > 0)
        return Resources(self.cpus, wanted)

    def check(self, wanted: Iterable[Resources]) -> None:
        """Refuse more than one GPU a run, more GPUs than there are, or more cores."""
        have_cpus, have_gpus = cores(), gpu_count()
        for resources in wanted:
            if resources.cpus > have_cpus:
                raise LacunaError(f"executor.cpus={resources.cpus}: this machine has {have_cpus} cores.")
            if math.ceil(resources.gpus) > min(1, have_gpus):
                raise LacunaError(
                    f"executor.gpus={resources.gpus:g}: executor=processes gives a run one GPU at most, and this "
                    f"machine has {have_gpus or 'no'} GPUs; leave it null to use what there is."
                )

    @property
    def slots(self) -> int:
        """As many as run at a time."""
        return self.runs

    def submit(self, job: Job) -> None:
        """Hand the job to a worker that is idle."""
        idle = next((place for place in self._places if not place.busy), None)
        if idle is None:
            raise RuntimeError(f"{self.runs} jobs at a time")
        idle.submit(job)

    def wait(self, timeout: float) -> list[Outcome]:
        """What has ended by now, or else the first that ends in time."""
        until = time.monotonic() + timeout
        while True:
            watched = [each for place in self._places for each in place.watched()]
            if not watched:
                return []
            multiprocessing.connection.wait(watched, max(0.0, until - time.monotonic()))
            ended = [outcome for place in self._places if place.busy for outcome in place.wait(0)]
            if ended or time.monotonic() >= until:
                return ended

    def stop(self) -> None:
        """Tell all workers that are busy to stop."""
        for place in self._places:
            place.stop()

    def close(self) -> None:
        """Tell all workers to stop, then wait for each: they save what they can at the same time."""
        self.stop()
        for place in self._places:
            place.close()


def _default_runs(gpus: float | None) -> int:
    shared = 0 if gpus == 0 else gpu_count()
    return max(1, min(cores(), GPU_RUNS * shared)) if shared else cores()
