"""The verb ``reproduce``: plan tables, train what is missing, show the tables."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lacuna import registry
from lacuna.config.composer import Composer
from lacuna.config.paths import CONFIGS
from lacuna.executors.base import Executor, Job, Resources
from lacuna.executors.live_view import LiveView
from lacuna.executors.schedule import BLOCKED, FAILED, INTERRUPTED, WAITING, Schedule, Task
from lacuna.executors.schedule import DONE as DONE_HERE
from lacuna.executors.signals import stop_on_sigterm
from lacuna.executors.time_box import TimeBox, work_off
from lacuna.report.plan_text import plan_text
from lacuna.report.render import render, text
from lacuna.runs.steps import Trainings
from lacuna.tables.estimate import Estimates
from lacuna.tables.plan import FAILED as FAILED_BEFORE
from lacuna.tables.plan import Plan, PlannedRun, plan_tables
from lacuna.tables.request import find_tables, wishes
from lacuna.tables.select import narrowed
from lacuna.verbs.command import CRASHED, DONE, MORE


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
    needed = {other.identity for run in runs for other in run.recipe.prerequisites.values()}
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
