"""Queues of jobs: SLURM's, or, for trying things out, processes of this machine. Both through submitit."""

from __future__ import annotations

import contextlib
import getpass
import os
import shutil
import signal
import socket
import subprocess
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import lacuna
from lacuna.errors import LacunaError
from lacuna.executors.signals import sigint_blocked
from lacuna.extras import require
from lacuna.runs.machine import environment

SLURM, LOCAL = "slurm", "local"
CANCELLED = "CANCELLED"


@dataclass(frozen=True)
class Request:
    """What a job asks for.

    Args:
        cpus: CPU cores.
        gpus: GPUs.
        minutes: time limit.
        warning: seconds before the time limit at which the job is told.
        requeues: how often it goes on after its time limit.
        mem_gb: memory; None: the cluster's default.
        setup: lines of shell before the job.
        sbatch: further parameters of sbatch, by their long names.
    """

    cpus: int
    gpus: int
    minutes: float
    warning: int = 90
    requeues: int = 10
    mem_gb: float | None = None
    setup: tuple[str, ...] = ()
    sbatch: Mapping[str, Any] = field(default_factory=dict)


class Queue(ABC):
    """Takes jobs and tells which of them are waiting or running."""

    name: str
    poll_seconds: float
    """Seconds between two questions to it."""

    @abstractmethod
    def check(self) -> None:
        """Check that there is such a queue here.

        Raises:
            LacunaError: there is not.
        """

    @abstractmethod
    def submit(self, work: Callable[[], None], folder: Path, request: Request, after: Sequence[str]) -> str:
        """Submit a job that starts when the jobs ``after`` have ended, in whatever way; its id.

        Args:
            work: what it does.
            folder: of its files.
            request: what it asks for.
            after: ids of jobs.

        Raises:
            LacunaError: the queue refuses it.
        """

    @abstractmethod
    def alive(self, ids: Iterable[str]) -> set[str] | None:
        """Which of some jobs are waiting or running; None: the queue does not answer."""

    @abstractmethod
    def cancel(self, ids: Iterable[str], *, kill: bool = False) -> None:
        """Ask jobs to save their state and stop; ``kill``: end them at once."""

    @abstractmethod
    def reason(self, job: str) -> str:
        """How a job ended, in the queue's own word; empty if not known."""


class SlurmQueue(Queue):
    """The queue of a SLURM cluster."""

    name = SLURM
    poll_seconds = 15.0

    def check(self) -> None:
        """Check that SLURM's commands are here."""
        _submitit()
        missing = [command for command in ("sbatch", "srun", "squeue", "scancel") if shutil.which(command) is None]
        if missing:
            raise LacunaError(
                f"executor=slurm: there is no {missing[0]} on this machine; start the command where SLURM is, or try "
                "it out with executor.cluster=local."
            )

    def submit(self, work: Callable[[], None], folder: Path, request: Request, after: Sequence[str]) -> str:
        """Submit by ``sbatch``."""
        submitit = _submitit()
        executor = submitit.SlurmExecutor(folder, max_num_timeout=request.requeues)
        given = dict(request.sbatch)
        if "no_requeue" not in given and "no-requeue" not in given:
            given = {"requeue": True, **given}  # after the failure of a machine
        parameters = {
            "job_name": "lacuna",
            "time": int(request.minutes),
            "nodes": 1,
            "ntasks_per_node": 1,
            "cpus_per_task": request.cpus,
            "gpus_per_node": request.gpus or None,
            "mem": None if request.mem_gb is None else f"{round(request.mem_gb * 1024)}MB",
            "signal_delay_s": request.warning,
            "setup": list(request.setup) or None,
            "dependency": f"afterany:{':'.join(after)}" if after else None,
            "additional_parameters": given,
        }
        executor.update_parameters(**{key: value for key, value in parameters.items() if value is not None})
        return _submit(executor, work)

    def alive(self, ids: Iterable[str]) -> set[str] | None:
        """Ask ``squeue``."""
        command = ["squeue", "--noheader", "--format=%i", f"--user={getpass.getuser()}"]
        answer = _ask(command)
        return None if answer is None else set(ids) & {line.strip() for line in answer.splitlines()}

    def cancel(self, ids: Iterable[str], *, kill: bool = False) -> None:
        """Call ``scancel``: running jobs get SIGTERM, and half a minute."""
        words = ["--signal=KILL", "--full"] if kill else []
        chosen = list(ids)
        if chosen:
            _ask(["scancel", *words, *chosen])

    def reason(self, job: str) -> str:
        """Ask ``scontrol``, which remembers a job for some minutes."""
        words = (_ask(["scontrol", "--oneliner", "show", "job", job]) or "").split()
        return next((word.partition("=")[2] for word in words if word.startswith("JobState=")), "")


