"""Part 2: time the steps of every task, alone and with several runs at a time; from these the hours of the tables."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from lacuna.gpu.deadline import Clock
from lacuna.gpu.projection import projection
from lacuna.gpu.results import DONE, RUNNING, STOPPED
from lacuna.runs.machine import cores
from lacuna.throughput.pool import Pool
from lacuna.throughput.shortened import shortened
from lacuna.throughput.step_kinds import Kind, batch_size
from lacuna.throughput.stopwatch import TimingRequest

LEVELS = (2, 4, 8)
"""Numbers of runs at a time."""
ALONE = 0.65
"""Share of the part's time for single runs; the rest is for several runs at a time."""
FIRST_STEP_WITHIN = 30.0
"""Seconds that a task may take before its first step."""
GAIN = 1.05
"""The number of runs is doubled again while the last doubling gave at least so many times the steps per second."""

Write = Callable[[str, str, dict[str, Any]], None]


class StepCosts:
    """Times the steps of kinds of runs until the time of the part is over.

    Args:
        kinds: the most costly ones first.
        others: number of runs without steps.
        clock: with the time of the part.
        write: writes the result file.
        root: data folder with random images.
        work: folder for caches.
        accelerator: ``trainer.accelerator``.
        seconds: of each measurement.
        pool: processes for the measurements; they end after the last one.
        rows: earlier measurements; new ones are added.
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
        """Measure; whether nothing failed for a reason other than time."""
        self._write_results(RUNNING)
        total = self.clock.part_left
        with self.pool as pool:
            for kind in self.kinds:
                if kind.key in self.rows:
                    continue
                if self.clock.part_left < (1 - ALONE) * total or not self._alone(pool, kind):
                    break
                self._write_results(RUNNING)
            for kind in self._most_costly():
                if "side_by_side" in self.rows[kind.key]:
                    continue
                if not self._together(pool, kind):
                    break
                self._write_results(RUNNING)
        complete = all(kind.key in self.rows for kind in self.kinds)
        self._write_results(DONE if complete else STOPPED)
        return not any(row.get("error") and not row["slow"] for row in self.rows.values())

    def _alone(self, pool: Pool, kind: Kind) -> bool:
        """Measure one kind alone; whether there was time for it."""
        if not pool.grow(1, self._time_left()) or not self._time_left():
            return False
        self._row(kind, pool.measure(self._request(kind, 1), 1, min(FIRST_STEP_WITHIN, self._time_left()))[0])
        row = self.rows[kind.key]
        result = f"{row['ms']:,.1f} ms per step" if "ms" in row else f"not measured ({row['error']})"
        self.clock.log(f"steps: {kind.name}: {result}, {kind.runs} runs, {sum(kind.steps):,} steps")
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
        """Time one kind in 2, 4 and 8 processes, while that gives more steps per second; whether there is time left."""
        row = self.rows[kind.key]
        row["side_by_side"] = found = {}
        best = 1 / row["ms"]
        for number in LEVELS:
            # all of them import torch at the same time if there are enough cores
            pool.start(min(max(LEVELS), cores()))
            if not pool.grow(number, self._time_left()) or not self._time_left():
                return False
            answers = pool.measure(self._request(kind, number), number, min(FIRST_STEP_WITHIN, self._time_left()))
            wrong = [answer["error"] for answer in answers if not answer.get("steps")]
            if wrong or any("error" in answer for answer in answers):
                row["side_by_side_error"] = f"{number} at a time: {(wrong or ['no step in the time'])[0]}"
                break
            ms = statistics.fmean(1e3 * answer["seconds"] / answer["steps"] for answer in answers)
            found[number] = ms
            self.clock.log(f"steps: {kind.name}: {number} runs at a time: {ms:,.1f} ms per step of each")
            if number / ms < GAIN * best:
                break
            best = max(best, number / ms)
        return True

    def _time_left(self) -> float:
        """Seconds that may pass before a timing starts so that it ends in time; at least 0."""
        return max(0.0, self.clock.part_left - self.seconds)

    def _most_costly(self) -> list[Kind]:
        """The measured kinds, those with the most hours first."""
        measured = [kind for kind in self.kinds if "ms" in self.rows.get(kind.key, {})]
        return sorted(measured, key=lambda kind: -sum(kind.steps) * self.rows[kind.key]["ms"])

    def _request(self, kind: Kind, number: int) -> TimingRequest:
        content = shortened(kind.recipe, batch_size(kind.recipe))
        share = min(1.0, content["data"]["train_images"] / kind.images)
        threads = max(1, cores() // number)
        return TimingRequest(content, self.root, self.work / "timing", self.seconds, share, self.accelerator, threads)

    def _write_results(self, state: str) -> None:
        content = projection(self.kinds, self.rows, self.others)
        self._write(state, content["line"], content)
