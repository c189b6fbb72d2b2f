"""Interrupts (SIGINT, SIGTERM, under SLURM SIGUSR1) wait for the end of a batch during training.

So a checkpoint is written first.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from types import FrameType
from typing import Any

SUBMITIT = "submitit."
PATIENCE = 20.0
"""Seconds that an interrupt waits for a checkpoint; less than a parent process waits for its worker to end."""


REPEATED = 3.0
"""Seconds within which a signal to stop is taken for the same as the one before."""
_heard: list[tuple[int, float]] = []


def note_signal(number: int) -> bool:
    """Remember a signal that asks this process to stop, for its exit code.

    Returns:
        Whether it is a new one. A scheduler may send it to every process of a job, and a parent passes it on.
    """
    now = time.monotonic()
    new = not _heard or now - _heard[-1][1] > REPEATED
    _heard.append((number, now))
    return new


def signals_heard() -> set[int]:
    """The signals, beside SIGINT, that have asked this process to stop, since :func:`forget_signals`."""
    return {number for number, _ in _heard}


def forget_signals() -> None:
    """Begin anew: a command is called."""
    _heard.clear()


class OneInterrupt:
    """A handler of SIGINT that raises KeyboardInterrupt once and ignores later signals.

    For worker processes: the terminal and the parent may both send SIGINT, and saving takes a moment.
    """

    def __init__(self) -> None:
        self._raised = False

    def __call__(self, signum: int, frame: FrameType | None) -> None:
        """Raise KeyboardInterrupt, the first time."""
        if not self._raised:
            self._raised = True
            raise KeyboardInterrupt


def stop_signals() -> tuple[signal.Signals, ...]:
    """The signals, beside SIGINT, that ask a process to save its state and stop.

    Schedulers send SIGTERM. Users of SLURM have it send SIGUSR1 some time before the limit (``--signal=USR1@90``).
    """
    return (signal.SIGTERM, signal.SIGUSR1) if "SLURM_JOB_ID" in os.environ else (signal.SIGTERM,)


def leave_to_parent(signum: int, frame: FrameType | None) -> None:
    """A handler of signals that SLURM sends to every process of a job: the parent gets them, too, and sends SIGINT."""


def others_handler(number: int) -> Any:
    """The handler of a signal that is not for a training to act on; None if it is.

    Its parent acts on it, or submitit, which requeues the job.
    """
    handler = signal.getsignal(number)
    submitit = str(getattr(handler, "__module__", "")).startswith(SUBMITIT)
    return handler if handler is leave_to_parent or submitit else None


class Interrupts:
    """Records the signals to stop while installed; the training checks between batches, saves, and calls :meth:`stop`.

    These are SIGINT and :func:`stop_signals`, but none that a parent process or submitit handled when this was made.

    If that takes longer than ``patience`` seconds (a very long batch, or a validation), the training is interrupted at
    once and resumes later from the checkpoint before. A second Ctrl-C interrupts it at once, too, except where
    :class:`OneInterrupt` was installed. Nothing is installed outside the main thread, where Python handles no signals,
    or where SIGINT is ignored.

    Args:
        patience: seconds from a signal to an interrupt at once.
    """

    def __init__(self, patience: float = PATIENCE) -> None:
        self.patience = patience
        self.requested = False
        """Whether a signal to stop has come."""
        self._overdue = False
        # looked up before the training, in which Lightning adds to the handlers
        self._ours: dict[int, Any] = {
            number: others_handler(number) or self._record for number in (signal.SIGINT, *stop_signals())
        }
        self._handlers: dict[int, Any] = {}
        self._timer: threading.Timer | None = None

    def install(self) -> None:
        """Record signals from now on, instead of raising KeyboardInterrupt."""
        if threading.current_thread() is not threading.main_thread() or not callable(signal.getsignal(signal.SIGINT)):
            return
        self.requested = self._overdue = False
        for number, handler in self._ours.items():
            self._handlers[number] = signal.signal(number, handler)

    def remove(self) -> None:
        """Restore the handlers from before, unless others have been installed since."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for number, handler in self._handlers.items():
            if signal.getsignal(number) == self._ours[number] and handler is not None:
                signal.signal(number, handler)
        self._handlers = {}

    def stop(self) -> None:
        """Stop the training here.

        Raises:
            KeyboardInterrupt: always.
        """
        handler = self._handlers.get(signal.SIGINT)
        self.remove()
        if callable(handler):  # OneInterrupt must know that it was called
            handler(signal.SIGINT, None)
        raise KeyboardInterrupt

    def _record(self, signum: int, frame: FrameType | None) -> None:
        repeated = (
            self.requested and signum == signal.SIGINT and not isinstance(self._handlers.get(signum), OneInterrupt)
        )
        if signum != signal.SIGINT:
            note_signal(signum)
        if self._overdue or repeated:
            self.stop()
        if not self.requested:
            self.requested = True
            self._timer = threading.Timer(self.patience, self._interrupt_now)
            self._timer.daemon = True
            self._timer.start()

    def _interrupt_now(self) -> None:
        self._overdue = True
        os.kill(os.getpid(), signal.SIGINT)
