"""A pool of processes that time training steps at the same time (:mod:`lacuna.throughput.stopwatch`)."""

from __future__ import annotations

import contextlib
import multiprocessing
import multiprocessing.connection
import time
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Any

from lacuna.throughput.stopwatch import READY, TimingRequest, serve

IMPORT = 120.0
"""Seconds for importing torch."""
PATIENCE = 20.0
"""Seconds beyond the requested time in which a timing must end."""

Process = tuple[multiprocessing.process.BaseProcess, Connection]


class Pool:
    """Up to ``most`` processes, kept because importing torch is slow. Those that do not answer are replaced."""

    def __init__(self, most: int) -> None:
        self.most = most
        self._processes: list[Process] = []
        self._starting: list[Process] = []

    def __enter__(self) -> Pool:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Kill all processes."""
        for one in [*self._processes, *self._starting]:
            _end(one)
        self._processes, self._starting = [], []

    def start(self, number: int) -> None:
        """Start processes that import torch, up to ``number`` in all; do not wait for them."""
        context = multiprocessing.get_context("spawn")
        for _ in range(min(number, self.most) - len(self._processes) - len(self._starting)):
            pipe, theirs = context.Pipe()
            process = context.Process(target=serve, args=(theirs,), daemon=True)
            process.start()
            theirs.close()
            self._starting.append((process, pipe))

    def grow(self, number: int, seconds: float = IMPORT) -> bool:
        """Wait until ``number`` processes have imported torch; whether they have in time."""
        self.start(number)
        lacking = number - len(self._processes)
        if lacking <= 0:
            return True
        answers = _receive([pipe for _, pipe in self._starting], time.monotonic() + seconds)
        starting, self._starting = self._starting, []
        for one, answer in zip(starting, answers, strict=True):
            if answer == READY:
                self._processes.append(one)
            elif answer is None:  # still importing
                self._starting.append(one)
            else:
                _end(one)
        return len(self._processes) >= number

    def measure(
        self, request: TimingRequest, number: int, limit: float, when_warm: Callable[[], None] | None = None
    ) -> list[dict[str, Any]]:
        """Time the same steps in ``number`` processes at the same time; the answer of each.

        Args:
            request: what to time.
            number: of processes; the pool must have so many.
            limit: seconds until all are warmed up.
            when_warm: called when all are, just before the timing starts.
        """
        chosen = self._processes[:number]
        _send(chosen, request)
        first = _receive([pipe for _, pipe in chosen], time.monotonic() + limit)
        answers = [_answer(message, f"no step within {limit:.0f} s") for message in first]
        warm = [index for index, message in enumerate(first) if message == READY]
        if when_warm is not None and len(warm) == number:
            when_warm()
        _send([chosen[index] for index in warm], READY)
        last = _receive([chosen[index][1] for index in warm], time.monotonic() + request.seconds + PATIENCE)
        for index, message in zip(warm, last, strict=True):
            answers[index] = _answer(message, f"a step takes more than {PATIENCE:.0f} s")
        for one, answer in zip(chosen, answers, strict=True):
            if answer.pop("lost", False):
                self._processes.remove(one)
                _end(one)
        return answers


def _answer(message: Any, late: str) -> dict[str, Any]:
    """The answer of a process, or an ``error``. ``slow``: not in time; ``lost``: the process must be replaced."""
    if isinstance(message, dict):
        return message
    return {"error": late if message is None else str(message), "slow": message is None, "lost": True}


def _send(processes: Sequence[Process], message: Any) -> None:
    for _, pipe in processes:
        with contextlib.suppress(OSError):
            pipe.send(message)


def _end(one: Process) -> None:
    process, pipe = one
    process.kill()
    process.join()
    pipe.close()


def _receive(pipes: Sequence[Connection], until: float) -> list[Any]:
    """A message from each pipe; None if none came in time, a sentence if the process has ended."""
    messages: list[Any] = [None] * len(pipes)
    waiting = dict(enumerate(pipes))
    while waiting and time.monotonic() < until:
        ready = multiprocessing.connection.wait(list(waiting.values()), max(0.0, until - time.monotonic()))
        for index in [index for index, pipe in waiting.items() if pipe in ready]:
            try:
                messages[index] = waiting.pop(index).recv()
            except (EOFError, OSError):
                messages[index] = "its process ended, perhaps for lack of memory"
    return messages
