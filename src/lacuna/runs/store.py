"""The results store: every number of every finished run, read from the run directories themselves.

There is no database beside them, so the stores of two machines are merged by copying run directories together, and
reading is safe at any time: a run is taken once its ``metrics.json`` is there, and that is written last, whole.
"""

from __future__ import annotations

import datetime
import math
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lacuna import files
from lacuna.errors import LacunaError
from lacuna.runs.folder import RunFolder
from lacuna.runs.protocol import COMPLETE, official_counts, phrase
from lacuna.runs.recipe import Recipe

if TYPE_CHECKING:
    from pandas import DataFrame

COLUMNS = (
    "identity", "run", "experiment", "family", "task", "data", "mask", "method", "seed", "budget", "metric", "value",
    "protocol", "tested_on", "evaluation", "images", "complete", "lossless", "fingerprint", "note", "commit", "cpu",
    "gpus", "started", "seconds", "path",
)  # fmt: skip


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
        return _distinct(self.attempts, "commit")

    @cached_property
    def seconds(self) -> float:
        """From start to end; NaN unless it was done in one attempt, for what lies between two is no work."""
        status = self.folder.status
        if len(self.attempts) > 1 or status.get("attempts") != 1 or status.get("state") != "done":
            return math.nan
        try:
            begun, ended = (datetime.datetime.fromisoformat(status[key]) for key in ("started", "ended"))
            return (ended - begun).total_seconds()
        except (KeyError, TypeError, ValueError):
            return math.nan

    def protocol(self, metric: str) -> str:
        """How a metric was taken, in one phrase."""
        return self.protocols.get(metric) or phrase(metric, self.mask, self.recipe.task)

    @property
    def complete(self) -> bool | None:
        """Whether it was tested on all of the published test images; None where it has no data."""
        if "complete" not in self.data:
            return None
        used = dict(self.data.get("images") or {}).get("test")
        whole = dict(self.data.get("stored") or {}), official_counts(self.recipe.content.get("data") or {})
        return bool(self.data["complete"]) and all(used == counts.get("test", used) for counts in whole)

    @property
    def mask(self) -> str | None:
        """Name of the mask scheme, where the run has one."""
        return _name(self.recipe.content.get("mask"))

    @property
    def method(self) -> str | None:
        """What the experiment compares: the stem, or what was trained."""
        content = self.recipe.content
        return _name(content.get("stem", content.get(self.recipe.part, content["task"])))


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


def finished_runs(output: Path | str = "outputs", *, quiet: bool = False) -> Iterator[StoredRun]:
    """Every finished run below ``output/runs``, by name; what is no run is skipped, with a line on stderr.

    A second copy of a run (its folder copied under another name) is skipped, too.

    Args:
        output: the folder in which ``runs/`` lies.
        quiet: say nothing of what is skipped.
    """
    runs = Path(output) / "runs"
    skip = _ignore if quiet else _skip
    seen: set[str] = set()
    renamed: list[StoredRun] = []
    for path in sorted(runs.iterdir()) if runs.is_dir() else []:
        if path.name.startswith(".") or _unfinished(path):
            continue
        try:
            run = read_run(path)
        except LacunaError as error:
            skip(path, str(error))
            continue
        if path.name != run.recipe.name:
            renamed.append(run)
        else:
            seen.add(run.recipe.identity)
            yield run
    for run in renamed:
        if run.recipe.identity in seen:
            skip(run.folder.path, f"it is a copy of {run.recipe.name}")
        else:
            seen.add(run.recipe.identity)
            yield run


def rows(output: Path | str = "outputs") -> list[dict[str, Any]]:
    """One plain row per finished run and metric, and per metric of its ``evaluations/``; keys: :data:`COLUMNS`.

    ``value`` is of ``metric`` (``split/quantity``), taken on ``images`` images of the scheme ``tested_on``;
    ``complete``: all of the published test images; ``lossless``: pixels as published; ``evaluation``: name of the
    record in ``evaluations/``, None for the run's own metrics; ``seconds``: NaN unless the run was done in one attempt.
    """
    found: list[dict[str, Any]] = []
    for run in finished_runs(output):
        about = _about(run)
        found += [*_own_rows(run, about), *_evaluation_rows(run, about)]
    return found


