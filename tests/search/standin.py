"""A sweep in which nothing is trained: the executor writes down a number that is a function of the recipe."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from lacuna import files
from lacuna.config.compose import compose, split_overrides
from lacuna.config.composer import Composer
from lacuna.config.paths import CONFIGS
from lacuna.errors import LacunaError
from lacuna.executors.base import Executor, Job, Outcome, Resources
from lacuna.runs.recipe import Recipe
from lacuna.search.problem import Problem
from lacuna.search.study import Study, Trial
from lacuna.search.sweep import run_trials

COMPOSER = Composer(CONFIGS, "sweep")
Objective = Callable[[Recipe], float]


def problem(root: Path, output: Path, *words: str) -> Problem:
    """What ``sweep.py search=classifier`` would search on the digits, smoke budget."""
    own = [f"data.root={root}", f"output={output}", "data.download=false", "budget=smoke"]
    every = [*([] if any(w.startswith("search=") for w in words) else ["search=classifier"]), *own, *words]
    choices, values = split_overrides(CONFIGS, every)
    if any("={" in word for word in every):  # a mapping is merged, which only Hydra knows how to do
        return Problem.of(compose(CONFIGS, "sweep", every), values)
    return Problem.of(COMPOSER.with_values(COMPOSER.base(choices), values), values)


def bowl(recipe: Recipe) -> float:
    """Best at lr = 1e-3 and dropout = 0.2, where it is 1; the seed adds a little."""
    net = recipe.config["net"]
    miss = math.log10(net["training"]["lr"] / 1e-3) ** 2 + (net["dropout"] - 0.2) ** 2
    return 1 - miss + 0.001 * recipe.config["seed"]


class Killed(BaseException):
    """Stands for SIGKILL: nothing in lacuna handles it."""


class Analytic(Executor):
    """Ends its jobs in the order of submission, or last in, first out.

    Args:
        objective: of a run; a :class:`LacunaError` is a failed run.
        kill_before, kill_after: number of the run at which everything dies, before or after its results are stored.
        needs_fail: whether runs that others need fail.
    """

    def __init__(
        self,
        objective: Objective = bowl,
        slots: int = 1,
        *,
        kill_before: int = -1,
        kill_after: int = -1,
        interrupt: int = -1,
        needs_fail: bool = False,
        newest_first: bool = False,
    ) -> None:
        self.objective, self.places = objective, slots
        self.kill_before, self.kill_after, self.interrupt = kill_before, kill_after, interrupt
        self.needs_fail, self.newest_first = needs_fail, newest_first
        self.running: list[Job] = []
        self.trained: list[Recipe] = []
        self.most = 0
        self.closed = False

    def resources(self, devices: int) -> Resources:
        return Resources()

    def check(self, wanted: Iterable[Resources]) -> None:
        pass

    @property
    def slots(self) -> int:
        return self.places

    def submit(self, job: Job) -> None:
        assert not job.folder.finished, "a finished run was handed over"
        assert all(need.identity in self.done for need in job.recipe.prerequisites.values()), (
            "something that it needs is missing"
        )
        assert job.settings.trainer["progress"] is False
        self.running.append(job)
        self.most = max(self.most, len(self.running))
        assert len(self.running) <= self.places

    @property
    def done(self) -> set[str]:
        return {recipe.identity for recipe in self.trained}

    def stop(self) -> None:
        pass

    def wait(self, timeout: float) -> list[Outcome]:
        job = self.running.pop(-1 if self.newest_first else 0)
        number = len(self.trained)
        if number == self.kill_before:
            raise Killed
        if number == self.interrupt:
            self.interrupt = -1
            return [Outcome(job.identity, "interrupted", interrupted=True)]
        try:
            self._train(job)
        except LacunaError as error:
            return [Outcome(job.identity, str(error))]
        if number == self.kill_after:
            raise Killed
        return [Outcome(job.identity)]

    def _train(self, job: Job) -> None:
        self.trained.append(job.recipe)
        if job.recipe.task == "density":
            if self.needs_fail:
                raise LacunaError("the density broke.")
            metrics: dict[str, Any] = {"test/nll_per_dim": 1.0}
        else:
            metrics = {"validation/accuracy": self.objective(job.recipe), "test/accuracy": 0.5}
        finite = {name: value for name, value in metrics.items() if math.isfinite(value)}
        rest = {name: str(value) for name, value in metrics.items() if name not in finite}
        files.write_text(job.folder.path / "metrics.jsonl", json.dumps(rest) + "\n")
        files.write_json(job.folder.path / "metrics.json", {"metrics": finite})

    def close(self) -> None:
        self.closed = True


def sweep(problem: Problem, executor: Executor, wanted: int) -> tuple[list[Trial], str | None]:
    """Do a sweep; its trials and why some are missing."""
    with Study.opened(problem) as study:
        stopped = run_trials(problem, study, executor, wanted)
        return study.trials, stopped


def trials(problem: Problem) -> list[Trial]:
    """What is on disk."""
    with Study.opened(problem) as study:
        return study.trials
