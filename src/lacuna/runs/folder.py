"""The folder of a run: its files, its lock, and the record of each attempt.

* ``recipe.json``: the recipe;
* ``environment.json``: start, end, host, commit, versions and hardware of each attempt (the first and every resume);
* ``status.json``: running, done, failed or interrupted, host, times; ``log.txt``: tracebacks;
* ``metrics.jsonl``: history; ``metrics.json``: final metrics, whose existence marks the run as finished;
* ``model.safetensors``: trained weights; ``model.json``: the sizes needed to build the model again;
* ``checkpoints/``: to resume from, until the run is finished; ``pictures/``;
* ``evaluations/``: metrics of this run on other masks and splits.
"""

from __future__ import annotations

import contextlib
import datetime
import os
import socket
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from lacuna import files
from lacuna.errors import LacunaError
from lacuna.program import command_text
from lacuna.runs.recipe import VERSION, Recipe


class RunFolder:
    """The folder of one run.

    Args:
        path: of the folder, which is made when the run starts.
    """

    def __init__(self, path: Path) -> None:
        self.path = Path(path)

    @classmethod
    def of(cls, output: Path | str, recipe: Recipe) -> RunFolder:
        """The folder of the run of a recipe."""
        return cls(Path(output) / "runs" / recipe.name)

    @classmethod
    def find(cls, output: Path | str, run: str) -> RunFolder:
        """A run by its path, the name of its folder, or the beginning of its name or identity.

        Raises:
            LacunaError: no run, or several, match, or the run is of an earlier version of the recipe.
        """
        if (Path(run) / "recipe.json").is_file():
            return cls(Path(run))._current()
        folder = Path(output) / "runs"
        existing = sorted(path.parent for path in folder.glob("*/recipe.json"))
        matching = [p for p in existing if p.name == run] or [
            p for p in existing if p.name.startswith(run) or p.name.rsplit("-", 1)[-1].startswith(run)
        ]
        if len(matching) == 1:
            return cls(matching[0])._current()
        if matching:
            names = ", ".join(p.name for p in matching)
            raise LacunaError(f"run={run} matches {len(matching)} runs ({names}): give more of the name.")
        known = ", ".join(p.name for p in existing[:20]) or "none yet"
        raise LacunaError(f"run={run} is no run in {folder}; there are: {known}.")

    def _current(self) -> RunFolder:
        if self.outdated:
            raise LacunaError(f"{self.path} is of an earlier version of the recipe: run `{command_text('migrate')}`.")
        return self

    @property
    def outdated(self) -> bool:
        """Whether the recipe is of an earlier version, so that no plan finds this run before it is migrated."""
        with contextlib.suppress(LacunaError, OSError):  # a damaged one is reported by whoever needs it
            version = self.recipe.config.get("version", VERSION)
            return isinstance(version, int) and version < VERSION
        return False

    def __fspath__(self) -> str:
        return str(self.path)

    @property
    def recipe(self) -> Recipe:
        """The stored recipe."""
        return Recipe(files.read_json(self.path / "recipe.json"))

    @property
    def finished(self) -> bool:
        """Whether the run has its final metrics."""
        with _place_errors(self.path):
            return (self.path / "metrics.json").is_file()

    def finished_before(self, *, announce: bool = True) -> bool:
        """Whether the run is finished; if so, tidy its folder and, if ``announce``, print a line with it."""
        if not self.finished:
            return False
        self.tidy()
        if announce:
            print(f"finished before: {self.path}", flush=True)
        return True

    @property
    def metrics(self) -> dict[str, Any]:
        """The final metrics."""
        metrics: dict[str, Any] = files.read_json(self.path / "metrics.json")
        return metrics

    @property
    def checkpoints(self) -> Path:
        """Folder of checkpoints."""
        return self.path / "checkpoints"

    @property
    def pictures(self) -> Path:
        """Folder of pictures."""
        return self.path / "pictures"

    @property
    def resumable(self) -> bool:
        """Whether there is a checkpoint to resume from."""
        return any(self.checkpoints.glob("*.ckpt"))

    @property
    def status(self) -> dict[str, Any]:
        """``state`` (running, done, failed, interrupted), host, times; empty if the run has not started."""
        try:
            return dict(files.read_json(self.path / "status.json"))
        except (LacunaError, OSError, TypeError, ValueError):
            return {}

    @property
    def in_use(self) -> bool:
        """Whether a process has its lock."""
        lock = FileLock(self.path / ".lock")
        try:
            lock.acquire(timeout=0)
        except (Timeout, OSError):
            return True
        lock.release()
        return False

    @property
    def attempts(self) -> list[dict[str, Any]]:
        """Start, host, commit, versions and hardware of each attempt, in order; empty if not known."""
        try:
            found = files.read_json(self.path / "environment.json")
            return [dict(attempt) for attempt in found["attempts"]]
        except (LacunaError, OSError, KeyError, TypeError, ValueError):
            return []

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the lock of the folder; waits, with a line on stderr, while another process has it."""
        with _place_errors(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
            lock = FileLock(self.path / ".lock")
            try:
                lock.acquire(timeout=0)
            except Timeout:
                print(f"waiting: another process is running {self.path}", file=sys.stderr, flush=True)
                lock.acquire()
        try:
            self._drop_temporaries()
            yield
        finally:
            lock.release()

    @contextlib.contextmanager
    def recorded(self, recipe: Recipe, environment: dict[str, Any]) -> Iterator[None]:
        """Record an attempt: its recipe, environment, status, and the traceback of a failure.

        Records of earlier attempts stay.

        Args:
            recipe: of the run.
            environment: commit, versions and hardware.
        """
        files.write_json(self.path / "recipe.json", recipe.config)
        attempt = {"started": _now(), "host": socket.gethostname(), "resumed": self.resumable}
        attempts = [*self.attempts, {**environment, **attempt}]
        files.write_json(self.path / "environment.json", {"attempts": attempts})
        started = str(attempts[0].get("started", attempt["started"]))
        try:
            self._status("running", started, attempts=len(attempts))  # an interrupt may come before it returns
            yield
        except BaseException as error:
            kind = "interrupted" if isinstance(error, KeyboardInterrupt) else "failed"
            with contextlib.suppress(OSError, LacunaError):
                self._log(traceback.format_exc())
                self._ended(attempts)
                self._status(kind, started, attempts=len(attempts), error=f"{type(error).__name__}: {error}")
            raise
        self._ended(attempts)
        self._status("done", started, attempts=len(attempts))

    def _ended(self, attempts: list[dict[str, Any]]) -> None:
        """Record the end of the last attempt."""
        ended = [*attempts[:-1], {**attempts[-1], "ended": _now()}]
        files.write_json(self.path / "environment.json", {"attempts": ended})

    def finish(self, metrics: dict[str, Any]) -> None:
        """Store the final metrics, which mark the run as finished, and delete its checkpoints."""
        files.write_json(self.path / "metrics.json", metrics)
        self._drop_checkpoints()

    def _drop_checkpoints(self) -> None:
        for path in self.checkpoints.glob("*"):
            path.unlink(missing_ok=True)

    def _drop_temporaries(self) -> None:
        """Delete temporary files of a killed process; only the process with the lock writes here."""
        for folder in (self.path, self.checkpoints):
            for path in folder.glob(".*"):
                if path.name != ".lock" and path.is_file():
                    path.unlink(missing_ok=True)

    def tidy(self) -> None:
        """Delete the checkpoints and set the status of a finished run whose process was killed at its end."""
        with contextlib.suppress(LacunaError, OSError):
            self._drop_checkpoints()
            status = files.read_json(self.path / "status.json")
            if status["state"] != "done":
                written = (self.path / "metrics.json").stat().st_mtime  # the end of the run, not the time of this call
                self._status("done", status["started"], attempts=status.get("attempts", 1), ended=_now(written))

    def _status(self, state: str, started: str, **more: str | int) -> None:
        status = {"state": state, "started": started, "host": socket.gethostname(), "pid": os.getpid()}
        if state != "running":
            status["ended"] = _now()
        files.write_json(self.path / "status.json", status | more)

    def _log(self, text: str) -> None:
        with (self.path / "log.txt").open("a", encoding="utf-8") as file:
            file.write(f"{_now()}\n{text}\n")


@contextlib.contextmanager
def _place_errors(path: Path) -> Iterator[None]:
    """One clear error also for paths that cannot be folders: in /proc, or with a name that is too long."""
    try:
        with files.disk_errors(path):
            yield
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise LacunaError(f"{path} cannot be used ({reason}): choose another folder with output=... .") from error


def _now(seconds: float | None = None) -> str:
    """Now, or a time in seconds since 1970, as ISO 8601 in UTC."""
    utc = datetime.timezone.utc
    moment = datetime.datetime.now(utc) if seconds is None else datetime.datetime.fromtimestamp(seconds, utc)
    return moment.isoformat(timespec="seconds")


def outdated_notice(output: Path | str) -> str | None:
    """One sentence if a folder has runs of an earlier version of the recipe, which are not found until migrated."""
    runs = Path(output) / "runs"
    count = 0
    with contextlib.suppress(OSError):  # reported by whoever writes there
        count = sum(RunFolder(path.parent).outdated for path in runs.glob("*/recipe.json"))
    if not count:
        return None
    return (
        f"note: {count} of the runs in {runs} are of an earlier version of the recipe and are not used: "
        f"run `{command_text('migrate')} output={output}` to keep them."
    )
