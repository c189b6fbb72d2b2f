"""What is remembered of SLURM jobs, so that a later command knows what is queued: a folder for each, under the output.

``job.json`` is written when the job is submitted: its id and its runs. ``events.jsonl`` is written by the job: a line
whenever one of its runs begins or ends. ``told`` marks that a command has told the user of its failed runs.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import time
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock

from lacuna import files
from lacuna.errors import LacunaError
from lacuna.executors.base import Job
from lacuna.executors.slurm_queue import here

FOLDER = ".slurm"
JOB, EVENTS, TOLD, STOP = "job.json", "events.jsonl", "told", "stop-"


@dataclass(frozen=True)
class Event:
    """The last that is known of a run in a job.

    Args:
        state: one of :mod:`lacuna.executors.schedule`: running, done, failed, blocked or interrupted.
        error: why it failed.
    """

    state: str
    error: str | None = None


class Record:
    """A submitted job.

    Args:
        folder: of its files.
        id: in its queue.
        queue: the queue's name.
        host: the machine on which it was submitted.
        runs: identities of its runs.
    """

    def __init__(self, folder: Path, id: str, queue: str, host: str, runs: Iterable[str]) -> None:
        self.folder, self.id, self.queue, self.host, self.runs = folder, id, queue, host, tuple(runs)
        self.alive = True
        """Whether it waits or runs, as far as is known."""
        self.events: dict[str, Event] = {}
        self._read = 0

    @classmethod
    def load(cls, folder: Path) -> Record:
        """The record in a folder.

        Raises:
            LacunaError, KeyError, TypeError: there is none, or it is damaged.
        """
        stored = files.read_json(folder / JOB)
        return cls(folder, str(stored["id"]), stored["queue"], stored["host"], stored["runs"])

    def save(self) -> None:
        """Write it."""
        about = {"id": self.id, "queue": self.queue, "host": self.host, "submitted": time.time(), "runs": self.runs}
        files.write_json(self.folder / JOB, about)

    def update(self) -> None:
        """Read what the job has written since the last time."""
        with contextlib.suppress(OSError), (self.folder / EVENTS).open("rb") as file:
            file.seek(self._read)
            lines = file.read()
            end = lines.rfind(b"\n") + 1  # what follows is incomplete
            self._read += end
            for line in lines[:end].splitlines():
                with contextlib.suppress(ValueError, KeyError, TypeError):
                    event = json.loads(line)
                    self.events[event["run"]] = Event(event["state"], event.get("error"))

    def state(self, identity: str) -> str | None:
        """What is known of one of its runs; None: it has not begun."""
        event = self.events.get(identity)
        return None if event is None else event.state

    def of_state(self, state: str) -> set[str]:
        """The runs in a state."""
        return {identity for identity, event in self.events.items() if event.state == state}

    def drop(self) -> None:
        """Delete its folder."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def mark_told(self) -> None:
        """Keep its files, as failed runs have logs there, until the next command."""
        with contextlib.suppress(OSError):
            (self.folder / TOLD).touch()


class Records:
    """The jobs of an output folder.

    Args:
        output: the output folder.
    """

    def __init__(self, output: Path) -> None:
        self.folder = output.absolute() / FOLDER

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Only one command at a time looks what is queued and submits what is not."""
        with files.disk_errors(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
        with FileLock(self.folder / ".lock"):
            yield

    def load(self) -> list[Record]:
        """All jobs, in the order of their submission; those that an earlier command has concluded are deleted."""
        found: list[tuple[float, Record]] = []
        for path in sorted(self.folder.glob(f"*/{JOB}")):
            with contextlib.suppress(LacunaError, KeyError, TypeError, OSError):
                record = Record.load(path.parent)
                if (path.parent / TOLD).exists():
                    record.drop()
                else:
                    record.update()
                    found.append((path.stat().st_mtime, record))
        return [record for _, record in sorted(found, key=lambda entry: entry[0])]

    def new_folder(self) -> Path:
        """A folder for the files of one more job."""
        folder = self.folder / uuid.uuid4().hex[:12]
        with files.disk_errors(folder):
            folder.mkdir(parents=True)
        return folder

    def add(self, folder: Path, id: str, queue: str, jobs: Iterable[Job]) -> Record:
        """Remember a job that was submitted."""
        record = Record(folder, id, queue, here(), (job.identity for job in jobs))
        record.save()
        return record


def give_up(folder: Path, run: str) -> None:
    """Ask a job to stop one of its runs, or not to start it."""
    (folder / f"{STOP}{run}").touch()


def given_up(folder: Path) -> set[str]:
    """The runs that a job was asked to stop; called in the job."""
    return {path.name.removeprefix(STOP) for path in folder.glob(f"{STOP}*")}


def write_event(folder: Path, run: str, state: str, error: str | None = None) -> None:
    """Add a line for a run; called in the job."""
    event: dict[str, Any] = {"run": run, "state": state, "time": time.time()}
    if error is not None:
        event["error"] = error
    with (folder / EVENTS).open("a", encoding="utf-8") as file:
        file.write(json.dumps(event) + "\n")
