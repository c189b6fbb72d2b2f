"""A run in the archive: its metrics and their provenance in one small JSON file, without weights or pictures.

``results/<name of the run>.json``::

    {"format": 1, "name": ..., "recipe": {...}, "metrics": {...}, "protocols": {...}, "data": {...},
     "attempts": [{"started": ..., "commit": ..., "cpu": ..., ...}], "seconds": 812.0, "ended": ...,
     "evaluations": {"noise-test-1a2b3c4d": {...}}}

``seconds`` are wall seconds of all attempts, null where not known. Absolute paths and host names are not stored. A
run's name ends in the hash of its recipe, so archives of two machines are merged by name.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from lacuna import files
from lacuna.errors import LacunaError
from lacuna.program import command_text
from lacuna.runs.finished import StoredRun, checked_evaluation
from lacuna.runs.folder import RunFolder
from lacuna.runs.recipe import VERSION, Recipe

FORMAT = 1
"""Version of the file format; raised when its keys change."""
ENVIRONMENT = ("started", "ended", "resumed", "commit", "python", "versions", "cpu", "threads", "gpus", "devices")
"""Keys of an attempt that are archived; host name and command line are not."""

Skip = Callable[[Path, str], None]
"""Called with a file that cannot be used, and the reason."""


@dataclass(frozen=True)
class ArchivedRun(StoredRun):
    """A run of which only the metrics are here.

    Args:
        file: of the archive.
        record: its content.
    """

    file: Path = Path()
    record: Mapping[str, Any] = field(default_factory=dict)

    @property
    def archived(self) -> bool:
        """True."""
        return True

    @property
    def place(self) -> Path:
        """The archive's file."""
        return self.file

    @cached_property
    def attempts(self) -> list[dict[str, Any]]:
        """As recorded."""
        return [dict(attempt) for attempt in self.record["attempts"]]

    @cached_property
    def ended(self) -> str | None:
        """As recorded."""
        return self.record.get("ended")

    @cached_property
    def seconds(self) -> float:
        """As recorded; NaN where not known."""
        seconds = self.record.get("seconds")
        return math.nan if seconds is None else float(seconds)

    @cached_property
    def evaluations(self) -> dict[str, dict[str, Any]]:
        """As recorded."""
        return {str(name): dict(record) for name, record in self.record["evaluations"].items()}

    @cached_property
    def damaged_evaluations(self) -> dict[Path, str]:
        """Empty: a damaged file is refused as a whole."""
        return {}


def record_of(run: StoredRun) -> dict[str, Any]:
    """The record of a finished run, as plain JSON.

    Raises:
        LacunaError: the recipe or an evaluation has an absolute path.
    """
    record = {
        "format": FORMAT,
        "name": run.recipe.name,
        "recipe": run.recipe.portable,
        "metrics": dict(run.metrics),
        "protocols": dict(run.protocols),
        "data": dict(run.data),
        "attempts": [{key: attempt[key] for key in ENVIRONMENT if key in attempt} for attempt in run.attempts],
        "seconds": run.seconds if math.isfinite(run.seconds) else None,
        "ended": run.ended,
        "evaluations": run.evaluations,
    }
    path = next(_absolute_paths(record), None)
    if path is not None:
        raise LacunaError(
            f"{run.recipe.name} is not archived: it holds the absolute path {path[1]} ({path[0]}), which means nothing "
            "elsewhere; run it with a relative path."
        )
    return record


def archived_run(record: Any, place: str, file: Path = Path(), output: Path | str = "outputs") -> ArchivedRun:
    """An archived run from its record.

    Args:
        record: as read from JSON.
        place: the file, or a line of one, for messages.
        file: the file.
        output: the folder whose ``runs/`` has the run's folder, if it is on this machine.

    Raises:
        LacunaError: it is damaged, or of another format or version.
    """
    try:
        form, recipe = record["format"], Recipe(record["recipe"])
        if form != FORMAT:
            raise LacunaError(f"{place} has format {form}, and this version of lacuna reads {FORMAT}: update lacuna.")
        version = recipe.config["version"]
        if version != VERSION:
            raise LacunaError(
                f"{place} is of recipe version {version}, not {VERSION}: run `{command_text('migrate')}`."
            )
        name = recipe.name
        if record["name"] != name or Path(name).name != name:
            raise LacunaError(f"{place} is damaged (its recipe is that of {name}, not of {record['name']}): delete it.")
        metrics = {str(key): float(value) for key, value in record["metrics"].items()}
        data, protocols = dict(record["data"]), dict(record["protocols"])
        _ = [dict(attempt) for attempt in record["attempts"]], float(record["seconds"] or 0)
        for evaluation in record["evaluations"].values():
            checked_evaluation(evaluation)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise LacunaError(f"{place} is damaged ({type(error).__name__}: {error}): delete it.") from error
    folder = RunFolder(Path(output) / "runs" / name)
    return ArchivedRun(folder, recipe, metrics, data, protocols, file, record)


def read_archived(path: Path, output: Path | str = "outputs") -> ArchivedRun:
    """The archived run in a file.

    Raises:
        LacunaError: the file is missing, damaged, renamed, or of another format or version.
    """
    try:
        run = archived_run(files.read_json(path), str(path), path, output)
    except OSError as error:
        raise LacunaError(f"{path} cannot be read ({error.strerror}): see to its permissions.") from error
    if path.stem != run.recipe.name:
        raise LacunaError(f"{path} holds the run {run.recipe.name}: rename it to {run.recipe.name}.json.")
    return run


class Archive:
    """The files of ``results/``; each is read once, and again after a change.

    Args:
        folder: of the files; None, or a folder that does not exist: an empty archive.
        output: the folder whose ``runs/`` has the run folders.
        skip: called once for every file that cannot be used.
    """

    def __init__(self, folder: Path | str | None, output: Path | str = "outputs", skip: Skip | None = None) -> None:
        self.folder = None if folder is None else Path(folder)
        self.output = output
        self._skip = skip
        self._read: dict[Path, tuple[tuple[int, int], ArchivedRun | None]] = {}

    def get(self, recipe: Recipe) -> ArchivedRun | None:
        """The archived run of a recipe, if there is one."""
        return None if self.folder is None else self._at(self.folder / f"{recipe.name}.json")

    def runs(self) -> Iterator[ArchivedRun]:
        """Every archived run, by name."""
        for path in sorted(self.folder.glob("*.json")) if self.folder is not None else ():
            run = self._at(path)
            if run is not None:
                yield run

    def _at(self, path: Path) -> ArchivedRun | None:
        try:
            status = path.stat()
        except OSError:
            return None
        stamp = (status.st_mtime_ns, status.st_size)
        cached = self._read.get(path)
        if cached is None or cached[0] != stamp:
            found = None
            try:
                found = read_archived(path, self.output)
            except LacunaError as error:
                if self._skip is not None:
                    self._skip(path, str(error))
            cached = self._read[path] = (stamp, found)
        return cached[1]


def _absolute_paths(value: Any, where: str = "") -> Iterator[tuple[str, str]]:
    """(dotted key, path) of every string that looks like an absolute path, or a path in a user's home."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _absolute_paths(inner, f"{where}.{key}" if where else str(key))
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _absolute_paths(inner, where)
    elif isinstance(value, str) and (value.startswith(("/", "~", "\\\\", "file:")) or value[1:3] in (":\\", ":/")):
        yield where, value
