"""Part 3: do runs of the tables' cells, several at a time. At the end of its time they save their state and stop."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from lacuna.config.composer import Composer
from lacuna.executors.base import Job
from lacuna.executors.processes import Processes
from lacuna.executors.schedule import BLOCKED, FAILED, WAITING, Schedule, Task
from lacuna.executors.time_limit import TimeLimit, run_until_limit
from lacuna.gpu.deadline import Clock
from lacuna.gpu.planning import plan_of
from lacuna.gpu.priority import TIERS, WantedRun, cheapest_first, wanted_runs
from lacuna.gpu.results import DONE, RUNNING, STOPPED
from lacuna.runs.recipe import Recipe
from lacuna.runs.title import group_title
from lacuna.tables.plan import ARCHIVED, UNNEEDED, Plan, find_states
from lacuna.tables.plan import DONE as FINISHED
from lacuna.throughput.rows import Rows, seconds_of
from lacuna.throughput.step_kinds import steps_of, values_of_a_step

NOT_TO_DO = (FINISHED, ARCHIVED, UNNEEDED)
"""States of runs that need not be done."""
GRACE = 12.0
"""Seconds at the end of the part in which runs save their state."""
TOO_LONG = 4.0
"""A run that takes more than so many times the part's time is not started: it would only slow down the others."""
CHECKPOINT = 20
"""Seconds between two checkpoints."""
LEAST_STEP, PER_VALUE = 0.01, 1e-7
"""Estimated seconds of a step that was not measured: the least, and per pixel value of its batch."""

Write = Callable[[str, str, dict[str, Any]], None]
Seconds = Callable[[Recipe], float]


