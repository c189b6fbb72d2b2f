"""Signals that ask a process to stop."""

from __future__ import annotations

import signal
from types import FrameType

from lacuna.training.interrupts import OneInterrupt, leave_to_parent, stop_signals

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
    """Treat SIGTERM, as job schedulers send it, and SIGUSR1 under SLURM like Ctrl-C: runs save their state and stop."""

    def stop(signum: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    for number in stop_signals():
        signal.signal(number, stop)
