"""Signals that ask a process to stop."""

from __future__ import annotations

import signal
from types import FrameType

from lacuna.training.interrupts import OneInterrupt


def hear_one_interrupt() -> None:
    """Take SIGINT for the user's word to stop, once: terminal and parent may both say it, and saving takes a moment."""
    signal.signal(signal.SIGINT, OneInterrupt())


def stop_on_sigterm() -> None:
    """Take a job scheduler's request to end for the user's: stop the runs in good order."""

    def stop(signum: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, stop)
