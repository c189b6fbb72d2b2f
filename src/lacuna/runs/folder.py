"""The directory of a run: what is in it, and who may write to it.

* ``recipe.json``: what decides the numbers;
* ``environment.json``: for each attempt, the first and every resume: start and end, host, commit, versions, hardware;
* ``status.json``: running, done, failed or interrupted, host, times; ``log.txt``: tracebacks;
* ``metrics.jsonl``: history; ``metrics.json``: final metrics, whose existence means done;
* ``model.safetensors``: trained weights; ``model.json``: the sizes needed to build the model again;
* ``checkpoints/``: to resume from, until done; ``pictures/``: to look at;
* ``evaluations/``: of this run on other masks and splits.
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
from lacuna.runs.recipe import Recipe


class RunFolder:
    """One run on disk.

    Args:
        path: the directory; made when the run starts.
    """

    def __init__(self, path: Path) -> None:
        self.path = Path(path)

    @classmethod
    def of(cls, output: Path | str, recipe: Recipe) -> RunFolder:
        """Where the run of ``recipe`` lives."""
        return cls(Path(output) / "runs" / recipe.name)

    @classmethod
    def find(cls, output: Path | str, run: str) -> RunFolder:
        """A run by its path, the name of its directory, or the beginning of its name or identity.

        Raises:
            LacunaError: no run, or several, fit.
        """
        if (Path(run) / "recipe.json").is_file():
            return cls(Path(run))
        folder = Path(output) / "runs"
        everything = sorted(path.parent for path in folder.glob("*/recipe.json"))
        fitting = [p for p in everything if p.name == run] or [
            p for p in everything if p.name.startswith(run) or p.name.rsplit("-", 1)[-1].startswith(run)
        ]
        if len(fitting) == 1:
            return cls(fitting[0])
        if fitting:
            raise LacunaError(f"run={run} fits {len(fitting)} runs ({', '.join(p.name for p in fitting)}): say more.")
        known = ", ".join(p.name for p in everything[:20]) or "none yet"
        raise LacunaError(f"run={run} is no run in {folder}; there are: {known}.")

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

    @property
    def metrics(self) -> dict[str, Any]:
        """The final metrics."""
        metrics: dict[str, Any] = files.read_json(self.path / "metrics.json")
        return metrics

    @property
    def checkpoints(self) -> Path:
        """Where to resume from."""
        return self.path / "checkpoints"

    @property
    def pictures(self) -> Path:
        """Pictures of the run."""
        return self.path / "pictures"

    @property
    def resumable(self) -> bool:
        """Whether there is a checkpoint to go on from."""
        return any(self.checkpoints.glob("*.ckpt"))

    @property
    def status(self) -> dict[str, Any]:
        """``state`` (running, done, failed, interrupted), host, times; empty if the run never began."""
        try:
            return dict(files.read_json(self.path / "status.json"))
        except (LacunaError, OSError, TypeError, ValueError):
            return {}

    @property
    def in_use(self) -> bool:
        """Whether a process is at work in it now."""
        lock = FileLock(self.path / ".lock")
        try:
            lock.acquire(timeout=0)
        except (Timeout, OSError):
            return True
        lock.release()
        return False

    @property
    def attempts(self) -> list[dict[str, Any]]:
        """When, where and with what every attempt at this run began, the first one first; empty if not known."""
        try:
            found = files.read_json(self.path / "environment.json")
            return [dict(attempt) for attempt in found["attempts"]]
        except (LacunaError, OSError, KeyError, TypeError, ValueError):
            return []

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Exclusive use of the directory; waits for another process that has it, saying so."""
        with _place_errors(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
            lock = FileLock(self.path / ".lock")
            try:
                lock.acquire(timeout=0)
            except Timeout:
                print(f"waiting: another process is at work in {self.path}", file=sys.stderr, flush=True)
                lock.acquire()
        try:
            self._drop_temporaries()
            yield
        finally:
            lock.release()

    @contextlib.contextmanager
    def recorded(self, recipe: Recipe, environment: dict[str, Any]) -> Iterator[None]:
        """Record what runs here and how it ends: status, the environment of this attempt, a failure's traceback.

        What was recorded of earlier attempts stays, so that a run which went on elsewhere shows it.
        """
        files.write_json(self.path / "recipe.json", recipe.config)
        attempt = {"started": _now(), "host": socket.gethostname(), "resumed": self.resumable}
        attempts = [*self.attempts, {**environment, **attempt}]
        files.write_json(self.path / "environment.json", {"attempts": attempts})
        started = str(attempts[0].get("started", attempt["started"]))
        self._status("running", started, attempts=len(attempts))
        try:
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
        """Record when the last attempt ended, so that the time of a run in several attempts is known."""
        ended = [*attempts[:-1], {**attempts[-1], "ended": _now()}]
        files.write_json(self.path / "environment.json", {"attempts": ended})

    def finish(self, metrics: dict[str, Any]) -> None:
        """Store the final metrics - from now on the run is done - and drop what was kept for resuming."""
        files.write_json(self.path / "metrics.json", metrics)
        self._drop_checkpoints()

    def _drop_checkpoints(self) -> None:
        for path in self.checkpoints.glob("*"):
            path.unlink(missing_ok=True)

    def _drop_temporaries(self) -> None:
        """Drop half-written files of a process that was killed: whoever has the lock is the only one to write here."""
        for folder in (self.path, self.checkpoints):
            for path in folder.glob(".*"):
                if path.name != ".lock" and path.is_file():
                    path.unlink(missing_ok=True)

    def tidy(self) -> None:
        """Tidy up a finished run whose process was killed after its metrics were stored: checkpoints and status."""
        with contextlib.suppress(LacunaError, OSError):
            self._drop_checkpoints()
            status = files.read_json(self.path / "status.json")
            if status["state"] != "done":
                written = (self.path / "metrics.json").stat().st_mtime  # the end, and not when somebody looked
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
    """One sentence also for a place that cannot hold folders at all: /proc, a name that is too long, ..."""
    try:
        with files.disk_errors(path):
            yield
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise LacunaError(f"{path} cannot be used ({reason}): choose another folder with output=... .") from error


def _now(seconds: float | None = None) -> str:
    """This moment, or another one in seconds since 1970."""
    utc = datetime.timezone.utc
    moment = datetime.datetime.now(utc) if seconds is None else datetime.datetime.fromtimestamp(seconds, utc)
    return moment.isoformat(timespec="seconds")
