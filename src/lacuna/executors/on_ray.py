"""Many runs at a time on Ray, on this machine or on a cluster."""

from __future__ import annotations

import contextlib
import os
import socket
import sys
import time
import uuid
from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from lacuna.errors import LacunaError
from lacuna.executors.base import Executor, Job, Outcome, Resources
from lacuna.executors.cluster_capacity import check_fits, free_slots, size
from lacuna.executors.ray_cluster import Cluster
from lacuna.executors.ray_handle import WorkerHandle, loss_reason
from lacuna.executors.ray_sharing import share_gpus
from lacuna.executors.ray_worker import Worker
from lacuna.executors.sharing import alone, learn
from lacuna.executors.validation import check_gpus, check_whole
from lacuna.executors.worker import run_job
from lacuna.throughput.measurements import Measurements
from lacuna.throughput.probe import ProbeRequest, probe

GRACE = 30.0
"""Seconds that workers have to save their state and stop."""

PATIENCE = 60.0
"""Seconds after which a run that does not fit is placed before smaller ones that would."""


class OnRay(Executor):
    """Trains on Ray, as many runs at a time as cores and GPUs allow.

    Workers are long-lived: each keeps its devices, so torch is imported and CUDA initialised once, and does one job
    after another with the same request. A worker ends if its job fails or is interrupted, or if its resources are
    needed for another request. Ray is started or joined at its first use.

    Args:
        address: None: this machine; ``auto`` or ``host:port``: a cluster that this machine is part of.
        cpus: CPU cores (threads) of each process of a run; None: 1.
        gpus: GPUs of a run. A fraction lets several runs share one; neither memory nor time is limited then. None: one
            per process if the cluster has GPUs. ``auto``: as measured on one of them, if they are all of one kind.
        retries: restarts of a job after its worker was lost.
        local_cpus, local_gpus: what Ray may use of this machine; None: all.
        work: the function that a worker calls with a job.
        measure: measures on a GPU of the cluster, and gives what is known of it.

    Raises:
        LacunaError: a value out of its range.
    """

    def __init__(
        self,
        address: str | None = None,
        cpus: int | None = 1,
        gpus: float | str | None = None,
        retries: int = 2,
        local_cpus: int | None = None,
        local_gpus: int | None = None,
        work: Callable[[Job], Outcome] = run_job,
        measure: Callable[[ProbeRequest], Measurements | None] = probe,
    ) -> None:
        check_whole("cpus", cpus, 1)
        check_whole("retries", retries, 0)
        check_whole("local_cpus", local_cpus, 1)
        check_whole("local_gpus", local_gpus, 0)
        check_gpus(gpus)
        if address is not None and (local_cpus is not None or local_gpus is not None):
            raise LacunaError(
                "executor.local_cpus and executor.local_gpus need executor.address=null: leave them null."
            )
        self.auto, self.gpus = isinstance(gpus, str), None if isinstance(gpus, str) else gpus
        self.cpus, self.retries, self.work, self._measure = cpus or 1, retries, work, measure
        self._cluster = Cluster(None if address is None else str(address), local_cpus, local_gpus)
        self._requests: set[Resources] = set()
        self._queue: deque[tuple[float, Job]] = deque()
        self._workers: list[WorkerHandle] = []
        self._known: Measurements | None = None
        self._losses: Counter[str] = Counter()
        self._markers: dict[Path, Path] = {}
        self._stop_sent: float | None = None
        self._stopped: list[Outcome] = []
        self._cancelled: set[str] = set()

    def resources(self, devices: int) -> Resources:
        """``cpus`` for each process, and one whole GPU each for a run of several processes.

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

    def prepare(self, jobs: Sequence[Job], seconds: float) -> list[Job]:
        """The jobs; with ``gpus=auto``, with the shares of a GPU that suit their kinds, measured if needed."""
        if not self.auto:
            return list(jobs)
        shared, self._known = share_gpus(self._cluster, jobs, seconds, self.cpus, self._measure)
        return shared

    def check(self, requests: Iterable[Resources]) -> None:
        """Check that some machine could hold each request; starts or joins Ray.

        Raises:
            LacunaError: a run asks for too much; the cluster cannot be joined.
        """
        nodes = self._cluster.nodes()
        for request in sorted(set(requests), key=size):
            check_fits(request, nodes)
            self._requests.add(request)

    @property
    def slots(self) -> int:
        """As many as fit on the cluster now, and one more."""
        smallest = min(self._requests, key=size, default=None) or self.resources(1)
        placed = [job.resources for job in self._submitted_jobs()]
        return len(placed) + max(0, 1 + free_slots(self._cluster.nodes(), placed, smallest))

    def submit(self, job: Job) -> None:
        """Queue a job. Jobs start in the order of submission as resources become free."""
        folders = job.settings
        folders = replace(folders, output=folders.output.absolute(), data_root=folders.data_root.absolute())
        self._write_marker(folders.output)
        self._requests.add(job.resources)
        self._cancelled.discard(job.identity)
        self._queue.append((time.monotonic(), replace(job, settings=folders)))
        self._assign()

    def wait(self, timeout: float) -> list[Outcome]:
        """Outcomes of the jobs that have ended; lost workers are replaced."""
        until = time.monotonic() + timeout
        while True:
            if self._stopped:
                stopped, self._stopped = self._stopped, []
                return stopped
            self._assign()
            pending = {worker.pending: worker for worker in self._workers if worker.pending is not None}
            if not pending:
                return []
            ray = self._cluster.connect()
            ready, rest = ray.wait(list(pending), timeout=max(0.0, until - time.monotonic()))
            ready += ray.wait(rest, num_returns=len(rest), timeout=0)[0] if ready and rest else []
            outcomes = [outcome for reference in ready if (outcome := self._receive(pending[reference])) is not None]
            if outcomes or not ready:
                self._assign()
                return outcomes

    cancels = True

    def cancel(self, identity: str) -> None:
        """Interrupt this job; if it is queued, it does not start."""
        self._cancelled.add(identity)
        for entry in [entry for entry in self._queue if entry[1].identity == identity]:
            self._queue.remove(entry)
            self._stopped.append(Outcome.stopped(identity))
        for worker in self._workers:
            if worker.job is not None and worker.job.identity == identity:
                self._cluster.interrupt(str(worker.node), int(worker.pid or 0))

    def stop(self) -> None:
        """Interrupt the running jobs, once; queued jobs do not start."""
        self._stopped += [Outcome.stopped(job.identity) for _, job in self._queue]
        self._queue.clear()
        if self._stop_sent is not None:
            return
        self._stop_sent = time.monotonic()
        with contextlib.suppress(Exception):  # Ray, and the workers with it, may be gone
            for worker in self._workers:
                if worker.job is not None:
                    self._cluster.interrupt(str(worker.node), int(worker.pid or 0))

    def close(self) -> None:
        """Interrupt running jobs, give them time to save their state, and leave Ray."""
        try:
            self.stop()
            pending = [worker.pending for worker in self._workers if worker.job is not None]
            with contextlib.suppress(Exception):
                if pending:
                    seconds = GRACE - (time.monotonic() - (self._stop_sent or 0.0))
                    self._cluster.connect().wait(pending, num_returns=len(pending), timeout=max(0.0, seconds))
        finally:
            workers, self._workers, self._stopped, self._stop_sent = self._workers, [], [], None
            for worker in workers:
                self._end(worker)
            for marker in self._markers.values():
                marker.unlink(missing_ok=True)
            self._markers.clear()
            self._cluster.close()

    def _submitted_jobs(self) -> list[Job]:
        return [worker.job for worker in self._workers if worker.job is not None] + [job for _, job in self._queue]

    def _assign(self) -> None:
        """Give jobs to idle workers, end idle workers of other requests, and start the workers that are needed."""
        if not self._queue:
            return
        for entry in self._placeable():
            resources = entry[1].resources
            worker = next((worker for worker in self._workers if worker.idle and worker.resources == resources), None)
            if worker is not None:
                self._queue.remove(entry)
                worker.job = entry[1]
                marker = self._markers.get(entry[1].settings.output)
                worker.pending = worker.actor.do.remote(self.work, entry[1], marker)
        wanted = Counter(job.resources for _, job in self._placeable())
        for worker in [worker for worker in self._workers if worker.job is None and worker.resources not in wanted]:
            if wanted:  # otherwise its resources are not needed
                self._drop(worker)
        for resources, number in wanted.items():
            present = sum(worker.job is None and worker.resources == resources for worker in self._workers)
            self._workers += [self._start(resources) for _ in range(number - present)]

    def _placeable(self) -> list[tuple[float, Job]]:
        """The jobs that may be placed now: all queued ones; once the first has waited long, those with its request."""
        if not self._queue or time.monotonic() - self._queue[0][0] < PATIENCE:
            return list(self._queue)
        first = self._queue[0][1].resources
        return [entry for entry in self._queue if entry[1].resources == first]

    def _start(self, resources: Resources) -> WorkerHandle:
        actor_class = self._cluster.connect().remote(Worker)
        options = {"num_cpus": resources.cpus, "num_gpus": resources.gpus, "max_restarts": 0, "max_task_retries": 0}
        actor = actor_class.options(**options).remote(resources, Path.cwd(), list(sys.argv))
        return WorkerHandle(actor, resources, pending=actor.where.remote())

    def _receive(self, worker: WorkerHandle) -> Outcome | None:
        """Handle the answer of a worker: its location (no outcome), or the outcome of its job."""
        ray = self._cluster.connect()
        reference, worker.pending = worker.pending, None
        try:
            answer = ray.get(reference)
        except ray.exceptions.RayError as error:
            if worker.job is None or not isinstance(error, ray.exceptions.RayTaskError):
                return self._worker_lost(worker, error)
            answer = Outcome(worker.job.identity, str(error))
        if worker.job is None:
            worker.node, worker.pid = answer
            return None
        outcome: Outcome = answer
        job, worker.job = worker.job, None
        learn(self._known, job, outcome)
        if not outcome.done:  # after an error CUDA may be unusable in this process
            self._drop(worker)
        if outcome.out_of_memory and job.resources.gpus < 1 and self.auto and self._stop_sent is None:
            self._queue.append((time.monotonic(), alone(job)))
            return None
        return outcome

    def _worker_lost(self, worker: WorkerHandle, error: Exception) -> Outcome | None:
        """Handle the loss of a worker: its job, or the first queued one of its request, is restarted or fails."""
        self._drop(worker)
        job = worker.job or next((job for _, job in self._queue if job.resources == worker.resources), None)
        if job is None:
            return None
        if self._stop_sent is not None or job.identity in self._cancelled:  # it stopped before it could answer
            return Outcome.stopped(job.identity)
        self._losses[job.identity] += 1
        losses = self._losses[job.identity]
        if worker.job is not None:
            self._queue.appendleft((time.monotonic(), job))
        if losses <= self.retries:
            print(f"{job.title}: its worker was lost ({loss_reason(error)}); the run is restarted.", file=sys.stderr)
            return None
        self._queue = deque(entry for entry in self._queue if entry[1] is not job)
        return Outcome(job.identity, f"its worker on Ray was lost {losses} times ({loss_reason(error)}).")

    def _drop(self, worker: WorkerHandle) -> None:
        self._workers.remove(worker)
        self._end(worker)

    def _end(self, worker: WorkerHandle) -> None:
        with contextlib.suppress(Exception):  # it, and Ray with it, may be gone
            self._cluster.connect().kill(worker.actor)

    def _write_marker(self, output: Path) -> None:
        """Write a file into the output folder; the other machines check by it that they share the folder."""
        if self._cluster.address is None or output in self._markers:
            return
        marker = output / f".ray-{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
        try:
            output.mkdir(parents=True, exist_ok=True)
            marker.touch()
        except OSError as error:
            raise LacunaError(f"output={output} cannot be written ({error.strerror}): choose another.") from error
        self._markers[output] = marker
