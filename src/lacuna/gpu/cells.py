"""Part 3: cells of the tables, several runs side by side, stopped in good order when the time is over."""

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
from lacuna.gpu.priority import TIERS, Wanted, in_order, wanted_runs
from lacuna.gpu.projection import Rows, seconds_of
from lacuna.gpu.results import DONE, RUNNING, STOPPED
from lacuna.gpu.step_kinds import steps_of, values_of_a_step
from lacuna.runs.recipe import Recipe
from lacuna.tables.plan import ARCHIVED, UNNEEDED, Plan, find_states
from lacuna.tables.plan import DONE as FINISHED

THERE = (FINISHED, ARCHIVED, UNNEEDED)
"""States of runs that are not to be run."""
GRACE = 12.0
"""Seconds before the end of the part in which runs save their state."""
TOO_LONG = 4.0
"""A run that would take so many times the part's time alone is not begun: it would only slow down the others."""
CHECKPOINT = 20
"""Seconds between two checkpoints."""
UNKNOWN, A_VALUE = 0.01, 1e-7
"""Seconds a step where nothing was measured: at least so many, and so many for every value of its batch."""

Write = Callable[[str, str, dict[str, Any]], None]
Seconds = Callable[[Recipe], float]


class Making:
    """Makes cells until the time is over.

    Args:
        clock: the part's.
        write: keeps what is known.
        composer: of ``train``'s configurations.
        work: folder in which data and runs lie.
        budget: of every run.
        accelerator: ``trainer.accelerator``.
        sets: names of data sets, in this order.
        missing: those that are not there, and why.
        number: runs side by side; None: the executor's choice.
        seconds: expected of a run, without what it needs.
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
        # progress: lines of our own; checkpoints: as seldom as they may be lost
        more = {"accelerator": accelerator, "checkpoint_seconds": CHECKPOINT, "progress": False}
        self.plan: Plan = plan_of(list(tables), composer, budget, work / "data", work, more)
        self.wanted = wanted_runs(self.plan, tiers)
        self.too_long: list[str] = []
        self._news = False

    def run(self) -> bool:
        """Make them; whether no run failed."""
        grace = min(GRACE, 0.25 * self.clock.part_left)
        order = self._order()
        schedule = Schedule(self.executor, [self._tell])
        self._keep(RUNNING, schedule)
        try:
            with self.executor:
                resources = self.executor.resources(1)
                for recipe, run in order:
                    schedule.add(Job(recipe, self.plan.runs[recipe.identity].settings, resources), run.cells)
                box = TimeLimit(max(1.0, self.clock.part_left - grace) / 60)
                run_until_limit(schedule, box, lambda: self._keep_news(schedule), self.clock.say)
        finally:
            find_states(self.plan)
            unfinished = any(self.plan.runs[run.recipe.identity].state not in THERE for run in self.wanted)
            self._keep(STOPPED if unfinished or self.missing else DONE, schedule)
        return not any(task.state in (FAILED, BLOCKED) for task in schedule.tasks.values())

    def recipes(self) -> list[Recipe]:
        """Every run that is wanted or needed for one, done or not."""
        return [recipe for recipe, _ in in_order(self.wanted, self.seconds, lambda recipe: False)]

    def _order(self) -> list[tuple[Recipe, Wanted]]:
        """What is begun, in this order; what would take too long is left out."""
        most = TOO_LONG * self.clock.part_left
        chosen = []
        dropped: set[str] = set()
        for recipe, run in in_order(self.wanted, self.seconds, self._there):
            needs_dropped = any(needed.identity in dropped for needed in recipe.prerequisites.values())
            if needs_dropped or self.seconds(recipe) > most:
                dropped.add(recipe.identity)
                about = "" if needs_dropped else f": about {self.seconds(recipe) / 3600:.1f} h"
                self.too_long.append(f"{recipe.group}{about}")
            else:
                chosen.append((recipe, run))
        return chosen

    def _there(self, recipe: Recipe) -> bool:
        return self.plan.runs[recipe.identity].state in THERE

    def _tell(self, task: Task) -> None:
        if task.state == WAITING:
            return
        self._news = True
        error = (task.error or "").strip().splitlines()
        seconds = f" after {task.ended - task.started:.0f} s" if task.ended and task.started else ""
        self.clock.say(f"cells: {task.job.recipe.group}: {task.state}{seconds}{': ' + error[-1] if error else ''}")

    def _keep_news(self, schedule: Schedule) -> None:
        if self._news:
            self._news = False
            self._keep(RUNNING, schedule)

    def _keep(self, state: str, schedule: Schedule) -> None:
        rows = [self._row(run) for run in self.wanted]
        states = Counter(row["state"] for row in rows)
        states["done"] += states.pop("archived", 0)
        numbers = sum(row["numbers"] for row in rows if "metrics" in row)
        failed = {
            task.job.recipe.name: (task.error or task.state).strip().splitlines()[-1]
            for task in schedule.tasks.values()
            if task.state in (FAILED, BLOCKED)
        }
        line = f"{numbers} printed numbers have a result: {states['done']} of {len(rows)} runs done"
        line += f", {len(failed)} failed" if failed else ""
        line += "".join(f"; {name} {why}" for name, why in self.missing.items())
        runs = {task.job.recipe.name: self._timed(task) for task in schedule.tasks.values()}
        content = {"cells": rows, "runs": runs, "failed": failed, "not_begun": self.too_long}
        self._write(state, line, content | {"missing_data": self.missing, "side_by_side": self.executor.runs})

    def _row(self, run: Wanted) -> dict[str, Any]:
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


def expected(recipe: Recipe, rows: Rows) -> float:
    """Seconds of a run alone, without what it needs: from what was measured, or else from its number of steps."""
    found = seconds_of(recipe, rows)
    if found is not None:
        return found
    steps = steps_of(recipe)
    return steps * max(UNKNOWN, A_VALUE * values_of_a_step(recipe)) if steps else 0.0
