"""Jobs that need each other, for tests of groups: by name, without configs."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from lacuna.executors.base import Job, Outcome, Resources
from lacuna.executors.slurm_groups import Group
from lacuna.files import write_json
from lacuna.runs.folder import RunFolder
from lacuna.runs.recipe import Recipe
from lacuna.runs.settings import Settings


def graph(
    output: Path, needs: Mapping[str, Iterable[str]], resources: Resources | None = None, **orders: Any
) -> list[Job]:
    """Jobs called as the keys, which need those in the values (listed before them).

    Args:
        output: their folder.
        needs: prerequisites by name.
        resources: of each.
        orders: for :func:`pretend`: names of jobs that ``fail`` until there is a file ``mended``, are ``killed`` at
            first with their job, or ``hold`` on until there is a file ``go``; ``devices`` for :class:`Settings`.
    """
    recipes: dict[str, Recipe] = {}
    for name, needed in needs.items():
        config: dict[str, Any] = {"task": {"name": "density"}, "density": {"name": name}, "budget": "paper", "seed": 0}
        config |= {"data": {"name": "d"}, "mask": {"name": "m"}}
        if parts := {other: recipes[other].config for other in needed}:
            config["prerequisites"] = parts
        recipes[name] = Recipe(config)
    settings = Settings(output=output, data_root=output / "data", trainer=orders)
    return [Job(recipe, settings, resources or Resources(1)) for recipe in recipes.values()]


def name_of(job: Job) -> str:
    """The name of a job."""
    return str(job.recipe.config["density"]["name"])


def names(groups: Sequence[Group]) -> list[str]:
    """The names of the jobs of each group, in a word."""
    return ["".join(map(name_of, group.jobs)) for group in groups]


def pretend(job: Job) -> Outcome:
    """What these workers do instead of training: a line in ``output/NAME.txt`` when it begins, one when it is done."""
    orders, name, output = job.settings.trainer, name_of(job), job.settings.output
    notes = output / f"{name}.txt"
    with notes.open("a") as file:
        print("begun", file=file)
    if name in orders.get("killed", ()) and len(notes.read_text().splitlines()) == 1:
        os.kill(os.getppid(), signal.SIGKILL)
        os._exit(1)
    try:
        while name in orders.get("hold", ()) and not (output / "go").exists():
            time.sleep(0.02)
    except KeyboardInterrupt:
        with notes.open("a") as file:
            print("saved", file=file)
        return Outcome.stopped(job.identity)
    if name in orders.get("fail", ()) and not (output / "mended").exists():
        return Outcome(job.identity, "mend this.")
    for needed in job.recipe.prerequisites.values():
        if not RunFolder.of(output, needed).finished:
            return Outcome(job.identity, "a prerequisite is not done.")
    job.folder.path.mkdir(parents=True)
    write_json(job.folder.path / "metrics.json", {})
    with notes.open("a") as file:
        print("done", file=file)
    return Outcome(job.identity)


def told(output: Path, name: str) -> list[str]:
    """What became of a job."""
    notes = output / f"{name}.txt"
    return notes.read_text().split() if notes.exists() else []
