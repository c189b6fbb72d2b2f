"""How long a run will take, from how long runs like it took."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

from lacuna.runs.environment import hardware
from lacuna.runs.finished import StoredRun
from lacuna.runs.recipe import Recipe
from lacuna.runs.results import finished_runs, ignored

Key = str
ARGUMENTS_OF_SPEED = ("batch_size",)


class Estimates:
    """Seconds that a run will take, or None where nothing like it was done yet.

    Runs are alike that have the same task, data (and how many), method, network and budget; those with the same batch
    size, and those on hardware like this machine's, are preferred. Only runs count whose time is known, on one kind of
    hardware. Directories and archive are read once, when the first estimate is asked for.

    Args:
        output: the folder in which ``runs/`` lies.
        accelerator: ``trainer.accelerator``, to know what hardware a run would have.
        archive: the folder of archived runs; None: there is none.
    """

    def __init__(self, output: Path | str, accelerator: str = "auto", archive: Path | str | None = None) -> None:
        self.output, self.accelerator, self.archive = Path(output), accelerator, archive
        self._known: dict[str, float | None] = {}

    def __call__(self, recipe: Recipe) -> float | None:
        """Seconds for all its epochs (or, where something is only measured, for the whole)."""
        exact, alike = _keys(recipe)
        if exact not in self._known:
            self._known[exact] = self._median(exact) or self._median(alike)
        per_epoch = self._known[exact]
        return None if per_epoch is None else per_epoch * _epochs(recipe)

    def _median(self, key: Key) -> float | None:
        found = self._index.get(key)
        if not found:
            return None
        here = [seconds for where, seconds in found if where == self._here]
        return statistics.median(here or [seconds for _, seconds in found])

    @cached_property
    def _here(self) -> str:
        return hardware(self.accelerator)

    @cached_property
    def _index(self) -> dict[Key, list[tuple[str, float]]]:
        index: dict[Key, list[tuple[str, float]]] = {}
        for run, seconds in _timed(self.output, self.archive):
            measured = (_where(run), seconds / _epochs(run.recipe))
            for key in _keys(run.recipe):
                index.setdefault(key, []).append(measured)
        return index


def _timed(output: Path, archive: Path | str | None) -> Iterator[tuple[StoredRun, float]]:
    for run in finished_runs(output, archive, skip=ignored):
        if math.isfinite(run.seconds) and run.seconds > 0 and len(run.hardware) <= 1:
            yield run, run.seconds


def _where(run: StoredRun) -> str:
    """As :func:`lacuna.runs.environment.hardware` names it."""
    attempt = run.attempts[0] if run.attempts else {}
    return ", ".join(sorted(set(attempt.get("gpus") or ()))) or str(attempt.get("cpu"))


def _epochs(recipe: Recipe) -> int:
    return int(recipe.training.get("epochs", 1))


def _keys(recipe: Recipe) -> tuple[Key, Key]:
    """What must be equal: with the batch size, and without."""
    config = recipe.config
    part: dict[str, Any] = dict(config.get(recipe.component, {}))
    part.pop("training", None)
    data = {key: config["data"].get(key) for key in ("name", "fingerprint", "train_images")}
    method = config.get("stem", {})
    speed = {key: recipe.training.get(key) for key in ARGUMENTS_OF_SPEED}
    alike = [recipe.task, data, method.get("name"), part, config["budget"]]
    return json.dumps([*alike, speed], sort_keys=True), json.dumps([*alike, None], sort_keys=True)
