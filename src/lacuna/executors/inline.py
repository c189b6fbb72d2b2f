"""One run after another, in one worker process of our own: the default on one device."""

from __future__ import annotations

import contextlib
import math
import multiprocessing
import multiprocessing.connection
import os
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from multiprocessing.connection import Connection

from lacuna.errors import LacunaError
from lacuna.executors.base import Executor, Job, Outcome, Resources
from lacuna.executors.signals import hear_one_interrupt
from lacuna.executors.validation import gpu_share, whole
from lacuna.executors.worker import work as train
from lacuna.runs.machine import cores, gpu_count

GRACE = 30.0
"""Seconds that a worker has to save its state when it is told to stop."""


class Inline(Executor):
    """Trains on this machine, one job at a time.

    The worker is kept between jobs, so torch is imported once; if it dies (out of memory, killed) a new one takes
    the job up from its last checkpoint.

    Args:
        cpus: threads of a run; None: every core.
        gpus: GPUs of a run; None: as many as it has devices, where there are any.
        retries: how often a job is taken up again after its worker died.
        work: what the worker does with a job.
        device: the GPU that the worker sees, as in ``CUDA_VISIBLE_DEVICES``; None: all that this process sees.

    Raises:
        LacunaError: a value out of its range.
    """

    def __init__(
        self,
        cpus: int | None = None,
        gpus: float | None = None,
        retries: int = 2,
        work: Callable[[Job], Outcome] = train,
        device: str | None = None,
    ) -> None:
        whole("cpus", cpus, 1)
        whole("retries", retries, 0)
        gpu_share(gpus)
        self.cpus, self.gpus, self.retries, self.work, self.device = cpus, gpus, retries, work, device
        self._job: Job | None = None
        self._lost = 0
        self._threads = 0
        self._told: float | None = None
        self._process: multiprocessing.process.BaseProcess | None = None
        self._pipe: Connection | None = None

    def resources(self, devices: int) -> Resources:
        """Every core, and a GPU a process where there are GPUs."""
        wanted = self.gpus if self.gpus is not None else float(min(gpu_count(), devices))
        return Resources(self.cpus or cores(), wanted)

    def check(self, wanted: Iterable[Resources]) -> None:
        """Refuse more cores or GPUs than this machine has."""
        have_cpus, have_gpus = cores(), gpu_count()
        for resources in wanted:
            if resources.cpus > have_cpus:
                raise LacunaError(f"executor.cpus={resources.cpus}: this machine has {have_cpus} cores.")
            if math.ceil(resources.gpus) > have_gpus:
                raise LacunaError(
                    f"executor.gpus={resources.gpus:g}: this machine has {have_gpus or 'no'} GPUs; "
                    "leave it null to use what there is."
                )

    @property
    def slots(self) -> int:
        """One."""
        return 1

    def submit(self, job: Job) -> None:
        """Hand the job to the worker; starts one if there is none."""
        if self._job is not None:
            raise RuntimeError("one job at a time")
        self._job, self._lost = job, 0
        self._send(job)

    def wait(self, timeout: float) -> list[Outcome]:
        """The job's end, if it comes in time."""
        if self._job is None:
            return []
        assert self._pipe is not None and self._process is not None
        if not multiprocessing.connection.wait(self.watched(), timeout):
            return []
        try:
            outcome: Outcome | None = self._pipe.recv() if self._pipe.poll() else None
        except (EOFError, OSError):
            outcome = None
        if outcome is None:
            return self._worker_died(self._job)
        self._job = None
        if not outcome.done:  # after an error CUDA may be of no more use in that process
            self._retire()
        return [outcome]

    @property
    def busy(self) -> bool:
        """Whether a job is with the worker."""
        return self._job is not None

    def watched(self) -> list[Connection | int]:
        """What becomes ready when the job ends, for :func:`multiprocessing.connection.wait`; empty without a job."""
        if self._job is None:
            return []
        assert self._pipe is not None and self._process is not None
        return [self._pipe, self._process.sentinel]

    def stop(self) -> None:
        """Tell the worker to stop, if it is at work and was not told before."""
        process = self._process
        if self._told is None and self._job is not None:
            self._told = time.monotonic()
            if process is not None and process.pid is not None and process.is_alive():
                os.kill(process.pid, signal.SIGINT)

    def close(self) -> None:
        """Tell the worker to stop; it saves what it can, in so many seconds since it was told."""
        process, busy = self._process, self._job is not None
        try:
            if busy and process is not None:
                self.stop()
                process.join(max(0.0, GRACE - (time.monotonic() - (self._told or 0.0))))
                if process.is_alive():
                    process.kill()
        finally:
            self._job = self._told = None
            self._retire()

    def _send(self, job: Job) -> None:
        if self._threads != job.resources.cpus:  # some libraries read their number of threads once
            self._retire()
        if self._process is None or not self._process.is_alive():
            self._start(job.resources.cpus)
        assert self._pipe is not None
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # it died just now, which wait() finds out
            self._pipe.send(job)

    def _start(self, threads: int) -> None:
        if self._pipe is not None:
            self._pipe.close()
        self._threads = threads
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        seen = "" if self.gpus == 0 else self.device
        hidden = {} if seen is None else {"CUDA_VISIBLE_DEVICES": seen}
        with _environment({"OMP_NUM_THREADS": str(threads), **hidden}), _deaf():
            self._process = context.Process(target=_serve, args=(theirs, self.work), daemon=False, name="lacuna-worker")
            self._process.start()
        theirs.close()

    def _retire(self) -> None:
        """End an idle worker; the next job gets a new one."""
        process, self._process = self._process, None
        pipe, self._pipe = self._pipe, None
        if process is None or pipe is None:
            return
        pipe.close()  # an idle worker ends with its pipe
        _await_end(process)

    def _worker_died(self, job: Job) -> list[Outcome]:
        assert self._process is not None
        _await_end(self._process)
        code = self._process.exitcode
        self._process, self._lost = None, self._lost + 1
        if self._told is not None:  # it stopped before it could say so
            self._job = None
            return [Outcome.stopped(job.identity)]
        if self._lost <= self.retries:
            self._send(job)
            return []
        self._job = None
        why = f"killed by signal {-code}" if code is not None and code < 0 else f"exit code {code}"
        error = f"its process died {self._lost} times ({why}): perhaps there is too little memory."
        return [Outcome(job.identity, error)]


def _await_end(process: multiprocessing.process.BaseProcess) -> None:
    process.join(GRACE)
    if process.is_alive():
        process.kill()
        process.join()


def _serve(pipe: Connection, work: Callable[[Job], Outcome]) -> None:
    """A worker's life: jobs in, outcomes out, until the pipe closes or it is interrupted."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        hear_one_interrupt()
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})  # see _deaf
        while True:
            outcome = work(pipe.recv())
            pipe.send(outcome)
            if outcome.interrupted:
                return
    except (EOFError, OSError, KeyboardInterrupt):
        return


@contextlib.contextmanager
def _deaf() -> Iterator[None]:
    """A process started now hears SIGINT when it is ready to: one that came earlier would end it with a traceback."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextlib.contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    """Environment variables that a process started now begins with."""
    before = {key: os.environ.get(key) for key in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for key, value in before.items():
            if value is None:
                del os.environ[key]
            else:
                os.environ[key] = value


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is None:
        return
    parent.join()
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(GRACE)
    os._exit(1)
