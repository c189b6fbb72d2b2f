"""The actor in a Ray worker process. It keeps its devices and does one job after another.

Nothing here imports torch before a job does, so that torch finds the threads and devices that are set here.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import signal
import socket
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from lacuna.executors.base import Job, Outcome, Resources
from lacuna.executors.signals import accept_one_interrupt


class Worker:
    """The actor. Ray assigns its GPUs, in ``CUDA_VISIBLE_DEVICES``, before it is created.

    Args:
        resources: of this worker; its CPU cores are its threads.
        home: the driver's working directory; relative paths refer to it.
        command: the driver's command line, to be recorded with the numbers.
    """

    def __init__(self, resources: Resources, home: Path, command: Sequence[str]) -> None:
        os.environ["OMP_NUM_THREADS"] = str(resources.cpus)
        if resources.gpus == 0:  # otherwise it would see all of them, and use the first
            os.environ["CUDA_VISIBLE_DEVICES"] = ""
        with contextlib.suppress(OSError):
            os.chdir(home)
        sys.argv = list(command)
        # Ray blocks SIGINT in all its processes; processes that a run starts inherit this setting.
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        accept_one_interrupt()

    def where(self) -> tuple[str, int]:
        """The Ray node and the process id; answered as soon as the worker has been placed."""
        return importlib.import_module("ray").get_runtime_context().get_node_id(), os.getpid()

    def do(self, work: Callable[[Job], Outcome], job: Job, marker: Path | None = None) -> Outcome:
        """Do one job.

        Args:
            work: the function to call with the job.
            job: the job; its folders are absolute.
            marker: a file that the driver wrote in the output folder, to check that it is the same folder here.
        """
        if marker is not None and not marker.exists():
            return Outcome(
                job.identity,
                f"output={marker.parent} on {socket.gethostname()} is not the folder of that name on the machine where "
                "this was started: set output to a folder that all machines of the cluster share.",
            )
        try:
            return work(job)
        except KeyboardInterrupt:
            return Outcome.stopped(job.identity)
