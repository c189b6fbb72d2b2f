"""Do the unfinished runs of a plan on an executor, until all are done or the time limit is reached."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lacuna.executors.base import Executor, Job, Resources
from lacuna.executors.live_view import LiveView
from lacuna.executors.opening import open_executor, shares_gpus
from lacuna.executors.schedule import BLOCKED, DONE, FAILED, INTERRUPTED, RUNNING, WAITING, Schedule, Task
from lacuna.executors.signals import stop_on_signals
from lacuna.executors.time_limit import TimeLimit, run_until_limit
from lacuna.tables.estimate import Estimates
from lacuna.tables.plan import FAILED as FAILED_BEFORE
from lacuna.tables.plan import Plan, PlannedRun


@dataclass(frozen=True)
class RunSummary:
    """What is left after :func:`run_plan`.

    Args:
        failed: tasks that failed, or need one that did.
        unfinished: number of runs that did not end.
        started: number of those that were started by this command.
        progressed: whether anything lasting was done: a run finished or a checkpoint was saved.
    """

    failed: tuple[Task, ...] = ()
    unfinished: int = 0
    started: int = 0
    progressed: bool = False


def run_plan(plan: Plan, config: Mapping[str, Any], limit: TimeLimit) -> RunSummary:
    """Do the unfinished runs of a plan, until the time limit.

    Args:
        plan: the plan; its data must be on this machine.
        config: of the verb ``reproduce``.
        limit: the time limit.

    Raises:
        LacunaError: a run asks for more than the executor has.
    """
    if plan.assumed_data:
        raise ValueError("a plan with data from published counts cannot be run")
    unfinished = plan.unfinished()
    if not unfinished or limit.reached:
        return RunSummary(unfinished=len(unfinished))
    stop_on_signals()
    executor = open_executor(config)
    with executor:
        jobs = _jobs(unfinished, executor, config, limit)
        accelerator, root = config["trainer"]["accelerator"], config["data"]["root"]
        estimates = Estimates(plan.output, accelerator, plan.archive.folder, root, shared=shares_gpus(config))
        expected = {job.identity: estimates.wall(job.recipe) for job in jobs}
        executor.begin(jobs, expected)
        finished = len(plan.runs) - len(jobs)
        with LiveView(len(plan.runs), finished, expected, limit_text=lambda: limit.text) as view:
            schedule = Schedule(executor, [view])
            for job in jobs:
                schedule.add(job, plan.runs[job.identity].cells)
            if executor.detached:
                while schedule.advance(0):
                    pass
            else:
                run_until_limit(schedule, limit, lambda: view.tick(schedule.running()), view.log)
    return _summary(schedule.tasks.values())


def prerequisites_first(runs: Sequence[PlannedRun]) -> list[PlannedRun]:
    """Prerequisites before all other runs, so that the last runs of a graph are short ones.

    Runs that failed before come last: they must not use up the time of every time limit.
    """
    needed = {other.identity for run in runs for other in run.recipe.prerequisites.values()}
    return sorted(runs, key=lambda run: (run.state == FAILED_BEFORE, run.recipe.identity not in needed))


def _jobs(runs: Sequence[PlannedRun], executor: Executor, config: Mapping[str, Any], limit: TimeLimit) -> list[Job]:
    devices = config["trainer"].get("devices") or 1
    resources = executor.resources(devices)
    if config["trainer"]["accelerator"] == "cpu":
        resources = Resources(resources.cpus, 0.0)
    jobs = [_job(run, resources, devices, config) for run in prerequisites_first(runs)]
    jobs = executor.prepare(jobs, limit.seconds_left)
    executor.check({job.resources for job in jobs})
    return jobs


def _job(run: PlannedRun, resources: Resources, devices: int, config: Mapping[str, Any]) -> Job:
    if config["executor"].get("cpus") is None and run.cpus is not None:
        resources = Resources(run.cpus * devices, resources.gpus)
    return Job(run.recipe, run.settings, resources)


def _summary(tasks: Collection[Task]) -> RunSummary:
    unfinished = [task for task in tasks if task.state in (WAITING, RUNNING, INTERRUPTED)]
    return RunSummary(
        failed=tuple(task for task in tasks if task.state in (FAILED, BLOCKED)),
        unfinished=len(unfinished),
        started=sum(task.started is not None for task in unfinished),
        progressed=any(task.state == DONE or (task.started and task.job.folder.resumable) for task in tasks),
    )
