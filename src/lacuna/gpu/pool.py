"""Processes that time training steps side by side (:mod:`lacuna.gpu.stopwatch`); kept, for torch imports slowly."""

from __future__ import annotations

import contextlib
import multiprocessing
import multiprocessing.connection
import time
from collections.abc import Sequence
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Any

from lacuna.gpu.stopwatch import WARM, Order, serve

IMPORT = 120.0
"""Seconds in which torch should be imported."""
PATIENCE = 20.0
"""Seconds beyond the time asked for in which the steps should be over."""

Process = tuple[multiprocessing.process.BaseProcess, Connection]


class Pool:
    """Up to ``most`` processes; those that do not answer in time are ended, and replaced when they are needed."""

    def __init__(self, most: int) -> None:
        self.most = most
        self._processes: list[Process] = []
        self._fresh: list[Process] = []

    def __enter__(self) -> Pool:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End all of them."""
        for one in [*self._processes, *self._fresh]:
            _end(one)
        self._processes, self._fresh = [], []

    def start(self, number: int) -> None:
        """Have so many processes at work on importing torch, and do not wait for them."""
        context = multiprocessing.get_context("spawn")
        for _ in range(min(number, self.most) - len(self._processes) - len(self._fresh)):
            pipe, theirs = context.Pipe()
            process = context.Process(target=serve, args=(theirs,), daemon=True)
            process.start()
            theirs.close()
            self._fresh.append((process, pipe))

    def grow(self, number: int, seconds: float = IMPORT) -> bool:
        """Have so many processes with torch imported; whether they are ready in time."""
        self.start(number)
        lacking = number - len(self._processes)
        if lacking <= 0:
            return True
        told = _hear([pipe for _, pipe in self._fresh], time.monotonic() + seconds)
        fresh, self._fresh = self._fresh, []
        for one, word in zip(fresh, told, strict=True):
            if word == WARM:
                self._processes.append(one)
            elif word is None:  # still at it
                self._fresh.append(one)
            else:
                _end(one)
        return len(self._processes) >= number

    def measure(self, order: Order, number: int, limit: float) -> list[dict[str, Any]]:
        """The same order in ``number`` processes at the same time; each one's answer.

        Args:
            order: what to time.
            number: of processes; there must be so many.
            limit: seconds until all are warm.
        """
        chosen = self._processes[:number]
        _tell(chosen, order)
        begun = _hear([pipe for _, pipe in chosen], time.monotonic() + limit)
        found = [_answer(word, f"no step within {limit:.0f} s") for word in begun]
        warm = [place for place, word in enumerate(begun) if word == WARM]
        _tell([chosen[place] for place in warm], WARM)
        ended = _hear([chosen[place][1] for place in warm], time.monotonic() + order.seconds + PATIENCE)
        for place, word in zip(warm, ended, strict=True):
            found[place] = _answer(word, f"a step takes more than {PATIENCE:.0f} s")
        for one, answer in zip(chosen, found, strict=True):
            if answer.pop("lost", False):
                self._processes.remove(one)
                _end(one)
        return found


def _answer(word: Any, late: str) -> dict[str, Any]:
    """What a process has found, or why it has found nothing; ``slow``: for lack of time;
    ``lost``: it may be in the middle of something.
    """
    if isinstance(word, dict):
        return word
    return {"error": late if word is None else str(word), "slow": word is None, "lost": True}


def _tell(processes: Sequence[Process], word: Any) -> None:
    for _, pipe in processes:
        with contextlib.suppress(OSError):
            pipe.send(word)


def _end(one: Process) -> None:
    process, pipe = one
    process.kill()
    process.join()
    pipe.close()


def _hear(pipes: Sequence[Connection], until: float) -> list[Any]:
    """A word of each; None of those that say nothing in time, a sentence of those that are gone."""
    words: list[Any] = [None] * len(pipes)
    open_ones = dict(enumerate(pipes))
    while open_ones and time.monotonic() < until:
        ready = multiprocessing.connection.wait(list(open_ones.values()), max(0.0, until - time.monotonic()))
        for place in [place for place, pipe in open_ones.items() if pipe in ready]:
            try:
                words[place] = open_ones.pop(place).recv()
            except (EOFError, OSError):
                words[place] = "its process ended, perhaps for lack of memory"
    return words
