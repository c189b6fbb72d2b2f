"""Signals that ask a process to stop."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType

from lacuna.training.interrupts import OneInterrupt, leave_to_parent, note_signal, others_handler, stop_signals

TO_ALL = (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)
"""Signals that SLURM sends to every process of a job, which has its reasons to send them."""


def accept_one_interrupt() -> None:
    """Raise KeyboardInterrupt at the first SIGINT only: terminal and parent may both send one while a run saves."""
    signal.signal(signal.SIGINT, OneInterrupt())


def obey_parent_only() -> None:
    """Stop at SIGINT, which the parent sends; not at what SLURM sends to this process as well as to its parent."""
    accept_one_interrupt()
    for number in TO_ALL:
        signal.signal(number, leave_to_parent)


def stop_on_signals() -> None:
    """Treat SIGTERM, as job schedulers send it, and SIGUSR1 under SLURM like Ctrl-C: runs save their state and stop.

    Schedulers may send it to every process of a job, which a parent then passes on: a repeated one does not
    disturb what the first one began.

    Not inside a job of submitit (a launcher of Hydra), which requeues it, nor outside the main thread.
    """

    def stop(signum: int, frame: FrameType | None) -> None:
        if note_signal(signum):
            raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():
        return
    for number in stop_signals():
        if others_handler(number) is None:
            signal.signal(number, stop)


@contextlib.contextmanager
def sigint_blocked() -> Iterator[None]:
    """A process started now gets no SIGINT until it unblocks it. An earlier one would end it with a traceback."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