class CellRuns:
    """Does the runs of cells until the time of the part is over.

    Args:
        clock: with the time of the part.
        write: writes the result file.
        composer: of ``train``'s configurations.
        work: folder of data and runs.
        budget: of every run.
        accelerator: ``trainer.accelerator``.
        sets: names of data sets, in this order.
        missing: data sets that could not be prepared, and why.
        number: runs at a time; None: the executor's default.
        seconds: estimated seconds of a run, without its prerequisites.
    """

    def __init__(
        self,
        clock: Clock,
        write: Write,
        composer: Composer,
        *,
        work: Path,
        budget: str,
        accelerator: str,
        sets: Sequence[str],
        missing: Mapping[str, str],
        number: int | None,
        seconds: Seconds,
    ) -> None:
        self.clock, self._write, self.seconds, self.missing = clock, write, seconds, dict(missing)
        self.executor = Processes(runs=number, gpus=0 if accelerator == "cpu" else None)
        tiers = [tier for name in sets for tier in TIERS if tier.data == name and tier.rows is None]
        tiers += [tier for tier in TIERS if tier.data in sets and tier.rows is not None]
        tables = dict.fromkeys(table for tier in tiers for table in tier.tables)
        # no progress bars; checkpoints as rarely as their loss is acceptable
        more = {"accelerator": accelerator, "checkpoint_seconds": CHECKPOINT, "progress": False}
        self.plan: Plan = plan_of(list(tables), composer, budget, work / "data", work, more)
        self.wanted = wanted_runs(self.plan, tiers)
        self.too_long: list[str] = []
        self._changed = False

    def run(self) -> bool:
        """Do the runs; whether none failed."""
        grace = min(GRACE, 0.25 * self.clock.part_left)
        order = self._order()
        schedule = Schedule(self.executor, [self._log_task])
        self._write_results(RUNNING, schedule)
        try:
            with self.executor:
                resources = self.executor.resources(1)
                for recipe, run in order:
                    schedule.add(Job(recipe, self.plan.runs[recipe.identity].settings, resources), run.cells)
                limit = TimeLimit(max(1.0, self.clock.part_left - grace) / 60)
                run_until_limit(schedule, limit, lambda: self._write_if_changed(schedule), self.clock.log)
        finally:
            find_states(self.plan)
            unfinished = any(self.plan.runs[run.recipe.identity].state not in NOT_TO_DO for run in self.wanted)
            self._write_results(STOPPED if unfinished or self.missing else DONE, schedule)
        return not any(task.state in (FAILED, BLOCKED) for task in schedule.tasks.values())

    def recipes(self) -> list[Recipe]:
        """Every wanted run and its prerequisites, done or not."""
        return [recipe for recipe, _ in cheapest_first(self.wanted, self.seconds, lambda recipe: False)]

    def _order(self) -> list[tuple[Recipe, WantedRun]]:
        """The runs to start, in this order, without those that would take too long."""
        most = TOO_LONG * self.clock.part_left
        chosen = []
        dropped: set[str] = set()
        for recipe, run in cheapest_first(self.wanted, self.seconds, self._not_to_do):
            prerequisite_dropped = any(needed.identity in dropped for needed in recipe.prerequisites.values())
            if prerequisite_dropped or self.seconds(recipe) > most:
                dropped.add(recipe.identity)
                about = "" if prerequisite_dropped else f": ~{self.seconds(recipe) / 3600:.1f} h"
                self.too_long.append(f"{group_title(recipe)}{about}")
            else:
                chosen.append((recipe, run))
        return chosen

    def _not_to_do(self, recipe: Recipe) -> bool:
        return self.plan.runs[recipe.identity].state in NOT_TO_DO

    def _log_task(self, task: Task) -> None:
        if task.state == WAITING:
            return
        self._changed = True
        error = (task.error or "").strip().splitlines()
        seconds = f" after {task.ended - task.started:.0f} s" if task.ended and task.started else ""
        self.clock.log(f"cells: {task.job.title}: {task.state}{seconds}{': ' + error[-1] if error else ''}")

    def _write_if_changed(self, schedule: Schedule) -> None:
        if self._changed:
            self._changed = False
            self._write_results(RUNNING, schedule)

    def _write_results(self, state: str, schedule: Schedule) -> None:
        rows = [self._row(run) for run in self.wanted]
        states = Counter(row["state"] for row in rows)
        states["done"] += states.pop("archived", 0)
        numbers = sum(row["numbers"] for row in rows if "metrics" in row)
        failed = {
            task.job.recipe.name: (task.error or task.state).strip().splitlines()[-1]
            for task in schedule.tasks.values()
            if task.state in (FAILED, BLOCKED)
        }
        line = f"{numbers} published numbers have a result: {states['done']} of {len(rows)} runs done"
        line += f", {len(failed)} failed" if failed else ""
        line += "".join(f"; {name} {why}" for name, why in self.missing.items())
        runs = {task.job.recipe.name: self._timed(task) for task in schedule.tasks.values()}
        content = {"cells": rows, "runs": runs, "failed": failed, "not_begun": self.too_long}
        self._write(state, line, content | {"missing_data": self.missing, "side_by_side": self.executor.runs})

    def _row(self, run: WantedRun) -> dict[str, Any]:
        planned = self.plan.runs[run.recipe.identity]
        row: dict[str, Any] = {"run": run.recipe.name, "cells": run.cells, "numbers": run.numbers}
        if planned.folder.finished:
            metrics = planned.folder.metrics["metrics"]
        elif planned.archived is not None:
            metrics = planned.archived.metrics
        else:
            return row | {"state": str(planned.folder.status.get("state", "to do"))}
        shown = {name: value for name, value in metrics.items() if name.startswith(("test/", "complete/"))}
        return row | {"state": "done" if planned.folder.finished else "archived", "metrics": shown}

    def _timed(self, task: Task) -> dict[str, Any]:
        took = task.ended - task.started if task.ended and task.started else None
        return {"state": task.state, "seconds": took, "expected_seconds_alone": self.seconds(task.job.recipe)}


def estimated_seconds(recipe: Recipe, rows: Rows) -> float:
    """Seconds of a run alone, without its prerequisites: from measured steps, otherwise from the number of steps."""
    measured = seconds_of(recipe, rows)
    if measured is not None:
        return measured
    steps = steps_of(recipe)
    return steps * max(LEAST_STEP, PER_VALUE * values_of_a_step(recipe)) if steps else 0.0
