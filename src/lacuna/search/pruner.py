"""Pruning: a trial that does worse than others did after as many epochs is stopped, and its place goes to another.

The curve of a trial is the metric after every epoch of its first run, as the run itself writes it down; training knows
nothing of it. It is recorded in the study as Optuna's intermediate values, and Optuna's own rules judge it.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lacuna.errors import LacunaError
from lacuna.executors.base import Executor
from lacuna.runs.folder import RunFolder
from lacuna.runs.history import HISTORY, curves
from lacuna.runs.recipe import Recipe
from lacuna.search.problem import Problem
from lacuna.search.study import Study, Trial

MEDIAN, HYPERBAND = "median", "hyperband"
REDUCTION = 3
"""Hyperband's: a third of the trials goes on at each of its rungs."""


@dataclass(frozen=True)
class Rule:
    """The keys ``pruner...`` of a search.

    Args:
        name: median: worse than the median of the finished trials after as many epochs (Golovin et al., KDD 2017);
            hyperband: not among the best third after 1, 3, 9, ... epochs (Li et al., JMLR 2018).
        trials: median: so many trials finish before one is stopped.
        epochs: no trial is stopped after fewer.
    """

    name: str
    trials: int = 5
    epochs: int = 1

    @classmethod
    def of(cls, search: Mapping[str, Any]) -> Rule | None:
        """From a search's config; None: no trial is stopped.

        Raises:
            LacunaError: an unknown rule, or a number out of its range.
        """
        name, prefix = search.get("pruner"), f"search={search['name']}"
        if name is None:
            return None
        if name not in (MEDIAN, HYPERBAND):
            raise LacunaError(f"{prefix}: search.pruner={name} must be {MEDIAN}, {HYPERBAND} or null.")
        numbers = {key: search.get(f"pruner_{key}", getattr(cls, key)) for key in ("trials", "epochs")}
        for key, number in numbers.items():
            if type(number) is not int or number < 1:
                raise LacunaError(f"{prefix}: search.pruner_{key}={number} must be a whole number of at least 1.")
        return cls(name, **numbers)

    def check(self, executor: Executor) -> None:
        """Check that an executor can stop a single run.

        Raises:
            LacunaError: it cannot.
        """
        if not executor.cancels:
            kind = type(executor).__name__
            raise LacunaError(
                f"search.pruner={self.name} stops single runs, which the executor {kind} cannot: choose another "
                "executor, or search.pruner=null."
            )

    def in_optuna(self, epochs: int) -> Any:
        """Optuna's pruner for runs of so many epochs."""
        pruners = importlib.import_module("optuna.pruners")
        if self.name == MEDIAN:
            return pruners.MedianPruner(n_startup_trials=self.trials, n_warmup_steps=self.epochs)
        longest = max(self.epochs, epochs)
        return pruners.HyperbandPruner(self.epochs, max_resource=longest, reduction_factor=REDUCTION)


class Pruner:
    """Follows the curves of the trials, and says which ones to stop.

    Args:
        rule: of the search.
        problem: the search.
        study: its trials.
    """

    def __init__(self, rule: Rule, problem: Problem, study: Study) -> None:
        self.rule, self.problem, self.study = rule, problem, study
        self._optuna: Any = None
        self._seen: dict[Path, int] = {}

    def stops(self, trial: Trial, recipe: Recipe) -> bool:
        """Record the new epochs of a trial's first run, up to the one after which the trial should be stopped."""
        if self._optuna is None:
            self._optuna = self.rule.in_optuna(int(recipe.training.get("epochs") or 1))
        new = self._new(trial, recipe)
        return any(self.study.report(trial, epochs, value, self._optuna) for epochs, value in new)

    def record(self, trial: Trial, recipe: Recipe) -> None:
        """Record the whole curve of a trial that has finished.

        Raises:
            LacunaError: its run does not have the metric after its epochs.
        """
        self._seen.clear()
        for epochs, value in self._new(trial, recipe):
            self.study.report(trial, epochs, value)
        if not self.study.reported(trial):
            run = RunFolder.of(self.problem.settings.output, recipe).path.name
            raise LacunaError(
                f"search.pruner={self.rule.name} needs {self.problem.metric} after every epoch, and {run} has it "
                "at its end only: set search.pruner=null."
            )

    def _new(self, trial: Trial, recipe: Recipe) -> list[tuple[int, float]]:
        """The epochs that the study does not know: how many were trained, and the metric then."""
        folder = RunFolder.of(self.problem.settings.output, recipe).path
        try:
            size = (folder / HISTORY).stat().st_size
        except OSError:
            return []
        if self._seen.get(folder) == size:
            return []
        known = self.study.reported(trial)
        curve = sorted(curves(folder).get(self.problem.metric, {}).items())
        new = [(epoch + 1, value) for epoch, value in curve if epoch + 1 > known and math.isfinite(value)]
        self._seen[folder] = size
        return new
