"""Many runs at once on Ray: the cores and GPUs of this machine, or those of a cluster."""

from __future__ import annotations

import contextlib
import os
import socket
import sys
import time
import uuid
from collections import Counter, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lacuna.errors import LacunaError
from lacuna.executors.base import Executor, Job, Outcome, Resources
from lacuna.executors.cluster_capacity import require, room, size
from lacuna.executors.ray_cluster import Cluster
from lacuna.executors.ray_worker import Worker
from lacuna.executors.validation import gpu_share, whole
from lacuna.executors.worker import work as train

GRACE = 30.0
"""Seconds that workers have to save their state when they are told to stop."""

PATIENCE = 60.0
"""Seconds after which a run that has found no place goes before smaller ones that would find one."""


@dataclass(eq=False)
class Place:
    """A worker: asked for, idle, or at work.

    Args:
        actor: Ray's handle.
        resources: what it has for life.
        pending: Ray's reference to what it is about to answer: where it is, or how its job ended; None if idle.
        node, pid: where it is.
        job: what it is at work on.
    """

    actor: Any
    resources: Resources
    pending: Any
    node: str | None = None
    pid: int | None = None
    job: Job | None = None

    @property
    def idle(self) -> bool:
        """Whether it could take a job now."""
        return self.pending is None


