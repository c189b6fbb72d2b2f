"""Interrupts (SIGINT, SIGTERM) wait for the end of a batch during training, so that a checkpoint is written first."""

from __future__ import annotations

import os
import signal
import threading
from types import FrameType
from typing import Any

PATIENCE = 20.0
"""Seconds that an interrupt waits for a checkpoint; less than a parent process waits for its worker to end."""


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


class Interrupts:
    """Records SIGINT and SIGTERM while installed; the training checks between batches, saves, and calls :meth:`stop`.

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
        self._handlers: dict[int, Any] = {}
        self._timer: threading.Timer | None = None

    def install(self) -> None:
        """Record signals from now on, instead of raising KeyboardInterrupt."""
        if threading.current_thread() is not threading.main_thread() or not callable(signal.getsignal(signal.SIGINT)):
            return
        self.requested = self._overdue = False
        for number in (signal.SIGINT, signal.SIGTERM):
            self._handlers[number] = signal.signal(number, self._record)

    def remove(self) -> None:
        """Restore the handlers from before, unless others have been installed since."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for number, handler in self._handlers.items():
            if signal.getsignal(number) == self._record and handler is not None:
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
