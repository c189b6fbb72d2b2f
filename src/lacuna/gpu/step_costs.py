"""Part 2: what a step of every task costs, alone and side by side, and from that the hours of the tables."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from lacuna.gpu.deadline import Clock
from lacuna.gpu.pool import Pool
from lacuna.gpu.projection import projection
from lacuna.gpu.random_images import shortened
from lacuna.gpu.results import DONE, RUNNING, STOPPED
from lacuna.gpu.step_kinds import Kind, batch_size
from lacuna.gpu.stopwatch import Order
from lacuna.runs.machine import cores

LEVELS = (2, 4, 8)
ALONE = 0.65
"""Share of the part's time for steps alone; the rest is for steps side by side."""
TO_BEGIN = 30.0
"""Seconds that a task may take before its first step."""
GAIN = 1.05
"""More processes are tried while each doubling gives so many times the steps."""

Write = Callable[[str, str, dict[str, Any]], None]


class Stepping:
    """Measures kinds of runs until the time is over.

    Args:
        kinds: what may cost most first.
        others: how many runs take no steps.
        clock: the part's.
        write: keeps what is known.
        root: data folder with random images.
        work: folder for caches.
        accelerator: ``trainer.accelerator``.
        seconds: of each measurement.
        pool: processes to measure in; ended when everything is measured.
        rows: what was measured before; what is measured now is added.
    """

    def __init__(
        self,
        kinds: Sequence[Kind],
        others: int,
        clock: Clock,
        write: Write,
        *,
        root: Path,
        work: Path,
        accelerator: str,
        seconds: float,
        pool: Pool,
        rows: dict[str, dict[str, Any]],
    ) -> None:
        self.pool = pool
        self.kinds, self.others, self.clock, self._write = list(kinds), others, clock, write
        self.root, self.work, self.accelerator, self.seconds = root, work, accelerator, seconds
        self.rows = rows

    def run(self) -> bool:
        """Measure; whether nothing failed for another reason than time."""
        self._keep(RUNNING)
        begun = self.clock.part_left
        with self.pool as pool:
            for kind in self.kinds:
                if kind.key in self.rows:
                    continue
                if self.clock.part_left < (1 - ALONE) * begun or not self._alone(pool, kind):
                    break
                self._keep(RUNNING)
            for kind in self._dearest():
                if "side_by_side" in self.rows[kind.key]:
                    continue
                if not self._together(pool, kind):
                    break
                self._keep(RUNNING)
        complete = all(kind.key in self.rows for kind in self.kinds)
        self._keep(DONE if complete else STOPPED)
        return not any(row.get("error") and not row["slow"] for row in self.rows.values())

    def _alone(self, pool: Pool, kind: Kind) -> bool:
        """Measure one kind alone; whether there was time for it."""
        if not pool.grow(1, self._most()) or not self._most():
            return False
        self._row(kind, pool.measure(self._order(kind, 1), 1, min(TO_BEGIN, self._most()))[0])
        row = self.rows[kind.key]
        told = f"{row['ms']:,.1f} ms a step" if "ms" in row else f"not measured ({row['error']})"
        self.clock.say(f"steps: {kind.name}: {told}, {kind.runs} runs, {sum(kind.steps):,} steps")
        return True

    def _row(self, kind: Kind, found: dict[str, Any]) -> None:
        row: dict[str, Any] = {"name": kind.name, "batch_size": batch_size(kind.recipe)}
        if found.get("steps"):
            row["ms"] = 1e3 * found["seconds"] / found["steps"]
            row |= {key: found[key] for key in ("begin_seconds", "images", "bytes")}
        else:
            row["error"] = found.get("error") or "no step in the time"
            row["slow"] = bool(found.get("slow", "error" not in found))
        self.rows[kind.key] = row

    def _together(self, pool: Pool, kind: Kind) -> bool:
        """Measure one kind in 2, 4 and 8 processes, while that gives more steps; whether there is time left."""
        row = self.rows[kind.key]
        row["side_by_side"] = found = {}
        best = 1 / row["ms"]
        for number in LEVELS:
            # torch is imported in all of them at once where there are cores for it
            pool.start(min(max(LEVELS), cores()))
            if not pool.grow(number, self._most()) or not self._most():
                return False
            answers = pool.measure(self._order(kind, number), number, min(TO_BEGIN, self._most()))
            wrong = [answer["error"] for answer in answers if not answer.get("steps")]
            if wrong or any("error" in answer for answer in answers):
                row["side_by_side_error"] = f"{number} side by side: {(wrong or ['no step in the time'])[0]}"
                break
            ms = statistics.fmean(1e3 * answer["seconds"] / answer["steps"] for answer in answers)
            found[number] = ms
            self.clock.say(f"steps: {kind.name}: {number} side by side: {ms:,.1f} ms a step each")
            if number / ms < GAIN * best:
                break
            best = max(best, number / ms)
        return True

    def _most(self) -> float:
        """Seconds that may go by before steps are timed, so that these end in time; 0 where there are none."""
        return max(0.0, self.clock.part_left - self.seconds)

    def _dearest(self) -> list[Kind]:
        """Kinds that have been measured, those with the most hours first."""
        measured = [kind for kind in self.kinds if "ms" in self.rows.get(kind.key, {})]
        return sorted(measured, key=lambda kind: -sum(kind.steps) * self.rows[kind.key]["ms"])

    def _order(self, kind: Kind, number: int) -> Order:
        content = shortened(kind.recipe, batch_size(kind.recipe))
        share = min(1.0, content["data"]["train_images"] / kind.images)
        threads = max(1, cores() // number)
        return Order(content, self.root, self.work / "timing", self.seconds, share, self.accelerator, threads)

    def _keep(self, state: str) -> None:
        content = projection(self.kinds, self.rows, self.others)
        self._write(state, content["line"], content)
