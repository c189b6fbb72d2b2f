"""Part 2: time the steps of every task as runs make them, eagerly, by hand, and with several runs at a time.

From these come the hours of the tables.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from lacuna.gpu.deadline import Clock
from lacuna.gpu.projection import projection
from lacuna.gpu.results import DONE, RUNNING, STOPPED
from lacuna.throughput.bench import Bench
from lacuna.throughput.pool import Pool
from lacuna.throughput.step_kinds import Kind

ALONE, COMPARED = 0.5, 0.25
"""Shares of the part's time for single runs as they are, and in other modes; the rest is for several at a time."""
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
        self.kinds, self.others, self.clock, self._write = list(kinds), others, clock, write
        self.pool, self.rows = pool, rows
        self.bench = Bench(
            pool,
            root=root,
            work=work,
            accelerator=accelerator,
            seconds=seconds,
            time_left=lambda: clock.part_left,
            log=lambda text: clock.log(f"steps: {text}"),
        )

    def run(self) -> bool:
        """Measure; whether nothing failed for a reason other than time."""
        self._write_results(RUNNING)
        total = self.clock.part_left
        with self.pool:
            for kind in self.kinds:
                if kind.key in self.rows:
                    continue
                row = self.bench.alone(kind) if self.clock.part_left >= (1 - ALONE) * total else None
                if row is None:
                    break
                self.rows[kind.key] = row
                self._write_results(RUNNING)
            for kind in self._most_costly():
                short = self.clock.part_left < (1 - ALONE - COMPARED) * total
                if "modes" in self.rows[kind.key]:
                    continue
                if short or not self.bench.compare(kind, self.rows[kind.key]):
                    break
                self._write_results(RUNNING)
            for kind in self._most_costly():
                if "side_by_side" in self.rows[kind.key]:
                    continue
                if not self.bench.together(kind, self.rows[kind.key]):
                    break
                self._write_results(RUNNING)
        complete = all(kind.key in self.rows for kind in self.kinds)
        self._write_results(DONE if complete else STOPPED)
        return not any(row.get("error") and not row["slow"] for row in self.rows.values())

    def _most_costly(self) -> list[Kind]:
        """The measured kinds, those with the most hours first."""
        measured = [kind for kind in self.kinds if "ms" in self.rows.get(kind.key, {})]
        return sorted(measured, key=lambda kind: -sum(kind.steps) * self.rows[kind.key]["ms"])

    def _write_results(self, state: str) -> None:
        content = projection(self.kinds, self.rows, self.others)
        self._write(state, content["line"], content)
