"""One run after another, in one worker process: the default on one device."""

from __future__ import annotations

import contextlib
import math
import multiprocessing
import multiprocessing.connection
import os
import signal
import threading
import time
from collections.abc import Callable, Iterable
from multiprocessing.connection import Connection

from lacuna.errors import LacunaError
from lacuna.executors.base import Executor, Job, Outcome, Resources
from lacuna.executors.signals import obey_parent_only, sigint_blocked
from lacuna.executors.validation import check_gpus, check_whole
from lacuna.executors.worker import run_job
from lacuna.runs.machine import cores, environment, gpu_count

GRACE = 30.0
"""Seconds that a worker has to save its state and stop."""


class Inline(Executor):
    """Trains on this machine, one job at a time.

    The worker is kept between jobs, so torch is imported once. If it dies (out of memory, killed), a new one resumes
    the job from its last checkpoint.

    Args:
        cpus: threads of a run; None: every core.
        gpus: GPUs of a run; None: one for each of its devices, if the machine has GPUs. ``auto``: the same here;
            :func:`lacuna.executors.opening.open_executor` lets several runs share a GPU instead.
        retries: restarts of a job after its worker died.
        work: the function that the worker calls with a job.
        device: the GPU that the worker sees, as in ``CUDA_VISIBLE_DEVICES``; None: all that this process sees.

    Raises:
        LacunaError: a value out of its range.
    """

    def __init__(
        self,
        cpus: int | None = None,
        gpus: float | str | None = None,
        retries: int = 2,
        work: Callable[[Job], Outcome] = run_job,
        device: str | None = None,
    ) -> None:
        check_whole("cpus", cpus, 1)
        check_whole("retries", retries, 0)
        check_gpus(gpus)
        self.gpus = None if isinstance(gpus, str) else gpus
        self.cpus, self.retries, self.work, self.device = cpus, retries, work, device
        self._job: Job | None = None
        self._deaths = 0
        self._threads = 0
        self._stop_sent: float | None = None
        self._process: multiprocessing.process.BaseProcess | None = None
        self._pipe: Connection | None = None

    def resources(self, devices: int) -> Resources:
        """Every core, and one GPU per process if the machine has GPUs."""
        wanted = self.gpus if self.gpus is not None else float(min(gpu_count(), devices))
        return Resources(self.cpus or cores(), wanted)

    def check(self, requests: Iterable[Resources]) -> None:
        """Check that this machine has the requested cores and GPUs."""
        have_cpus, have_gpus = cores(), gpu_count()
        for resources in requests:
            if resources.cpus > have_cpus:
                raise LacunaError(f"executor.cpus={resources.cpus}: this machine has {have_cpus} cores.")
            if math.ceil(resources.gpus) > have_gpus:
                raise LacunaError(
                    f"executor.gpus={resources.gpus:g}: this machine has {have_gpus or 'no'} GPUs; "
                    "leave it null to use all."
                )

    @property
    def slots(self) -> int:
        """One."""
        return 1

    def submit(self, job: Job) -> None:
        """Send the job to the worker; starts one if there is none."""
        if self._job is not None:
            raise RuntimeError("one job at a time")
        self._job, self._deaths, self._stop_sent = job, 0, None
        self._send(job)

    def wait(self, timeout: float) -> list[Outcome]:
        """The job's outcome, if it ends in time."""
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
        if not outcome.done:  # after an error CUDA may be unusable in that process
            self._retire()
        return [outcome]

    @property
    def busy(self) -> bool:
        """Whether the worker has a job."""
        return self._job is not None

    def watched(self) -> list[Connection | int]:
        """Handles for :func:`multiprocessing.connection.wait`, ready when the job ends; empty without a job."""
        if self._job is None:
            return []
        assert self._pipe is not None and self._process is not None
        return [self._pipe, self._process.sentinel]

    def stop(self) -> None:
        """Send the worker SIGINT, once, if it has a job."""
        process = self._process
        if self._stop_sent is None and self._job is not None:
            self._stop_sent = time.monotonic()
            if process is not None and process.pid is not None and process.is_alive():
                os.kill(process.pid, signal.SIGINT)

    cancels = True

    def cancel(self, identity: str) -> None:
        """Stop the worker's job, if it is this one; the next job gets a new worker."""
        if self._job is not None and self._job.identity == identity:
            self.stop()

    def dismiss(self) -> None:
        """Let an idle worker end; returns at once. A second is what Python needs to end a process that has torch."""
        if self._job is None and self._pipe is not None:
            self._pipe.close()  # an idle worker ends with its pipe

    def close(self) -> None:
        """Stop the worker. It has :data:`GRACE` seconds since :meth:`stop` to save its state."""
        process, busy = self._process, self._job is not None
        try:
            if busy and process is not None:
                self.stop()
                process.join(max(0.0, GRACE - (time.monotonic() - (self._stop_sent or 0.0))))
                if process.is_alive():
                    process.kill()
        finally:
            self._job = self._stop_sent = None
            self._retire()

    def _send(self, job: Job) -> None:
        if self._threads != job.resources.cpus:  # some libraries read the number of threads only once
            self._retire()
        if self._process is None or not self._process.is_alive():
            self._start(job.resources.cpus)
        assert self._pipe is not None
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # it died just now; wait() handles that
            self._pipe.send(job)

    def _start(self, threads: int) -> None:
        if self._pipe is not None:
            self._pipe.close()
        self._threads = threads
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        visible = "" if self.gpus == 0 else self.device
        devices = {} if visible is None else {"CUDA_VISIBLE_DEVICES": visible}
        with environment({"OMP_NUM_THREADS": str(threads), **devices}), sigint_blocked():
            self._process = context.Process(target=_serve, args=(theirs, self.work), daemon=False, name="lacuna-worker")
            self._process.start()
        theirs.close()

    def _retire(self) -> None:
        """End an idle worker; the next job gets a new one."""
        process, self._process = self._process, None
        pipe, self._pipe = self._pipe, None
        if process is None or pipe is None:
            return
        pipe.close()  # see dismiss()
        _await_end(process)

    def _worker_died(self, job: Job) -> list[Outcome]:
        assert self._process is not None
        _await_end(self._process)
        code = self._process.exitcode
        self._process, self._deaths = None, self._deaths + 1
        if self._stop_sent is not None:  # it stopped before it could answer
            self._job = None
            return [Outcome.stopped(job.identity)]
        if self._deaths <= self.retries:
            self._send(job)
            return []
        self._job = None
        why = f"killed by signal {-code}" if code is not None and code < 0 else f"exit code {code}"
        error = f"its process died {self._deaths} times ({why}): perhaps there is too little memory."
        return [Outcome(job.identity, error)]


def _await_end(process: multiprocessing.process.BaseProcess) -> None:
    process.join(GRACE)
    if process.is_alive():
        process.kill()
        process.join()


def _serve(pipe: Connection, work: Callable[[Job], Outcome]) -> None:
    """The loop of a worker: jobs in, outcomes out, until the pipe closes or it is interrupted."""
    threading.Thread(target=_exit_with_parent, daemon=True).start()
    try:
        obey_parent_only()
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})  # see sigint_blocked
        while True:
            outcome = work(pipe.recv())
            pipe.send(outcome)
            if outcome.interrupted:
                return
    except (EOFError, OSError, KeyboardInterrupt):
        return


def _exit_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is None:
        return
    parent.join()
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(GRACE)
    os._exit(1)
