"""What lives in a Ray worker process: it keeps its devices for life and does one job after another.

Nothing here imports torch before a job does, so that what is set first (threads, devices) is what torch finds.
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
from lacuna.executors.signals import hear_one_interrupt


class Worker:
    """The actor. Ray has given it its GPUs, in ``CUDA_VISIBLE_DEVICES``, before it is made.

    Args:
        resources: what it has; its CPU cores are its threads.
        home: the driver's working directory, against which relative paths are meant.
        command: the driver's command line, which goes on record as what made the numbers.
    """

    def __init__(self, resources: Resources, home: Path, command: Sequence[str]) -> None:
        os.environ["OMP_NUM_THREADS"] = str(resources.cpus)
        if resources.gpus == 0:  # without this it would see them all, and take the first
            os.environ["CUDA_VISIBLE_DEVICES"] = ""
        with contextlib.suppress(OSError):
            os.chdir(home)
        sys.argv = list(command)
        # Ray blocks it in all its processes; those that a run starts inherit what is set here.
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        hear_one_interrupt()

    def where(self) -> tuple[str, int]:
        """The Ray node and the process id; answered as soon as the worker has its place."""
        return importlib.import_module("ray").get_runtime_context().get_node_id(), os.getpid()

    def do(self, work: Callable[[Job], Outcome], job: Job, marker: Path | None = None) -> Outcome:
        """One job, from beginning to end.

        Args:
            work: what is done with it.
            job: the job; its folders are absolute.
            marker: a file of the driver in the output folder, to see that it is the same folder here.
        """
        if marker is not None and not marker.exists():
            return Outcome(
                job.identity,
                f"output={marker.parent} on {socket.gethostname()} is not the folder of that name where this was "
                "started: set output to a folder that all machines of the cluster share.",
            )
        try:
            return work(job)
        except KeyboardInterrupt:
            return Outcome.stopped(job.identity)
