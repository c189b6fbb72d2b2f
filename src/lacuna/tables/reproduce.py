"""The verb ``reproduce``: plan tables, train what is missing, show the tables."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lacuna import registry
from lacuna.cli import CONFIGS, CRASHED, DONE, MORE
from lacuna.composer import Composer
from lacuna.errors import LacunaError
from lacuna.executors.base import Executor, Job, Resources
from lacuna.executors.signals import stop_on_sigterm
from lacuna.runs.steps import Trainings
from lacuna.tables.box import TimeBox, work_off
from lacuna.tables.estimate import Estimates
from lacuna.tables.live import LiveView
from lacuna.tables.narrow import narrowed
from lacuna.tables.plan import FAILED as FAILED_BEFORE
from lacuna.tables.plan import Plan, PlannedRun, Wishes, plan_tables
from lacuna.tables.render import render, text
from lacuna.tables.schedule import BLOCKED, FAILED, INTERRUPTED, WAITING, Schedule, Task
from lacuna.tables.schedule import DONE as DONE_HERE
from lacuna.tables.show_plan import plan_text
from lacuna.tables.spec import TableSpec, table_spec

FORMULAS = ("exact", "paper", "authors")
FORMULA = "stem.formula"


def main(config: dict[str, Any], started: float | None = None) -> int:
    """Do what is missing and show the tables.

    Args:
        config: of the verb.
        started: when the command began, on the monotonic clock: ``minutes`` count from there.

    Returns:
        0; 75 where the time box ended, or something stopped a run, before everything was tried; otherwise 1 if runs
        failed.
    """
    box = TimeBox(config["minutes"], started)
    output = Path(config["output"])
    cache = output / ".cache"
    chosen = find_tables(config.get("table"), Composer(CONFIGS, "reproduce", cache))
    specs = narrowed(chosen, config["rates"], config["rows"])
    look_only = bool(config["plan"] or config["render"])
    composer = Composer(CONFIGS, "train", cache)
    plan = plan_tables(specs, composer, wishes(config, prepare=not look_only, box=box, assume=config["plan"]))
    composer.save()
    if config["plan"]:
        estimates = Estimates(output, config["trainer"]["accelerator"], config["results"])
        print(plan_text(plan, estimates, trainings=Trainings(config["data"]["root"])))
        return DONE
    ended = Ended() if look_only else train(plan, config, box)
    written = render(plan, output / "tables")
    print(text(plan))
    for path in written:
        print(f"look at {path}")
    return DONE if look_only else conclude(ended, plan, box)


def find_tables(config: Mapping[str, Any] | None, composer: Composer) -> list[TableSpec]:
    """The tables a config stands for: itself, or those that it lists.

    Raises:
        LacunaError: no table was chosen.
    """
    if not config:
        raise LacunaError("table is empty: choose one, for instance table=demo; --help lists them.")
    if "tables" not in config:
        return [table_spec(config)]
    found: list[TableSpec] = []
    for name in config["tables"]:
        found += find_tables(composer.base([f"table={name}"])["table"], composer)
    composer.save()
    return found


def wishes(config: Mapping[str, Any], *, prepare: bool, box: TimeBox | None = None, assume: bool = False) -> Wishes:
    """What the verb's config asks of every run.

    Args:
        config: of the verb.
        prepare: whether to make data that are missing, as long as the ``box`` lasts.
        box: when to stop.
        assume: whether to plan with the published counts of what is missing.

    Raises:
        LacunaError: seeds that are no numbers, or an override that cannot be read.
    """
    from lacuna.composing import split_overrides

    choices, values = split_overrides(CONFIGS, [str(word) for word in config["overrides"]])
    for forbidden in ("seed", "output", "results", "budget", "trainer", "logger", "data.root", "data.download"):
        if any(
            key == forbidden or key.startswith(f"{forbidden}.")
            for key in [*values, *(c.split("=")[0] for c in choices)]
        ):
            raise LacunaError(f"{forbidden} is not set behind -- but before it, with {forbidden}=... or seeds=... .")
    values = {**_formula(config, values), **values}
    infrastructure = {
        "output": str(config["output"]),
        "trainer": {**config["trainer"], "progress": False},
        "logger": config["logger"],
        "data": config["data"],
    }
    return Wishes(
        budget=config["budget"],
        seeds=seeds_of(config["seeds"]),
        choices=choices,
        values=values,
        infrastructure=infrastructure,
        prepare=lambda: prepare and not (box and box.over),
        assume=assume,
        archive=None if config["results"] is None else Path(str(config["results"])),
    )


def _formula(config: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, str]:
    """``formula=`` as the value it stands for: nothing, where it is that of all configs."""
    formula = config["formula"]
    if formula not in FORMULAS:
        raise LacunaError(f"formula={formula} is none of {', '.join(FORMULAS)}.")
    if formula == "exact":
        return {}
    if FORMULA in values:
        raise LacunaError(
            f"formula={formula} and {FORMULA}={values[FORMULA]} behind -- say the same twice: leave out one."
        )
    return {FORMULA: formula}


def seeds_of(given: Any) -> tuple[int, ...]:
    """``None``: seed 0; a number: so many seeds from 0; a list: those."""
    if given is None:
        return (0,)
    if isinstance(given, int) and not isinstance(given, bool) and given >= 1:
        return tuple(range(given))
    whole = isinstance(given, Sequence) and not isinstance(given, str) and all(type(seed) is int for seed in given)
    if whole and given and len(set(given)) == len(given):
        return tuple(given)
    raise LacunaError(
        f"seeds={given} must be a number of at least 1 or a list of different seeds, as in seeds=[0,1,2]."
    )


@dataclass(frozen=True)
class Ended:
    """What was not done.

    Args:
        failed: tasks that failed, or need one that did.
        left: how many runs were not tried to their end.
        begun: how many of those have begun here.
        moved: whether anything was done that lasts: a run, or a step of one.
    """

    failed: tuple[Task, ...] = ()
    left: int = 0
    begun: int = 0
    moved: bool = False


def train(plan: Plan, config: Mapping[str, Any], box: TimeBox) -> Ended:
    """Do what is not done, as long as the box lasts."""
    if plan.assumed_data:
        raise ValueError("a plan from published counts is to be looked at only")
    missing = plan.open()
    if not missing or box.over:
        return Ended(left=len(missing))
    stop_on_sigterm()
    executor: Executor = registry.build("executor", config["executor"])
    devices = config["trainer"].get("devices") or 1
    with executor:
        resources = executor.resources(devices)
        if config["trainer"]["accelerator"] == "cpu":
            resources = Resources(resources.cpus, 0.0)
        jobs = [_job(run, resources, devices, config) for run in first_what_others_need(missing)]
        executor.check({job.resources for job in jobs})
        estimates = Estimates(plan.output, config["trainer"]["accelerator"], plan.archive.folder)
        expected = {job.identity: estimates(job.recipe) for job in jobs}
        with LiveView(len(plan.runs), len(plan.runs) - len(jobs), expected, box=lambda: box.text) as view:
            schedule = Schedule(executor, [view])
            for job in jobs:
                schedule.add(job, plan.runs[job.identity].cells)
            work_off(schedule, box, lambda: view.tick(schedule.running()), view.say)
    tasks = schedule.tasks.values()
    left = [task for task in tasks if task.state in (WAITING, INTERRUPTED)]
    return Ended(
        failed=tuple(task for task in tasks if task.state in (FAILED, BLOCKED)),
        left=len(left),
        begun=sum(task.started is not None for task in left),
        moved=any(task.state == DONE_HERE or (task.started and task.job.folder.resumable) for task in tasks),
    )


def first_what_others_need(runs: Sequence[PlannedRun]) -> list[PlannedRun]:
    """Needed runs before those that need them, and before what nobody waits for: so the last ones to end are short.

    What failed before comes last: it must not take the time of every time box.
    """
    needed = {other.identity for run in runs for other in run.recipe.needs.values()}
    return sorted(runs, key=lambda run: (run.state == FAILED_BEFORE, run.recipe.identity not in needed))


def _job(run: PlannedRun, resources: Resources, devices: int, config: Mapping[str, Any]) -> Job:
    if config["executor"].get("cpus") is None and run.cpus is not None:
        resources = Resources(run.cpus * devices, resources.gpus)
    return Job(run.recipe, run.settings, resources)


def conclude(ended: Ended, plan: Plan, box: TimeBox) -> int:
    """Say what is missing and how to go on; the exit code."""
    if ended.failed:
        print(f"{len(ended.failed)} runs are missing:", file=sys.stderr)
    for task in ended.failed:
        reason = (task.error or "").strip().splitlines() or [task.state]
        where = task.cells[0] if task.cells else ""
        more = f" and {len(task.cells) - 1} more cells" if len(task.cells) > 1 else ""
        print(f"  {task.job.title} ({where}{more}): {reason[-1]}", file=sys.stderr)
    if ended.left or (box.over and plan.missing_data):
        print(_left(ended, plan, box), file=sys.stderr)
        return MORE
    if ended.failed:
        print("Run the same command again to try them once more.", file=sys.stderr)
        return CRASHED
    return DONE


def _left(ended: Ended, plan: Plan, box: TimeBox) -> str:
    """One line: what is left, and that the same command goes on."""
    text = f"{ended.left} of {len(plan.runs)} runs are left"
    text += f" ({ended.begun} of them begun here)" if ended.begun else ""
    text += f", and the data {', '.join(plan.missing_data)} to prepare" if plan.missing_data else ""
    text = f"the time box of {box} has ended: {text}" if box.over else text
    text += ". Run the same command again to go on."
    if box.over and not ended.moved:
        text += " That was too short for a run to get anywhere: give it more minutes."
    return text
