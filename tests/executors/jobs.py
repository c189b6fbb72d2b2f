"""Jobs for tests of executors: what a worker does with them is said in their settings, and it notes what it found."""

from __future__ import annotations

import json
import multiprocessing.util
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

from lacuna.errors import LacunaError
from lacuna.executors.base import Executor, Job, Outcome, Resources, describe_error
from lacuna.runs.recipe import Recipe
from lacuna.runs.settings import Settings


def job(output: Path, name: str, resources: Resources | None = None, **orders: Any) -> Job:
    """A job that tells of itself in ``output/name``, one line a beginning.

    Args:
        output: a folder.
        name: the job's.
        resources: what it asks for.
        orders: ``seconds`` to take, ``company`` (so many jobs must have begun before it ends), ``deaths`` (how often
            its process is killed), ``fail`` (a sentence).
    """
    content = {"task": {"name": "density"}, "density": {"name": name}, "data": {"name": "d"}, "mask": {"name": "m"}}
    settings = Settings(output=output, data_root=output / "data", trainer=orders)
    return Job(Recipe({**content, "budget": "paper", "seed": 0}), settings, resources or Resources(1))


def follow_orders(job: Job) -> Outcome:
    """What these workers do instead of training."""
    orders, folder = job.settings.trainer, job.settings.output
    folder.mkdir(parents=True, exist_ok=True)
    notes = folder / str(job.recipe.config["density"]["name"])
    try:
        with notes.open("a") as file:
            file.write(json.dumps(_found()) + "\n")
        if len(told(notes)) <= orders.get("deaths", 0):
            os.kill(os.getpid(), signal.SIGKILL)
        until = time.monotonic() + orders.get("seconds", 0)
        while time.monotonic() < until or len(list(folder.glob("[a-z]*"))) < orders.get("company", 0):
            time.sleep(0.01)
        if "fail" in orders:
            raise LacunaError(orders["fail"])
    except KeyboardInterrupt:
        (folder / f"{notes.name}.interrupted").touch()
        return Outcome(job.identity, "interrupted", interrupted=True)
    except LacunaError as error:
        return Outcome(job.identity, describe_error(error, ""))
    return Outcome(job.identity)


def leave_together(job: Job) -> Outcome:
    """The same by a worker that does not end before one for every job of the folder is about to (or 60 s later)."""
    folder, number = job.settings.output, job.settings.trainer["company"]

    def leave() -> None:
        (folder / f"leaving-{os.getpid()}").touch()
        wait_for(lambda: len(list(folder.glob("leaving-*"))) == number)
        (folder / f"left-{os.getpid()}").touch()

    multiprocessing.util.Finalize(None, leave, exitpriority=0)
    return follow_orders(job)


def hear_nothing(job: Job) -> Outcome:
    """The same by a worker that does not listen."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    return follow_orders(job)


def _found() -> dict[str, Any]:
    keys = ("CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS")
    found = {"pid": os.getpid(), "began": time.time(), "cwd": os.getcwd(), "argv": sys.argv}
    return {**found, **{key: os.environ.get(key) for key in keys}, "torch": "torch" in sys.modules}


def told(notes: Path) -> list[dict[str, Any]]:
    """What a job has noted, one entry a beginning."""
    return [json.loads(line) for line in notes.read_text().splitlines()] if notes.exists() else []


def pid(output: Path, name: str) -> int:
    """The process that began a job last."""
    return int(told(output / name)[-1]["pid"])


def finish(executor: Executor, number: int, patience: float = 120) -> dict[str, Outcome]:
    """Wait for so many jobs to end; their outcomes by identity."""
    until = time.monotonic() + patience
    ended: dict[str, Outcome] = {}
    while len(ended) < number:
        for outcome in executor.wait(1.0):
            assert outcome.identity not in ended
            ended[outcome.identity] = outcome
        assert time.monotonic() < until, ended
    return ended


def do(executor: Executor, *jobs: Job) -> list[Outcome]:
    """Submit jobs and wait for all; the outcomes in their order."""
    for each in jobs:
        executor.submit(each)
    ended = finish(executor, len(jobs))
    return [ended[each.identity] for each in jobs]


def wait_for(condition: Any, patience: float = 60) -> None:
    """Until ``condition()`` holds."""
    until = time.monotonic() + patience
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.02)


def alive(pid: int) -> bool:
    """Whether a process runs (one that nobody has waited for yet does not)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] not in ("Z", "X")
    except (FileNotFoundError, ProcessLookupError):
        return False
