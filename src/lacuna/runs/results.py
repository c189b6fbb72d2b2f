"""All metrics of all finished runs, read from the run folders and the archive.

There is no other database: results of two machines are merged by copying run folders or files of the archive. Reading
is safe at any time, because ``metrics.json`` marks a run as finished and is written last, atomically. A run that is in
both is read from its folder.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lacuna.errors import LacunaError
from lacuna.runs.archive_record import Archive, Skip
from lacuna.runs.finished import StoredRun, name_of, read_run
from lacuna.runs.protocol import COMPLETE, phrase

if TYPE_CHECKING:
    from pandas import DataFrame

COLUMNS = (
    "identity", "run", "experiment", "family", "task", "data", "mask", "method", "seed", "budget", "metric", "value",
    "protocol", "tested_on", "evaluation", "images", "complete", "lossless", "fingerprint", "note", "commit", "cpu",
    "gpus", "started", "seconds", "archived", "path",
)  # fmt: skip


def left_out(path: Path, reason: str) -> None:
    """Print to stderr that a file or folder is skipped, and why."""
    print(f"lacuna: {path} is skipped: {reason}", file=sys.stderr)


def ignored(path: Path, reason: str) -> None:
    """Skip a file or folder silently."""


def finished_runs(
    output: Path | str = "outputs", archive: Path | str | None = None, *, skip: Skip = left_out
) -> Iterator[StoredRun]:
    """Every finished run below ``output/runs``, by name, then those that are only in the archive.

    Folders that are no runs are skipped, and copies of a run under another name.

    Args:
        output: the folder in which ``runs/`` lies.
        archive: the folder of archived runs; None: there is none.
        skip: called with the path and the reason of each skip; by default it prints a line to stderr.
    """
    seen: set[str] = set()
    for run in _on_disk(Path(output) / "runs", seen, skip):
        seen.add(run.recipe.identity)
        yield run
    for archived in Archive(archive, output, skip).runs():
        if archived.recipe.identity not in seen:
            yield archived


def _on_disk(runs: Path, seen: set[str], skip: Skip) -> Iterator[StoredRun]:
    """The finished runs of a folder, renamed folders last; those in ``seen`` are skipped as copies."""
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
            yield run
    for run in renamed:
        if run.recipe.identity in seen:
            skip(run.folder.path, f"it is a copy of {run.recipe.name}")
        else:
            yield run


def rows(output: Path | str = "outputs", archive: Path | str | None = None) -> list[dict[str, Any]]:
    """One row per finished run and metric, and per metric of its ``evaluations/``; keys: :data:`COLUMNS`.

    ``value``: of ``metric`` (``split/quantity``), taken on ``images`` images with the mask scheme ``tested_on``;
    ``complete``: whether on all published test images; ``lossless``: whether the pixels are as published;
    ``evaluation``: name of the record in ``evaluations/``, None for the run's own metrics; ``seconds``: wall time of
    all attempts, NaN where not known; ``archived``: whether only the metrics are here; ``path``: the run's folder or
    the file in the archive.

    Args:
        output: the folder in which ``runs/`` lies.
        archive: the folder of archived runs; None: there is none.
    """
    found: list[dict[str, Any]] = []
    for run in finished_runs(output, archive):
        about = _about(run)
        found += [*_own_rows(run, about), *_evaluation_rows(run, about)]
    return found


def results(output: Path | str = "outputs", archive: Path | str | None = "results") -> DataFrame:
    """:func:`rows` as a pandas DataFrame; ``started`` is a time, ``images`` a whole number or missing.

    Args:
        output: the folder in which ``runs/`` lies.
        archive: the folder of archived runs, those that are not there; None: there is none.
    """
    import pandas

    frame = pandas.DataFrame.from_records(rows(output, archive), columns=list(COLUMNS))
    frame["started"] = pandas.to_datetime(frame["started"], errors="coerce", utc=True)
    return frame.astype({"images": "Int64", "value": "float64", "seconds": "float64"})


def _unfinished(path: Path) -> bool:
    """Whether it is a run without final metrics yet, or an empty folder."""
    if not path.is_dir() or (path / "metrics.json").exists():
        return False
    visible = [child for child in path.iterdir() if not child.name.startswith(".")]
    return not visible or (path / "recipe.json").exists()


def _about(run: StoredRun) -> dict[str, Any]:
    recipe, data = run.recipe, run.data
    return {
        "identity": recipe.identity,
        "run": run.recipe.name if run.archived else run.folder.path.name,
        "experiment": recipe.group,
        "family": recipe.family,
        "task": recipe.task,
        "data": name_of(recipe.config.get("data")),
        "mask": run.mask,
        "method": run.method,
        "seed": recipe.config.get("seed"),
        "budget": recipe.config.get("budget"),
        "complete": run.complete,
        "lossless": data.get("lossless"),
        "fingerprint": data.get("fingerprint"),
        "note": data.get("note"),
        "commit": ", ".join(run.commits) or None,
        "cpu": ", ".join(run.distinct("cpu")) or None,
        "gpus": ", ".join(dict.fromkeys(str(g) for attempt in run.attempts for g in attempt.get("gpus") or ())) or None,
        "started": run.attempts[0].get("started") if run.attempts else None,
        "seconds": run.seconds,
        "archived": run.archived,
        "path": str(run.place),
        "evaluation": None,
    }


def _own_rows(run: StoredRun, about: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    images = run.data.get("images") or {}
    for metric, value in run.metrics.items():
        split = metric.rpartition("/")[0]
        complete = split == COMPLETE
        yield _row(
            about,
            metric=metric,
            value=value,
            protocol=run.protocol(metric),
            tested_on="none" if complete else run.mask,
            images=images.get("test" if complete else split),
        )


def _evaluation_rows(run: StoredRun, about: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for path, reason in run.damaged_evaluations.items():
        left_out(path, reason)
    for name, record in run.evaluations.items():
        mask = str(record["mask"]["name"])
        own = {key: record.get(key, about[key]) for key in ("lossless", "fingerprint", "budget")}
        own["complete"] = about["complete"] and record.get("complete")
        own |= {"evaluation": name, "images": record.get("images"), "tested_on": mask}
        for quantity, value in record["metrics"].items():
            metric = f"{record['split']}/{quantity}"
            protocol = phrase(metric, mask, about["task"])
            yield _row(about, metric=metric, value=float(value), protocol=protocol, **own)


def _row(about: Mapping[str, Any], **more: Any) -> dict[str, Any]:
    found = {**about, **more}
    return {column: found[column] for column in COLUMNS}
