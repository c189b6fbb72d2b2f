"""The loop of a sweep: ask as soon as there is a place, train, tell; nothing waits for the slowest of a batch."""

from __future__ import annotations

import math
from dataclasses import dataclass

from lacuna.errors import LacunaError
from lacuna.executors.base import Job, Resources
from lacuna.executors.schedule import BLOCKED, FAILED, INTERRUPTED, Schedule, Task
from lacuna.runs.folder import RunFolder
from lacuna.runs.recipe import Recipe
from lacuna.search.problem import Problem
from lacuna.search.study import FINISHED, RUNNING, Study, Trial
from lacuna.search.view import SweepView

TICK = 1.0
"""Seconds between two looks at what runs."""

MOST_FAILURES = 5
"""So many trials in a row may fail before no more are asked for."""


@dataclass(frozen=True)
class Begun:
    """A trial whose runs are under way."""

    trial: Trial
    recipes: tuple[Recipe, ...]


class Loop:
    """Does the trials of a sweep that are missing.

    Args:
        problem: what is searched.
        study: its trials.
        schedule: where runs go; its executor is open.
        resources: of a run.
        wanted: finished trials in the end.
        view: told of what happens.
    """

    def __init__(
        self, problem: Problem, study: Study, schedule: Schedule, resources: Resources, wanted: int, view: SweepView
    ) -> None:
        self.problem, self.study, self.schedule = problem, study, schedule
        self.resources, self.wanted, self.view = resources, wanted, view
        self.stopped: str | None = None
        """Why no more trials are asked for although some are missing."""
        self._begun: list[Begun] = []
        self._failures = 0

    def run(self) -> None:
        """Take up what a process that died left behind, then ask for what is missing.

        Raises:
            LacunaError: finished runs have no such metric.
        """
        for trial in self.study.of_state(RUNNING):
            self._begin(trial)
        while True:
            while self._may_ask():
                self._begin(self.study.ask())
            if not self._begun:
                return
            self.schedule.advance(TICK)
            for begun in list(self._begun):
                self._look(begun)
            self.view.tick(len(self._begun))

    def _may_ask(self) -> bool:
        if self.stopped or len(self.study.of_state(FINISHED)) + len(self._begun) >= self.wanted:
            return False
        unended = sum(not task.final for task in self.schedule.tasks.values())
        return unended < self.schedule.executor.slots

    def _begin(self, trial: Trial) -> None:
        try:
            recipes = self.problem.recipes(trial.raw)
        except LacunaError as error:
            self._fail(trial, str(error))
            return
        begun = Begun(trial, recipes)
        self._begun.append(begun)
        for recipe in recipes:
            self._add(recipe, f"trial {trial.number}")
        self._look(begun)  # every run of it may be finished already

    def _add(self, recipe: Recipe, what_for: str) -> None:
        """Hand over a run that is not finished, after those it needs."""
        if self._finished(recipe):
            return
        for needed in recipe.prerequisites.values():
            if needed.identity not in self.schedule.tasks and not self._finished(needed):
                self.view.first(needed)
            self._add(needed, what_for)
        self.schedule.add(Job(recipe, self.problem.settings, self.resources), [what_for])

    def _finished(self, recipe: Recipe) -> bool:
        return RunFolder.of(self.problem.settings.output, recipe).finished

    def _look(self, begun: Begun) -> None:
        """Conclude a trial if its runs have ended."""
        tasks = [task for r in begun.recipes if (task := self.schedule.tasks.get(r.identity)) is not None]
        ended = {state: [task for task in tasks if task.state == state] for state in (BLOCKED, INTERRUPTED, FAILED)}
        if ended[BLOCKED] or ended[INTERRUPTED]:  # not its values' fault: the next command takes it up
            self._begun.remove(begun)
            self.stopped = self.stopped or self._obstacle((ended[BLOCKED] or ended[INTERRUPTED])[0])
        elif ended[FAILED]:
            self._begun.remove(begun)
            self._fail(begun.trial, _reason(ended[FAILED][0]))
        elif all(task.final for task in tasks):
            self._begun.remove(begun)
            self._tell(begun, trained=bool(tasks))

    def _tell(self, begun: Begun, *, trained: bool) -> None:
        values = self.problem.result(begun.recipes)
        mean = math.fsum(values) / len(values) if all(map(math.isfinite, values)) else math.nan
        if math.isnan(mean):
            self._fail(begun.trial, f"{self.problem.metric} is {', '.join(map(str, values))}.")
            return
        self._failures = 0
        self.study.tell(begun.trial, mean)
        best = self.study.best
        is_best = best is not None and best.number == begun.trial.number
        self.view.finished(begun.trial, mean, best=is_best, trained=trained)

    def _fail(self, trial: Trial, reason: str) -> None:
        self.study.fail(trial, reason)
        self.view.failed(trial, reason)
        self._failures += 1
        if self._failures >= MOST_FAILURES:
            self.stopped = self.stopped or f"{self._failures} trials in a row failed"

    def _obstacle(self, task: Task) -> str:
        """Why a run could not be done: what it needs failed, or it was interrupted."""
        needs = (self.schedule.tasks.get(needed.identity) for needed in task.job.recipe.prerequisites.values())
        culprit = next((need for need in needs if need is not None and need.state == FAILED), task)
        return f"{culprit.job.title}: {_reason(culprit)}"


def _reason(task: Task) -> str:
    return (task.error or task.state).strip()
