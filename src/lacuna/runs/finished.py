"""A finished run as its directory tells: recipe, metrics, provenance, hardware, seconds. Nothing here imports torch."""

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
    """A finished run as its directory tells.

    Args:
        folder: the directory.
        recipe: what decided the numbers.
        metrics: final metrics, ``split/quantity`` -> value.
        data: which images they are about: ``complete``, ``lossless``, ``images``, ``stored``, ``note``, ...
        protocols: metric -> how it was taken, where the run itself says so.
    """

    folder: RunFolder
    recipe: Recipe
    metrics: Mapping[str, float]
    data: Mapping[str, Any]
    protocols: Mapping[str, str] = field(default_factory=dict)

    @property
    def archived(self) -> bool:
        """Whether only its numbers are here, from the archive, and neither weights nor pictures."""
        return False

    @property
    def place(self) -> Path:
        """Where its numbers were read: the run's directory, or the archive's file."""
        return self.folder.path

    @cached_property
    def attempts(self) -> list[dict[str, Any]]:
        """Where and with what every attempt at it began."""
        return self.folder.attempts

    @cached_property
    def hardware(self) -> tuple[str, ...]:
        """What it ran on: the GPUs, or the CPU and its threads; several where it went on elsewhere."""
        return tuple(dict.fromkeys(hardware_text(attempt) for attempt in self.attempts))

    @cached_property
    def commits(self) -> tuple[str, ...]:
        """Commits of the code that made it."""
        return self.distinct("commit")

    def distinct(self, key: str) -> tuple[str, ...]:
        """What its attempts say of ``key``, each once."""
        return tuple(dict.fromkeys(str(attempt[key]) for attempt in self.attempts if attempt.get(key)))

    @cached_property
    def ended(self) -> str | None:
        """When it was done, as ISO 8601; None where not recorded."""
        ended = self.folder.status.get("ended")
        return str(ended) if ended else None

    @cached_property
    def seconds(self) -> float:
        """Wall seconds, summed over its attempts; NaN where the end of one is not known (it was killed, say)."""
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
        """Its records in ``evaluations/`` (other masks and splits), by name; damaged ones are left out."""
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
        """Whether it was tested on all of the published test images; None where it has no data."""
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
        """What the experiment compares: the stem, or what was trained."""
        config = self.recipe.config
        return name_of(config.get("stem", config.get(self.recipe.component, config["task"])))


def read_run(path: Path, recipe: Recipe | None = None) -> StoredRun:
    """A finished run.

    Args:
        path: its directory.
        recipe: the recipe, where it is known already; otherwise it is read.

    Raises:
        LacunaError: a file is missing or damaged; says which.
    """
    folder = RunFolder(path)
    try:
        recipe = recipe or folder.recipe
        record = folder.metrics
        metrics = {str(name): float(value) for name, value in record["metrics"].items()}
        data, protocols = dict(record.get("data") or {}), dict(record.get("protocols") or {})
        _ = recipe.name  # so that what is no recipe shows here and not later
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise LacunaError(f"{path} is no run ({type(error).__name__}: {error}): move it away.") from error
    except OSError as error:
        raise LacunaError(f"{path} cannot be read ({error.strerror}): see to its permissions.") from error
    return StoredRun(folder, recipe, metrics, data, protocols)


def checked_evaluation(record: Any) -> dict[str, Any]:
    """A record of ``evaluations/`` that has what a reader needs.

    Raises:
        AttributeError, KeyError, TypeError, ValueError: it has not.
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


def name_of(part: Any) -> str | None:
    """The ``name`` of a part of a recipe, if it has one."""
    return str(part["name"]) if isinstance(part, Mapping) and "name" in part else None


def _seconds(started: Any, ended: Any) -> float:
    try:
        begun, done = (datetime.datetime.fromisoformat(moment) for moment in (started, ended))
        return (done - begun).total_seconds()
    except (TypeError, ValueError):
        return math.nan
