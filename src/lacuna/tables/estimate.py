"""Estimates of a run's duration, from measured steps or from the durations of similar finished runs."""

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
from lacuna.runs.protocol import official_counts
from lacuna.runs.recipe import Recipe
from lacuna.runs.results import finished_runs, ignored
from lacuna.throughput.measurements import Measurements
from lacuna.throughput.rows import seconds_of
from lacuna.throughput.step_kinds import kind_key, stored_in

Key = str
SPEED_SETTINGS = ("batch_size",)


class Estimates:
    """Seconds that a run will take, or None if its steps were not measured and no similar run has finished yet.

    Steps were measured if an executor did so on this kind of hardware (:mod:`lacuna.throughput.probe`). Then seconds =
    steps x milliseconds per step; validation and evaluation are not included.

    Similar runs have the same task, data (and number of images), method, network and budget. Runs with the same batch
    size and runs on the same hardware as this machine's are preferred. Only runs count whose duration is known and that
    ran on one kind of hardware. Directories and archive are read once, at the first estimate.

    Args:
        output: the folder in which ``runs/`` lies.
        accelerator: ``trainer.accelerator``; decides on which hardware a run would be.
        archive: the folder of archived runs; None: there is none.
        root: the data folder, for the number of steps; None: as with the published data.
        shared: whether runs share the GPUs of this machine, as many at a time as was measured to be best.
    """

    def __init__(
        self,
        output: Path | str,
        accelerator: str = "auto",
        archive: Path | str | None = None,
        root: Path | str | None = None,
        *,
        shared: bool = False,
    ) -> None:
        self.output, self.accelerator, self.archive, self.shared = Path(output), accelerator, archive, shared
        self._counts = official_counts if root is None else stored_in(root)
        self._known: dict[str, float | None] = {}

    def __call__(self, recipe: Recipe) -> float | None:
        """Seconds of a GPU (or of this machine) that a run takes: where n runs share a GPU, an n-th of its duration."""
        number = self._number(recipe)
        seconds = self.wall(recipe)
        return None if seconds is None else seconds / number

    def wall(self, recipe: Recipe) -> float | None:
        """Seconds from start to end of a run, with the others that share its GPU."""
        if self._measured.rows:
            measured = seconds_of(recipe, self._measured.rows, self._number(recipe), self._counts)
            if measured is not None:
                return measured
        return self._of_similar(recipe)

    def _number(self, recipe: Recipe) -> int:
        """Number of such runs on a GPU at a time; 1 where that was not measured."""
        if not self.shared or not self._measured.rows:
            return 1
        return self._measured.number(kind_key(recipe)) or 1

    @cached_property
    def _measured(self) -> Measurements:
        return Measurements.load(self.output, self._hardware)

    def _of_similar(self, recipe: Recipe) -> float | None:
        """Seconds for all epochs of a run (for a measurement: in all)."""
        exact, similar = _keys(recipe)
        if exact not in self._known:
            self._known[exact] = self._median(exact) or self._median(similar)
        per_epoch = self._known[exact]
        return None if per_epoch is None else per_epoch * _epochs(recipe)

    def _median(self, key: Key) -> float | None:
        timed = self._index.get(key)
        if not timed:
            return None
        here = [seconds for machine, seconds in timed if machine == self._hardware]
        return statistics.median(here or [seconds for _, seconds in timed])

    @cached_property
    def _hardware(self) -> str:
        return hardware(self.accelerator)

    @cached_property
    def _index(self) -> dict[Key, list[tuple[str, float]]]:
        index: dict[Key, list[tuple[str, float]]] = {}
        for run, seconds in _timed_runs(self.output, self.archive):
            measured = (_hardware_of(run), seconds / _epochs(run.recipe))
            for key in _keys(run.recipe):
                index.setdefault(key, []).append(measured)
        return index


def _timed_runs(output: Path, archive: Path | str | None) -> Iterator[tuple[StoredRun, float]]:
    for run in finished_runs(output, archive, skip=ignored):
        if math.isfinite(run.seconds) and run.seconds > 0 and len(run.hardware) <= 1:
            yield run, run.seconds


def _hardware_of(run: StoredRun) -> str:
    """Named as by :func:`lacuna.runs.environment.hardware`."""
    attempt = run.attempts[0] if run.attempts else {}
    return ", ".join(sorted(set(attempt.get("gpus") or ()))) or str(attempt.get("cpu"))


def _epochs(recipe: Recipe) -> int:
    return int(recipe.training.get("epochs", 1))


def _keys(recipe: Recipe) -> tuple[Key, Key]:
    """What similar runs have in common: with the batch size, and without."""
    config = recipe.config
    part: dict[str, Any] = dict(config.get(recipe.component, {}))
    part.pop("training", None)
    data = {key: config["data"].get(key) for key in ("name", "fingerprint", "train_images")}
    method = config.get("stem", {})
    speed = {key: recipe.training.get(key) for key in SPEED_SETTINGS}
    common = [recipe.task, data, method.get("name"), part, config["budget"]]
    return json.dumps([*common, speed], sort_keys=True), json.dumps([*common, None], sort_keys=True)
