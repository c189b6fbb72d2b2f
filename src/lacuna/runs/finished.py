"""A finished run, read from its folder: recipe, metrics, provenance, hardware, seconds. Nothing here imports torch."""

from __future__ import annotations

import datetime
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from lacuna import files
from lacuna.errors import LacunaError
from lacuna.runs.folder import RunFolder
from lacuna.runs.protocol import official_counts, phrase
from lacuna.runs.recipe import Recipe


@dataclass(frozen=True)
class StoredRun:
    """A finished run.

    Args:
        folder: of the run.
        recipe: of the run.
        metrics: final metrics, ``split/quantity`` -> value.
        data: the images they were taken on: ``complete``, ``lossless``, ``images``, ``stored``, ``note``, ...
        protocols: metric -> how it was taken, where the run has stored that.
    """

    folder: RunFolder
    recipe: Recipe
    metrics: Mapping[str, float]
    data: Mapping[str, Any]
    protocols: Mapping[str, str] = field(default_factory=dict)

    @property
    def archived(self) -> bool:
        """Whether it is in the archive only, without weights and pictures."""
        return False

    @property
    def place(self) -> Path:
        """Where its metrics were read: the run's folder, or a file of the archive."""
        return self.folder.path

    @cached_property
    def attempts(self) -> list[dict[str, Any]]:
        """Start, commit, versions and hardware of each attempt."""
        return self.folder.attempts

    @cached_property
    def hardware(self) -> tuple[str, ...]:
        """The GPUs, or the CPU and its threads; several where it was resumed on another machine."""
        return tuple(dict.fromkeys(hardware_text(attempt) for attempt in self.attempts))

    @cached_property
    def commits(self) -> tuple[str, ...]:
        """Commits of the code that ran it."""
        return self.distinct("commit")

    def distinct(self, key: str) -> tuple[str, ...]:
        """The distinct values of ``key`` in its attempts."""
        return tuple(dict.fromkeys(str(attempt[key]) for attempt in self.attempts if attempt.get(key)))

    @cached_property
    def ended(self) -> str | None:
        """Time of its end, as ISO 8601; None where not recorded."""
        ended = self.folder.status.get("ended")
        return str(ended) if ended else None

    @cached_property
    def seconds(self) -> float:
        """Wall seconds of all attempts; NaN where the end of one is not known (it was killed, say)."""
        status, attempts = self.folder.status, self.attempts
        if status.get("state") != "done" or (len(attempts) > 1 and status.get("attempts") != len(attempts)):
            return math.nan
        spans = [_seconds(attempt.get("started"), attempt.get("ended")) for attempt in attempts]
        if len(attempts) > 1:
            return sum(spans)
        if status.get("attempts") != 1:
            return math.nan
        whole = _seconds(status.get("started"), status.get("ended"))
        return whole if not spans or math.isnan(spans[0]) else spans[0]

    @cached_property
    def evaluations(self) -> dict[str, dict[str, Any]]:
        """Records in ``evaluations/`` (other masks and splits), by name, without damaged ones."""
        return {path.stem: record for path, record in self._evaluations.items() if not isinstance(record, str)}

    @cached_property
    def damaged_evaluations(self) -> dict[Path, str]:
        """Files in ``evaluations/`` that cannot be read, and why."""
        return {path: record for path, record in self._evaluations.items() if isinstance(record, str)}

    @cached_property
    def _evaluations(self) -> dict[Path, dict[str, Any] | str]:
        found: dict[Path, dict[str, Any] | str] = {}
        for path in sorted((self.folder.path / "evaluations").glob("*.json")):
            try:
                found[path] = checked_evaluation(files.read_json(path))
            except (LacunaError, AttributeError, KeyError, TypeError, ValueError) as error:
                found[path] = str(error)
        return found

    def protocol(self, metric: str) -> str:
        """How a metric was taken, in one phrase."""
        return self.protocols.get(metric) or phrase(metric, self.mask, self.recipe.task)

    @property
    def complete(self) -> bool | None:
        """Whether it was tested on all published test images; None where it has no data."""
        if "complete" not in self.data:
            return None
        used = dict(self.data.get("images") or {}).get("test")
        whole = dict(self.data.get("stored") or {}), official_counts(self.recipe.config.get("data") or {})
        return bool(self.data["complete"]) and all(used == counts.get("test", used) for counts in whole)

    @property
    def mask(self) -> str | None:
        """Name of the mask scheme, where the run has one."""
        return name_of(self.recipe.config.get("mask"))

    @property
    def method(self) -> str | None:
        """Name of the stem, or of the component that was trained."""
        config = self.recipe.config
        return name_of(config.get("stem", config.get(self.recipe.component, config["task"])))


def read_run(path: Path, recipe: Recipe | None = None) -> StoredRun:
    """A finished run.

    Args:
        path: its directory.
        recipe: of the run; None: it is read.

    Raises:
        LacunaError: a file is missing or damaged.
    """
    folder = RunFolder(path)
    try:
        recipe = recipe or folder.recipe
        record = folder.metrics
        metrics = {str(name): float(value) for name, value in record["metrics"].items()}
        data, protocols = dict(record.get("data") or {}), dict(record.get("protocols") or {})
        _ = recipe.name  # fails here if it is no recipe
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise LacunaError(f"{path} is no run ({type(error).__name__}: {error}): move it away.") from error
    except OSError as error:
        raise LacunaError(f"{path} cannot be read ({error.strerror}): see to its permissions.") from error
    return StoredRun(folder, recipe, metrics, data, protocols)


def checked_evaluation(record: Any) -> dict[str, Any]:
    """A record of ``evaluations/`` after a check of its mask, split and metrics.

    Raises:
        AttributeError, KeyError, TypeError, ValueError: one is missing or damaged.
    """
    _ = str(record["mask"]["name"]), str(record["split"])
    _ = [float(value) for value in record["metrics"].values()]
    return dict(record)


def hardware_text(attempt: Mapping[str, Any]) -> str:
    """``NVIDIA H200``, ``2x NVIDIA H200`` or ``AMD EPYC, 2 threads``, from a record in ``environment.json``."""
    gpus = list(attempt.get("gpus") or [])
    if gpus:
        kinds = dict.fromkeys(gpus)
        return ", ".join(f"{gpus.count(kind)}x {kind}" if gpus.count(kind) > 1 else str(kind) for kind in kinds)
    threads = attempt.get("threads")
    return f"{attempt.get('cpu') or 'unknown CPU'}" + (f", {threads} thread{'s' * (threads != 1)}" if threads else "")


def name_of(component: Any) -> str | None:
    """The ``name`` of a component of a recipe, if it has one."""
    return str(component["name"]) if isinstance(component, Mapping) and "name" in component else None


def _seconds(started: Any, ended: Any) -> float:
    try:
        begun, done = (datetime.datetime.fromisoformat(moment) for moment in (started, ended))
        return (done - begun).total_seconds()
    except (TypeError, ValueError):
        return math.nan
