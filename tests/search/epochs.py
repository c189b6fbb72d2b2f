"""A sweep in which nothing is trained, and runs have epochs: a row of history each, as a real run writes it."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import ClassVar

from lacuna import files
from lacuna.executors.base import Job, Outcome
from lacuna.runs.recipe import Recipe
from tests.search.standin import Analytic, Killed, bowl

EPOCHS = 9
Curve = Callable[[Recipe, int], float]


def rising(recipe: Recipe, epochs: int) -> float:
    """The accuracy after 1 to :data:`EPOCHS` epochs; in the end the bowl. A high rate begins fast, so curves cross."""
    rate = 0.2 + 0.5 * (math.log10(recipe.config["net"]["training"]["lr"]) + 4) / 2
    return bowl(recipe) - 2 * (1 - rate) ** epochs + 2 * (1 - rate) ** EPOCHS


class Epochs(Analytic):
    """Trains an epoch of every running job at a time.

    Args:
        curve: of a run.
        slots: jobs at a time.
        kill_at: the epoch, of all runs together, at which everything dies.
        metric: what the history calls it.
    """

    cancels: ClassVar[bool] = True

    def __init__(
        self, curve: Curve = rising, slots: int = 1, *, kill_at: int = -1, metric: str = "validation/accuracy"
    ) -> None:
        super().__init__(slots=slots)
        self.curve, self.kill_at, self.metric = curve, kill_at, metric
        self.epochs: dict[str, int] = {}
        self.cancelled: list[str] = []
        self._ending: list[Outcome] = []

    def cancel(self, identity: str) -> None:
        (job,) = (job for job in self.running if job.identity == identity)
        self.running.remove(job)
        self.cancelled.append(identity)
        self._ending.append(Outcome.stopped(identity))

    def wait(self, timeout: float) -> list[Outcome]:
        ended, self._ending = self._ending, []
        for job in list(self.running):
            if sum(self.epochs.values()) == self.kill_at:
                raise Killed
            self._epoch(job)
            if self.epochs[job.identity] == EPOCHS:
                self.running.remove(job)
                self.trained.append(job.recipe)
                ended.append(Outcome(job.identity))
        return ended

    def _epoch(self, job: Job) -> None:
        done = self.epochs[job.identity] = self.epochs.get(job.identity, 0) + 1
        path, value = job.folder.path, self.curve(job.recipe, done)
        history = path / "metrics.jsonl"
        rows = history.read_text().splitlines(keepends=True)[: done - 1] if history.exists() else []
        rows.append(json.dumps({"epoch": done - 1, "step": done, self.metric: value}) + "\n")
        files.write_text(history, "".join(rows))
        if done == EPOCHS:
            files.write_json(path / "metrics.json", {"metrics": {"validation/accuracy": value}})
