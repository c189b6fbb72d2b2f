"""An interrupt during training waits for the end of the batch, so that the state is saved and nothing done is lost."""

from __future__ import annotations

import os
import signal
import threading
from types import FrameType
from typing import Any

PATIENCE = 20.0
"""Seconds that an interrupt waits for a checkpoint: less than a worker's parent waits for the worker to end."""


class OneInterrupt:
    """A handler of SIGINT that raises KeyboardInterrupt once and ignores later ones.

    For worker processes: the terminal and the parent may both send it, and saving takes a moment.
    """

    def __init__(self) -> None:
        self._raised = False

    def __call__(self, signum: int, frame: FrameType | None) -> None:
        """Raise KeyboardInterrupt, the first time."""
        if not self._raised:
            self._raised = True
            raise KeyboardInterrupt


class Interrupts:
    """Notes SIGINT and SIGTERM while it is installed; the training asks between two batches, saves, and answers.

    Where the training does not come to answer within ``patience`` seconds (a very long batch, or a validation), it is
    interrupted where it is, and goes on later from the checkpoint before. A second Ctrl-C interrupts it at once, except
    where :class:`OneInterrupt` was installed. Nothing is installed outside the main thread, where Python handles no
    signals, and where SIGINT is ignored.

    Args:
        patience: seconds.
    """

    def __init__(self, patience: float = PATIENCE) -> None:
        self.patience = patience
        self.asked = False
        """Whether somebody wants the training to stop."""
        self._late = False
        self._before: dict[int, Any] = {}
        self._timer: threading.Timer | None = None

    def install(self) -> None:
        """Note interrupts from now on instead of raising KeyboardInterrupt."""
        if threading.current_thread() is not threading.main_thread() or not callable(signal.getsignal(signal.SIGINT)):
            return
        self.asked = self._late = False
        for number in (signal.SIGINT, signal.SIGTERM):
            self._before[number] = signal.signal(number, self._note)

    def remove(self) -> None:
        """Put the handlers that were there before back, unless somebody has put others in place meanwhile."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for number, handler in self._before.items():
            if signal.getsignal(number) == self._note and handler is not None:
                signal.signal(number, handler)
        self._before = {}

    def answer(self) -> None:
        """Stop here.

        Raises:
            KeyboardInterrupt: always.
        """
        handler = self._before.get(signal.SIGINT)
        self.remove()
        if callable(handler):  # it takes note that it was called
            handler(signal.SIGINT, None)
        raise KeyboardInterrupt

    def _note(self, signum: int, frame: FrameType | None) -> None:
        again = self.asked and signum == signal.SIGINT and not isinstance(self._before.get(signum), OneInterrupt)
        if self._late or again:
            self.answer()
        if not self.asked:
            self.asked = True
            self._timer = threading.Timer(self.patience, self._insist)
            self._timer.daemon = True
            self._timer.start()

    def _insist(self) -> None:
        self._late = True
        os.kill(os.getpid(), signal.SIGINT)
