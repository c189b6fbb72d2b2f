"""The loop of a sweep: ask for a trial as soon as a worker is free, train it, tell the result."""

from __future__ import annotations

import math
from dataclasses import dataclass

from lacuna.errors import LacunaError
from lacuna.executors.base import Job, Resources
from lacuna.executors.schedule import BLOCKED, FAILED, INTERRUPTED, Schedule, Task
from lacuna.runs.folder import RunFolder
from lacuna.runs.recipe import Recipe
from lacuna.search.problem import Problem
from lacuna.search.pruner import Pruner
from lacuna.search.study import RUNNING, Study, Trial
from lacuna.search.view import SweepView

TICK = 1.0
"""Seconds between two checks of the running trials."""

MOST_FAILURES = 5
"""Number of trials in a row that may fail before the sweep stops."""


@dataclass(frozen=True)
class RunningTrial:
    """A trial and its runs."""

    trial: Trial
    recipes: tuple[Recipe, ...]


class Loop:
    """Does the missing trials of a sweep.

    Args:
        problem: the search.
        study: its trials.
        schedule: does the runs; its executor is open.
        resources: of a run.
        wanted: number of finished and pruned trials in the end.
        view: shows what happens.
        pruner: says which trials to stop; None: none.
    """

    def __init__(
        self,
        problem: Problem,
        study: Study,
        schedule: Schedule,
        resources: Resources,
        wanted: int,
        view: SweepView,
        pruner: Pruner | None = None,
    ) -> None:
        self.problem, self.study, self.schedule = problem, study, schedule
        self.resources, self.wanted, self.view, self.pruner = resources, wanted, view, pruner
        self.stopped: str | None = None
        """Why the sweep stopped although trials are missing; None if it did not."""
        self._running: list[RunningTrial] = []
        self._failures = 0
        self._cancelled: set[str] = set()
        """Identities of the runs of pruned trials."""

    def run(self) -> None:
        """Resume trials that a killed process left behind, then ask for the missing ones.

        Raises:
            LacunaError: finished runs do not have the metric.
        """
        for trial in self.study.of_state(RUNNING):
            self._start(trial)
        while True:
            while self._may_ask():
                self._start(self.study.ask())
            if not self._running and not self._saving():
                return
            self.schedule.advance(TICK)
            for running in list(self._running):
                self._check(running)
            self.view.tick(len(self._running))

    def _saving(self) -> bool:
        """Whether runs of pruned trials still save their states."""
        return any(not self.schedule.tasks[identity].final for identity in self._cancelled)

    def _may_ask(self) -> bool:
        if self.stopped or self.study.ended + len(self._running) >= self.wanted:
            return False
        unended = sum(not task.final for task in self.schedule.tasks.values())
        return unended < self.schedule.executor.slots

    def _start(self, trial: Trial) -> None:
        try:
            recipes = self.problem.recipes(trial.raw)
        except LacunaError as error:
            self._fail(trial, str(error))
            return
        running = RunningTrial(trial, recipes)
        self._running.append(running)
        for recipe in recipes:
            self._add(recipe, f"trial {trial.number}")
        self._check(running)  # all its runs may be finished already

    def _add(self, recipe: Recipe, trial: str) -> None:
        """Add a run to the schedule, after its prerequisites, unless it is finished."""
        if self._finished(recipe):
            return
        for needed in recipe.prerequisites.values():
            if needed.identity not in self.schedule.tasks and not self._finished(needed):
                self.view.prerequisite(needed)
            self._add(needed, trial)
        self.schedule.add(Job(recipe, self.problem.settings, self.resources), [trial])

    def _finished(self, recipe: Recipe) -> bool:
        return RunFolder.of(self.problem.settings.output, recipe).finished

    def _check(self, running: RunningTrial) -> None:
        """Conclude a trial if its runs have ended, or if others did better."""
        tasks = [task for r in running.recipes if (task := self.schedule.tasks.get(r.identity)) is not None]
        ended = {state: [task for task in tasks if task.state == state] for state in (BLOCKED, INTERRUPTED, FAILED)}
        if any(task.job.identity in self._cancelled for task in ended[INTERRUPTED]):  # equal to a pruned one
            self._prune(running)
        elif ended[BLOCKED] or ended[INTERRUPTED]:  # not because of its values: the next command resumes it
            self._running.remove(running)
            self.stopped = self.stopped or self._obstacle((ended[BLOCKED] or ended[INTERRUPTED])[0])
        elif ended[FAILED]:
            self._running.remove(running)
            self._fail(running.trial, _reason(ended[FAILED][0]))
        elif all(task.final for task in tasks):
            self._running.remove(running)
            self._finish(running, trained=bool(tasks))
        elif self.pruner is not None and self.pruner.stops(running.trial, running.recipes[0]):
            self._prune(running)

    def _prune(self, running: RunningTrial) -> None:
        """Stop a trial; its runs keep their states, so that whoever wants them can resume them."""
        self._running.remove(running)
        for recipe in running.recipes:
            task = self.schedule.tasks.get(recipe.identity)
            if task is not None and not task.final:
                self._cancelled.add(recipe.identity)
                self.schedule.cancel(recipe.identity)
        self._failures = 0
        self.view.pruned(self.study.prune(running.trial))

    def _finish(self, running: RunningTrial, *, trained: bool) -> None:
        values = self.problem.result(running.recipes)
        mean = math.fsum(values) / len(values) if all(map(math.isfinite, values)) else math.nan
        if math.isnan(mean):
            self._fail(running.trial, f"{self.problem.metric} is {', '.join(map(str, values))}.")
            return
        self._failures = 0
        if self.pruner is not None:
            self.pruner.record(running.trial, running.recipes[0])
        self.study.tell(running.trial, mean)
        best = self.study.best
        is_best = best is not None and best.number == running.trial.number
        self.view.finished(running.trial, mean, best=is_best, trained=trained)

    def _fail(self, trial: Trial, reason: str) -> None:
        self.study.fail(trial, reason)
        self.view.failed(trial, reason)
        self._failures += 1
        if self._failures >= MOST_FAILURES:
            self.stopped = self.stopped or f"{self._failures} trials in a row failed"

    def _obstacle(self, task: Task) -> str:
        """Why a run could not be done: a prerequisite failed, or it was interrupted."""
        prerequisites = (self.schedule.tasks.get(needed.identity) for needed in task.job.recipe.prerequisites.values())
        culprit = next((first for first in prerequisites if first is not None and first.state == FAILED), task)
        return f"{culprit.job.title}: {_reason(culprit)}"


def _reason(task: Task) -> str:
    return (task.error or task.state).strip()