class OnRay(Executor):
    """Trains on Ray, as many runs at a time as there are cores and GPUs for.

    Workers are long-lived, one a place: each keeps the devices that Ray gave it, so torch is imported and CUDA
    initialised once, and does one job after another of those that ask for the same. One that fails, is interrupted,
    or stands in the way of a job that asks for something else is ended, and a new one is started where needed.
    Ray starts, or is joined, when it is first asked for something (some seconds), which is at planning time where
    runs are to be done.

    Args:
        address: None: this machine; ``auto`` or ``host:port``: a cluster that this machine is part of.
        cpus: CPU cores of each process of a run, which are its threads; None: 1.
        gpus: GPUs of a run; a fraction lets several runs share one, which bounds neither memory nor time; None: one
            a process where the cluster has GPUs.
        retries: how often a job is taken up again after its worker was lost.
        local_cpus, local_gpus: what a Ray on this machine is to use; None: all.
        work: what a worker does with a job.

    Raises:
        LacunaError: a value out of its range.
    """

    def __init__(
        self,
        address: str | None = None,
        cpus: int | None = 1,
        gpus: float | None = None,
        retries: int = 2,
        local_cpus: int | None = None,
        local_gpus: int | None = None,
        work: Callable[[Job], Outcome] = train,
    ) -> None:
        whole("cpus", cpus, 1)
        whole("retries", retries, 0)
        whole("local_cpus", local_cpus, 1)
        whole("local_gpus", local_gpus, 0)
        gpu_share(gpus)
        if address is not None and (local_cpus is not None or local_gpus is not None):
            raise LacunaError("executor.local_cpus and executor.local_gpus are for address=null: leave them null.")
        self.cpus, self.gpus, self.retries, self.work = cpus or 1, gpus, retries, work
        self._cluster = Cluster(None if address is None else str(address), local_cpus, local_gpus)
        self._asked: set[Resources] = set()
        self._queue: deque[tuple[float, Job]] = deque()
        self._places: list[Place] = []
        self._losses: Counter[str] = Counter()
        self._markers: dict[Path, Path] = {}
        self._told: float | None = None
        self._stopped: list[Outcome] = []

    def resources(self, devices: int) -> Resources:
        """``cpus`` for each process; whole GPUs, one each, for a run of several.

        Raises:
            LacunaError: a fraction of a GPU for several processes; the cluster cannot be joined.
        """
        gpus = self.gpus
        if gpus is None:
            gpus = 1.0 if any(node.gpus for node in self._cluster.nodes()) else 0.0
        if devices > 1 and 0 < gpus < 1:
            raise LacunaError(
                f"executor.gpus={gpus:g} with trainer.devices={devices}: the processes of one run cannot share a GPU; "
                "leave executor.gpus null, which gives each its own."
            )
        return Resources(self.cpus * devices, float(devices if devices > 1 and gpus else gpus))

    def check(self, wanted: Iterable[Resources]) -> None:
        """Refuse what no machine could ever hold; starts or joins Ray to know.

        Raises:
            LacunaError: a run asks for too much; the cluster cannot be joined.
        """
        nodes = self._cluster.nodes()
        for asked in sorted(set(wanted), key=size):
            require(asked, nodes)
            self._asked.add(asked)

    @property
    def slots(self) -> int:
        """As many as find a place on the cluster as it is now, and one to follow."""
        smallest = min(self._asked, key=size, default=None) or self.resources(1)
        running = [job.resources for job in self._in_hand()]
        return len(running) + max(0, 1 + room(self._cluster.nodes(), running, smallest))

    def submit(self, job: Job) -> None:
        """Take up a job; it starts when it finds a place, in the order of submission."""
        folders = job.settings
        folders = replace(folders, output=folders.output.absolute(), data_root=folders.data_root.absolute())
        self._mark(folders.output)
        self._asked.add(job.resources)
        self._queue.append((time.monotonic(), replace(job, settings=folders)))
        self._fill()

    def wait(self, timeout: float) -> list[Outcome]:
        """What has ended; workers that were lost meanwhile are replaced."""
        until = time.monotonic() + timeout
        while True:
            if self._stopped:
                stopped, self._stopped = self._stopped, []
                return stopped
            self._fill()
            pending = {place.pending: place for place in self._places if place.pending is not None}
            if not pending:
                return []
            ray = self._cluster.connect()
            ready, rest = ray.wait(list(pending), timeout=max(0.0, until - time.monotonic()))
            ready += ray.wait(rest, num_returns=len(rest), timeout=0)[0] if ready and rest else []
            outcomes = [outcome for reference in ready if (outcome := self._answer(pending[reference])) is not None]
            if outcomes or not ready:
                self._fill()
                return outcomes

    def stop(self) -> None:
        """Interrupt what runs, if that was not done before; what waits for a place gets none."""
        self._stopped += [Outcome.stopped(job.identity) for _, job in self._queue]
        self._queue.clear()
        if self._told is not None:
            return
        self._told = time.monotonic()
        with contextlib.suppress(Exception):  # Ray may be gone, and them with it
            for place in self._places:
                if place.job is not None:
                    self._cluster.interrupt(str(place.node), int(place.pid or 0))

    def close(self) -> None:
        """Interrupt what still runs, give it time to save its state, and leave Ray."""
        try:
            self.stop()
            pending = [place.pending for place in self._places if place.job is not None]
            with contextlib.suppress(Exception):
                if pending:
                    left = GRACE - (time.monotonic() - (self._told or 0.0))
                    self._cluster.connect().wait(pending, num_returns=len(pending), timeout=max(0.0, left))
        finally:
            places, self._places, self._stopped, self._told = self._places, [], [], None
            for place in places:
                self._end(place)
            for marker in self._markers.values():
                marker.unlink(missing_ok=True)
            self._markers.clear()
            self._cluster.close()

    def _in_hand(self) -> list[Job]:
        return [place.job for place in self._places if place.job is not None] + [job for _, job in self._queue]

    def _fill(self) -> None:
        """Give jobs to idle workers, end workers that are in the way, ask for those that are missing."""
        if not self._queue:
            return
        for entry in self._served():
            resources = entry[1].resources
            place = next((place for place in self._places if place.idle and place.resources == resources), None)
            if place is not None:
                self._queue.remove(entry)
                place.job = entry[1]
                marker = self._markers.get(entry[1].settings.output)
                place.pending = place.actor.do.remote(self.work, entry[1], marker)
        wanted = Counter(job.resources for _, job in self._served())
        for place in [place for place in self._places if place.job is None and place.resources not in wanted]:
            if wanted:  # otherwise it is in nobody's way
                self._drop(place)
        for resources, number in wanted.items():
            asked = sum(place.job is None and place.resources == resources for place in self._places)
            self._places += [self._start(resources) for _ in range(number - asked)]

    def _served(self) -> list[tuple[float, Job]]:
        """The jobs that may be placed now: all that wait, or, lest it wait for ever, what the first one asks for."""
        if not self._queue or time.monotonic() - self._queue[0][0] < PATIENCE:
            return list(self._queue)
        first = self._queue[0][1].resources
        return [entry for entry in self._queue if entry[1].resources == first]

    def _start(self, resources: Resources) -> Place:
        kind = self._cluster.connect().remote(Worker)
        asked = {"num_cpus": resources.cpus, "num_gpus": resources.gpus, "max_restarts": 0, "max_task_retries": 0}
        actor = kind.options(**asked).remote(resources, Path.cwd(), list(sys.argv))
        return Place(actor, resources, pending=actor.where.remote())

    def _answer(self, place: Place) -> Outcome | None:
        """What a worker has to say: where it is (nothing for others), or how its job ended."""
        ray = self._cluster.connect()
        reference, place.pending = place.pending, None
        try:
            answer = ray.get(reference)
        except ray.exceptions.RayError as error:
            if place.job is None or not isinstance(error, ray.exceptions.RayTaskError):
                return self._lost(place, error)
            answer = Outcome(place.job.identity, str(error))
        if place.job is None:
            place.node, place.pid = answer
            return None
        outcome: Outcome = answer
        place.job = None
        if not outcome.done:  # after an error CUDA may be of no more use in this process
            self._drop(place)
        return outcome

    def _lost(self, place: Place, error: Exception) -> Outcome | None:
        """A worker is gone: its job, or the first that waited for it, is taken up again, or given up."""
        self._drop(place)
        job = place.job or next((job for _, job in self._queue if job.resources == place.resources), None)
        if job is None:
            return None
        if self._told is not None:  # it stopped before it could say so
            return Outcome.stopped(job.identity)
        self._losses[job.identity] += 1
        losses = self._losses[job.identity]
        if place.job is not None:
            self._queue.appendleft((time.monotonic(), job))
        if losses <= self.retries:
            print(f"{job.title}: its worker was lost ({_reason(error)}); it is taken up again.", file=sys.stderr)
            return None
        self._queue = deque(entry for entry in self._queue if entry[1] is not job)
        return Outcome(job.identity, f"its worker on Ray was lost {losses} times ({_reason(error)}).")

    def _drop(self, place: Place) -> None:
        self._places.remove(place)
        self._end(place)

    def _end(self, place: Place) -> None:
        with contextlib.suppress(Exception):  # it may be gone already, and Ray with it
            self._cluster.connect().kill(place.actor)

    def _mark(self, output: Path) -> None:
        """Leave a file in the output folder, by which the machines of a cluster see that it is theirs, too."""
        if self._cluster.address is None or output in self._markers:
            return
        marker = output / f".ray-{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
        try:
            output.mkdir(parents=True, exist_ok=True)
            marker.touch()
        except OSError as error:
            raise LacunaError(f"output={output} cannot be written ({error.strerror}): choose another.") from error
        self._markers[output] = marker


def _reason(error: Exception) -> str:
    text = str(error).strip()
    if "low on memory" in text or "OutOfMemory" in type(error).__name__:
        return "Ray ended it because its machine ran out of memory: fewer runs share one if executor.cpus is higher"
    if "creation task" in text or "runtime_env" in text:
        return f"it cannot start there: {text.splitlines()[-1].strip()}"
    if "Unavailable" in type(error).__name__ or "its node has died" in text:
        return "its machine no longer answers"
    return "its process was killed or crashed: perhaps there is too little memory"
