"""The verb ``reproduce``: plan tables, train what is missing, show the tables."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from lacuna import plugins
from lacuna.config.composer import Composer
from lacuna.config.folders import Configs
from lacuna.config.paths import CONFIGS
from lacuna.executors.opening import shares_gpus
from lacuna.executors.run_plan import RunSummary, run_plan
from lacuna.executors.time_limit import TimeLimit
from lacuna.report.plan_text import plan_text
from lacuna.report.render import render, text
from lacuna.report.run_summary import failure_lines, unfinished_text
from lacuna.runs.folder import outdated_notice
from lacuna.runs.machine import gpu_count
from lacuna.runs.mirror_options import MirrorOptions
from lacuna.runs.steps import Trainings
from lacuna.tables.estimate import Estimates
from lacuna.tables.labels import group_of, label
from lacuna.tables.plan import Plan, plan_tables
from lacuna.tables.request import find_tables, run_options
from lacuna.tables.select import selected
from lacuna.verbs.command import CRASHED, DONE, MORE


@plugins.permitting
def main(config: dict[str, Any], started: float | None = None, configs: Configs = CONFIGS) -> int:
    """Train what is missing and show the tables.

    Args:
        config: of the verb.
        started: start of the command on the monotonic clock, from which ``minutes`` counts.
        configs: the config folders.

    Returns:
        0; 75 if the time limit was reached, or something stopped a run, before all runs were tried; otherwise 1 if runs
        failed.
    """
    limit = TimeLimit(config["minutes"], started)
    output = Path(config["output"])
    if notice := outdated_notice(output):
        print(notice, file=sys.stderr, flush=True)
    train = not (config["plan"] or config["render"])
    plan = _plan(config, limit, configs, prepare=train)
    if config["plan"]:
        accelerator, root, shared = config["trainer"]["accelerator"], config["data"]["root"], shares_gpus(config)
        estimates = Estimates(output, accelerator, config["results"], root, shared=shared)
        gpus = gpu_count() if shared else 0
        print(plan_text(plan, estimates, trainings=Trainings(root), gpus=gpus))
        return DONE
    group = group_of(plan, config["table"])
    label(plan, group)
    summary = run_plan(plan, config, limit) if train else RunSummary()
    pages = render(plan, output / "tables")
    print(text(plan))
    for page in pages:
        print(f"page: {page}")
    _mirror(plan, group, MirrorOptions.of(config["logger"]))
    return _conclude(summary, plan, limit) if train else DONE


def _mirror(plan: Plan, group: str, options: MirrorOptions) -> None:
    """Show in the mirrors the runs that were finished before this command, and the tables."""
    if not options.names:
        return
    from lacuna.training.mirrors.afterwards import mirror_finished

    mirror_finished((run.recipe, run.settings) for run in plan.runs.values())
    if "wandb" in options.names:
        from lacuna.verbs.table_dashboard import log_tables

        log_tables(plan, group, options)


def _plan(config: dict[str, Any], limit: TimeLimit, configs: Configs, *, prepare: bool) -> Plan:
    """The plan of the tables that the command line chose."""
    cache = Path(config["output"]) / ".cache"
    tables = find_tables(config.get("table"), Composer(configs, "reproduce", cache))
    specs = selected(tables, config["rates"], config["rows"])
    composer = Composer(configs, "train", cache)
    options = run_options(config, prepare=prepare, limit=limit, assume_data=bool(config["plan"]), configs=configs)
    plan = plan_tables(specs, composer, options)
    composer.save()
    return plan


def _conclude(summary: RunSummary, plan: Plan, limit: TimeLimit) -> int:
    """Print what is not done and how to go on; the exit code."""
    for line in failure_lines(summary):
        print(line, file=sys.stderr)
    if summary.unfinished or (limit.reached and plan.missing_data):
        print(unfinished_text(summary, plan, limit), file=sys.stderr)
        return MORE
    if summary.failed:
        print("Run the same command again to retry them.", file=sys.stderr)
        return CRASHED
    return DONE