def results(output: Path | str = "outputs") -> DataFrame:
    """:func:`rows` as a pandas DataFrame; ``started`` is a time, ``images`` a whole number or missing.

    Args:
        output: the folder in which ``runs/`` lies.
    """
    import pandas

    frame = pandas.DataFrame.from_records(rows(output), columns=list(COLUMNS))
    frame["started"] = pandas.to_datetime(frame["started"], errors="coerce", utc=True)
    return frame.astype({"images": "Int64", "value": "float64", "seconds": "float64"})


def hardware_text(attempt: Mapping[str, Any]) -> str:
    """``NVIDIA H200``, ``2x NVIDIA H200`` or ``AMD EPYC, 2 threads``, from a record in ``environment.json``."""
    gpus = list(attempt.get("gpus") or [])
    if gpus:
        kinds = dict.fromkeys(gpus)
        return ", ".join(f"{gpus.count(kind)}x {kind}" if gpus.count(kind) > 1 else str(kind) for kind in kinds)
    threads = attempt.get("threads")
    return f"{attempt.get('cpu') or 'unknown CPU'}" + (f", {threads} thread{'s' * (threads != 1)}" if threads else "")


def _unfinished(path: Path) -> bool:
    """Whether it is a run, or may become one, whose metrics are still to come."""
    if not path.is_dir() or (path / "metrics.json").exists():
        return False
    visible = [child for child in path.iterdir() if not child.name.startswith(".")]
    return not visible or (path / "recipe.json").exists()


def _skip(path: Path, reason: str) -> None:
    print(f"lacuna: {path} is left out: {reason}", file=sys.stderr)


def _ignore(path: Path, reason: str) -> None:
    pass


def _about(run: StoredRun) -> dict[str, Any]:
    recipe, data = run.recipe, run.data
    return {
        "identity": recipe.identity,
        "run": run.folder.path.name,
        "experiment": recipe.group,
        "family": recipe.family,
        "task": recipe.task,
        "data": _name(recipe.content.get("data")),
        "mask": run.mask,
        "method": run.method,
        "seed": recipe.content.get("seed"),
        "budget": recipe.content.get("budget"),
        "complete": run.complete,
        "lossless": data.get("lossless"),
        "fingerprint": data.get("fingerprint"),
        "note": data.get("note"),
        "commit": ", ".join(run.commits) or None,
        "cpu": ", ".join(_distinct(run.attempts, "cpu")) or None,
        "gpus": ", ".join(dict.fromkeys(str(g) for attempt in run.attempts for g in attempt.get("gpus") or ())) or None,
        "started": run.attempts[0].get("started") if run.attempts else None,
        "seconds": run.seconds,
        "path": str(run.folder.path),
        "evaluation": None,
    }


def _own_rows(run: StoredRun, about: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    images = run.data.get("images") or {}
    for metric, value in run.metrics.items():
        split = metric.rpartition("/")[0]
        whole = split == COMPLETE
        yield _row(
            about,
            metric=metric,
            value=value,
            protocol=run.protocol(metric),
            tested_on="none" if whole else run.mask,
            images=images.get("test" if whole else split),
        )


def _evaluation_rows(run: StoredRun, about: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for path in sorted((run.folder.path / "evaluations").glob("*.json")):
        try:
            record = files.read_json(path)
            mask, split = str(record["mask"]["name"]), str(record["split"])
            found = {f"{split}/{name}": float(value) for name, value in record["metrics"].items()}
            there = {key: record.get(key, about[key]) for key in ("lossless", "fingerprint", "budget")}
            there["complete"] = about["complete"] and record.get("complete")
        except (LacunaError, AttributeError, KeyError, TypeError, ValueError) as error:
            _skip(path, str(error))
            continue
        there |= {"evaluation": path.stem, "images": record.get("images"), "tested_on": mask}
        for metric, value in found.items():
            yield _row(about, metric=metric, value=value, protocol=phrase(metric, mask, about["task"]), **there)


def _row(about: Mapping[str, Any], **more: Any) -> dict[str, Any]:
    found = {**about, **more}
    return {column: found[column] for column in COLUMNS}


def _distinct(attempts: list[dict[str, Any]], key: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(str(attempt[key]) for attempt in attempts if attempt.get(key)))


def _name(part: Any) -> str | None:
    return str(part["name"]) if isinstance(part, Mapping) and "name" in part else None
