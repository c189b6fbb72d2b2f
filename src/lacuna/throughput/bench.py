"""Time one kind of steps, alone and in several processes at a time on one card."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lacuna.runs.machine import cores
from lacuna.throughput.pool import Pool
from lacuna.throughput.rows import GAIN
from lacuna.throughput.shortened import shortened
from lacuna.throughput.step_kinds import Kind, batch_size
from lacuna.throughput.stopwatch import MODES, TimingRequest

LEVELS = (2, 4, 8)
"""Numbers of runs at a time."""
FIRST_STEP_WITHIN = 30.0
"""Seconds that a task may take before its first step."""


class Bench:
    """Times kinds of steps with the processes of a pool.

    Args:
        pool: the processes.
        root: data folder.
        work: folder for caches.
        accelerator: ``trainer.accelerator``.
        seconds: of each timing.
        time_left: seconds until everything must have ended.
        log: called with a line of text after a timing.
        threads: number of runs at a time -> threads of each; None: an equal share of the cores.
    """

    def __init__(
        self,
        pool: Pool,
        *,
        root: Path,
        work: Path,
        accelerator: str,
        seconds: float,
        time_left: Callable[[], float],
        log: Callable[[str], None] = lambda text: None,
        threads: Callable[[int], int] | None = None,
    ) -> None:
        self.pool, self.root, self.work, self.accelerator, self.seconds = pool, root, work, accelerator, seconds
        self._part_left, self._log = time_left, log
        self._threads = threads or (lambda number: max(1, cores() // number))

    def alone(self, kind: Kind, when_warm: Callable[[], None] | None = None) -> dict[str, Any] | None:
        """Time one kind alone.

        Args:
            kind: of the steps.
            when_warm: called after the warm-up, before the timing.

        Returns:
            A row with ``ms`` per step, or with ``error`` and ``slow`` (whether for lack of time); None: no time left.
        """
        if not self.pool.grow(1, self.time_left()) or not self.time_left():
            return None
        limit = min(FIRST_STEP_WITHIN, self.time_left())
        row = _row(kind, self.pool.measure(self._request(kind, 1), 1, limit, when_warm)[0])
        result = f"{row['ms']:,.1f} ms per step" if "ms" in row else f"not measured ({row['error']})"
        self._log(f"{kind.name}: {result}, {kind.runs} runs, {sum(kind.steps):,} steps")
        return row

    def compare(self, kind: Kind, row: dict[str, Any]) -> bool:
        """Time a kind alone in other modes, eagerly and in a loop written by hand; whether there was time.

        Args:
            kind: of the steps.
            row: its measurement; gets ``modes`` {mode: ms per step, or why there is none}.
        """
        found: dict[str, float | str] = {}
        for mode in MODES[1:]:
            if not self.pool.grow(1, self.time_left()) or not self.time_left():
                return False
            limit = min(FIRST_STEP_WITHIN, self.time_left())
            timed = _row(kind, self.pool.measure(self._request(kind, 1, mode), 1, limit)[0])
            found[mode] = timed.get("ms", timed.get("error", ""))
        row["modes"] = found
        shown = ", ".join(f"{mode} {ms:,.2f} ms" if isinstance(ms, float) else ms for mode, ms in found.items())
        self._log(f"{kind.name}: {row['ms']:,.2f} ms per step; {shown}")
        return True

    def together(self, kind: Kind, row: dict[str, Any], most: int = max(LEVELS)) -> bool:
        """Time a kind in 2, 4 and 8 processes while that gives more steps per second; whether there is time left.

        Args:
            kind: of the steps.
            row: its measurement alone; gets ``side_by_side`` {number: ms per step of each}.
            most: so many at a time; for more, the memory of the card may not suffice.
        """
        found: dict[int, float] = {}
        best = 1 / row["ms"]
        for number in LEVELS:
            if number > most:
                break
            # all of them import torch at the same time if there are enough cores
            self.pool.start(min(max(LEVELS), cores()))
            if not self.pool.grow(number, self.time_left()) or not self.time_left():
                if found:
                    row["side_by_side"] = found
                return False
            limit = min(FIRST_STEP_WITHIN, self.time_left())
            answers = self.pool.measure(self._request(kind, number), number, limit)
            wrong = [answer["error"] for answer in answers if not answer.get("steps")]
            if wrong or any("error" in answer for answer in answers):
                row["side_by_side_error"] = f"{number} at a time: {(wrong or ['no step in the time'])[0]}"
                break
            ms = statistics.fmean(1e3 * answer["seconds"] / answer["steps"] for answer in answers)
            found[number] = ms
            self._log(f"{kind.name}: {number} runs at a time: {ms:,.1f} ms per step of each")
            if number / ms < GAIN * best:
                break
            best = max(best, number / ms)
        row["side_by_side"] = found
        return True

    def time_left(self) -> float:
        """Seconds that may pass before a timing starts so that it ends in time; at least 0."""
        return max(0.0, self._part_left() - self.seconds)

    def _request(self, kind: Kind, number: int, mode: str = MODES[0]) -> TimingRequest:
        content = shortened(kind.recipe, batch_size(kind.recipe))
        share = min(1.0, content["data"]["train_images"] / kind.images)
        work = self.work / "timing"
        threads = self._threads(number)
        return TimingRequest(content, self.root, work, self.seconds, share, self.accelerator, threads, mode)


def _row(kind: Kind, answer: dict[str, Any]) -> dict[str, Any]:
    row: dict[str, Any] = {"name": kind.name, "batch_size": batch_size(kind.recipe)}
    if answer.get("steps"):
        row["ms"] = 1e3 * answer["seconds"] / answer["steps"]
        return row | {key: answer[key] for key in ("begin_seconds", "images", "bytes")}
    error = answer.get("error") or "no step in the time"
    return row | {"error": error, "slow": bool(answer.get("slow", "error" not in answer))}
