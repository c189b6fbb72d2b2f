"""Several runs at a time on this machine, each with the share of a GPU that it needs (``executor.gpus=auto``)."""

from __future__ import annotations

import math
import multiprocessing.connection
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from lacuna.errors import LacunaError
from lacuna.executors.base import Executor, Job, Outcome, Resources
from lacuna.executors.cards import Cards
from lacuna.executors.cluster_capacity import TOLERANCE
from lacuna.executors.inline import Inline
from lacuna.executors.processes import GPU_RUNS
from lacuna.executors.sharing import alone, choice_text, learn, probe_request, with_shares, worth_measuring
from lacuna.executors.validation import check_whole
from lacuna.executors.worker import run_job
from lacuna.runs.machine import cores, visible_gpus
from lacuna.throughput.measurements import Measurements
from lacuna.throughput.probe import ProbeRequest, probe


@dataclass(eq=False)
class CardWorker:
    """A worker process and what it has taken, also while it is idle: its memory is returned when it ends.

    Args:
        process: does the jobs.
        resources: of each of its jobs.
        cards: the GPUs that it sees.
    """

    process: Inline
    resources: Resources
    cards: tuple[str, ...]


class SharedCards(Executor):
    """Trains on this machine, as many jobs at a time as the GPUs have room for.

    Every run asks for a share of a GPU, 1 / n, where n is how many runs of its kind share one with the most steps per
    second within its memory; kinds without a measurement are measured before the first run. The shares on a GPU, also
    those of idle workers, add up to 1 at most. A run of several devices has whole GPUs.

    Args:
        cpus: threads of a run; None: its share of the cores.
        retries: restarts of a job after its worker died.
        work: the function that a worker calls with a job.
        cards: the GPUs, as ``CUDA_VISIBLE_DEVICES`` names them; None: those that this process sees.
        measure: measures, and gives what is known of the GPUs.

    Raises:
        LacunaError: a value out of its range.
    """

    def __init__(
        self,
        cpus: int | None = None,
        retries: int = 2,
        work: Callable[[Job], Outcome] = run_job,
        cards: Sequence[str] | None = None,
        measure: Callable[[ProbeRequest], Measurements | None] = probe,
    ) -> None:
        check_whole("cpus", cpus, 1)
        check_whole("retries", retries, 0)
        self.cpus, self.retries, self.work, self.measure = cpus, retries, work, measure
        names = visible_gpus() if cards is None else list(cards)
        self._cards = Cards(names)
        self._names = names
        self._workers: list[CardWorker] = []
        self._jobs: dict[str, Job] = {}
        self._again: deque[Job] = deque()
        self._given_up: list[Outcome] = []
        self._known: Measurements | None = None
        self._stopped = False
        self._usual = max(1, min(GPU_RUNS, cores() // max(1, len(names))))
        self._least = 1 / self._usual

    def resources(self, devices: int) -> Resources:
        """A quarter of a GPU (more if there are fewer cores); whole ones for a run of several devices."""
        gpus = float(devices) if devices > 1 else 1 / self._usual
        return Resources(self._threads(gpus), gpus)

    def prepare(self, jobs: Sequence[Job], seconds: float) -> list[Job]:
        """The jobs with the shares that suit their kinds, measured if needed; says what was chosen on stderr."""
        request, known = probe_request(jobs, seconds, self.cpus, len(self._names)), None
        if request is not None and worth_measuring(request):
            known = self._known = self.measure(request)
            print(choice_text(request.kinds, known, self._usual), file=sys.stderr, flush=True)
        default = self.resources(1).cpus

        def threads(job: Job, share: float) -> int:
            return self._threads(share) if job.resources.cpus == default else job.resources.cpus

        return with_shares(jobs, known, self._usual, threads)

    def check(self, requests: Iterable[Resources]) -> None:
        """Check that this machine has the requested cores and GPUs."""
        for resources in requests:
            if resources.cpus > cores():
                raise LacunaError(f"executor.cpus={resources.cpus}: this machine has {cores()} cores.")
            if math.ceil(resources.gpus) > len(self._names):
                raise LacunaError(
                    f"trainer.devices={resources.gpus:g}: this machine has {len(self._names)} GPUs; choose fewer."
                )
            if resources.gpus > 0:
                self._least = min(self._least, resources.gpus)

    @property
    def slots(self) -> int:
        """The jobs that run, and as many more as there is room for."""
        return len(self._jobs) + self._room().places(self._least)

    def takes(self, job: Job) -> bool:
        """Whether the GPUs have room for a job now, and none that ran out of memory waits for a whole one."""
        return not self._again and self._room().find(job.resources.gpus) is not None

    def submit(self, job: Job) -> None:
        """Give the job to an idle worker of its kind, or to a new one; idle workers that are in its way end."""
        asked = job.resources
        cards = self._room().find(asked.gpus)
        if cards is None:
            raise RuntimeError("no room on a GPU")
        idle = [worker for worker in self._workers if not worker.process.busy]
        same = [worker for worker in idle if worker.resources == asked]
        chosen = next((worker for worker in same if worker.cards == cards), None) or next(iter(same), None)
        if chosen is None:
            chosen = self._start(asked, cards, idle)
        chosen.process.submit(job)
        self._jobs[job.identity] = job

    def wait(self, timeout: float) -> list[Outcome]:
        """Outcomes of the jobs that have ended, or of the first that ends in time."""
        until = time.monotonic() + timeout
        while True:
            if self._given_up:
                return [self._given_up.pop()]
            if self._stopped and self._again:
                return [self._forget(self._again.popleft())]
            while self._again and self._room().find(1.0) is not None:
                self.submit(self._again.popleft())
            watched = [handle for worker in self._workers for handle in worker.process.watched()]
            if not watched:
                return []
            multiprocessing.connection.wait(watched, max(0.0, until - time.monotonic()))
            busy = [worker.process for worker in self._workers if worker.process.busy]
            ended = [outcome for process in busy for outcome in process.wait(0) if self._ends(outcome)]
            if ended or time.monotonic() >= until:
                return ended

    cancels = True

    def cancel(self, identity: str) -> None:
        """Ask the worker of this job to stop; a job that waits for a whole GPU ends at once."""
        for worker in self._workers:
            worker.process.cancel(identity)
        for job in [job for job in self._again if job.identity == identity]:
            self._again.remove(job)
            self._given_up.append(self._forget(job))

    def stop(self) -> None:
        """Ask all busy workers to stop."""
        self._stopped = True
        for worker in self._workers:
            worker.process.stop()

    def close(self) -> None:
        """Stop all workers. They save their states at the same time."""
        self.stop()
        workers, self._workers = self._workers, []
        for worker in workers:
            worker.process.close()
        self._cards, self._stopped = Cards(self._names), False
        self._jobs.clear()
        self._again.clear()

    def _ends(self, outcome: Outcome) -> bool:
        """Whether a job has ended; if its share of a GPU had too little memory, it goes on with a whole one."""
        job = self._jobs[outcome.identity]
        learn(self._known, job, outcome)
        if outcome.out_of_memory and job.resources.gpus < 1 and not self._stopped:
            self._again.append(alone(job))
            return False
        del self._jobs[outcome.identity]
        return True

    def _forget(self, job: Job) -> Outcome:
        """A job that will not be tried again, because all are asked to stop."""
        del self._jobs[job.identity]
        return Outcome.stopped(job.identity)

    def _threads(self, gpus: float) -> int:
        return self.cpus or max(1, int(cores() * gpus / max(1, len(self._names))))

    def _room(self) -> Cards:
        """The GPUs as if no worker were idle."""
        room = Cards(self._names)
        for worker in self._workers:
            if worker.process.busy:
                room.take(worker.cards, worker.resources.gpus)
        return room

    def _start(self, asked: Resources, cards: tuple[str, ...], idle: Iterable[CardWorker]) -> CardWorker:
        """A new worker; as many idle ones on its cards end as have to make room."""
        for worker in idle:
            if all(self._cards.free[name] + TOLERANCE >= min(asked.gpus, 1.0) for name in cards):
                break
            if set(worker.cards) & set(cards):
                worker.process.close()
                self._workers.remove(worker)
                self._cards.give_back(worker.cards, worker.resources.gpus)
        self._cards.take(cards, asked.gpus)
        process = Inline(cpus=asked.cpus, retries=self.retries, work=self.work, device=",".join(cards))
        worker = CardWorker(process, asked, cards)
        self._workers.append(worker)
        return worker
