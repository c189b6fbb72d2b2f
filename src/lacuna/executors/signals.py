"""Signals that ask a process to stop."""

from __future__ import annotations

import signal
from types import FrameType

from lacuna.training.interrupts import OneInterrupt


def accept_one_interrupt() -> None:
    """Raise KeyboardInterrupt at the first SIGINT only: terminal and parent may both send one while a run saves."""
    signal.signal(signal.SIGINT, OneInterrupt())


def stop_on_sigterm() -> None:
    """Treat SIGTERM, as job schedulers send it, like Ctrl-C: runs save their state and stop."""

    def stop(signum: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, stop)