class LocalQueue(Queue):
    """Jobs as processes of this machine, which outlive the command as jobs of a cluster do. All run at once."""

    name = LOCAL
    poll_seconds = 0.5

    def __init__(self) -> None:
        self._started: list[Any] = []
        self._cancelled: set[str] = set()

    def check(self) -> None:
        """Only submitit is needed."""
        _submitit()

    def submit(self, work: Callable[[], None], folder: Path, request: Request, after: Sequence[str]) -> str:
        """Start a process; it waits by itself for those that it needs."""
        executor = _submitit().LocalExecutor(folder, max_num_timeout=request.requeues)
        executor.update_parameters(
            timeout_min=request.minutes, gpus_per_node=request.gpus, signal_delay_s=request.warning, setup=request.setup
        )
        return _submit(executor, work, self._started)

    def alive(self, ids: Iterable[str]) -> set[str] | None:
        """Look which processes there are."""
        for job in self._started:
            job._process.poll()  # so that those that have ended are buried
        return {job for job in ids if _is_submitits(job)}

    def cancel(self, ids: Iterable[str], *, kill: bool = False) -> None:
        """Send SIGTERM, which submitit passes on."""
        for job in ids:
            self._cancelled.add(job)
            if _is_submitits(job):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(job), signal.SIGKILL if kill else signal.SIGTERM)

    def reason(self, job: str) -> str:
        """Whether it was cancelled."""
        return CANCELLED if job in self._cancelled else ""


QUEUES: dict[str, type[Queue]] = {SLURM: SlurmQueue, LOCAL: LocalQueue}


def here() -> str:
    """The name of this machine: ids of local jobs mean nothing elsewhere."""
    return socket.gethostname()


def _submitit() -> Any:
    return require("submitit", "slurm", "executor=slurm")


def _submit(executor: Any, work: Callable[[], None], started: list[Any] | None = None) -> str:
    errors = refusals()
    # the job can import what this process can
    path = os.pathsep.join([str(Path(lacuna.__file__).parents[1]), *filter(None, sys.path)])
    try:
        with environment({"PYTHONPATH": path}), sigint_blocked():  # Ctrl-C reaches this process only
            job = executor.submit(work)
    except errors as error:
        reason = " ".join(str(error).split())
        raise LacunaError(f"executor=slurm: the job was refused: {reason}") from error
    if started is not None:
        started.append(job)
    return str(job.job_id)


def refusals() -> tuple[type[BaseException], ...]:
    """The exceptions by which submitit says that a job was not submitted."""
    utils = require("submitit.core.utils", "slurm", "executor=slurm")
    return (utils.FailedJobError, utils.FailedSubmissionError, subprocess.SubprocessError, OSError)


def _ask(command: Sequence[str]) -> str | None:
    """The output of a command of SLURM; None if it fails, as all do while the controller is busy."""
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return None


def _is_submitits(process: str) -> bool:
    """Whether a process of this number runs and is a job's."""
    try:
        return b"submitit.local._local" in Path(f"/proc/{int(process)}/cmdline").read_bytes()
    except (OSError, ValueError):
        return False
