"""The verb ``sweep``: search hyper-parameters; trials are runs like any other."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lacuna import registry
from lacuna.config.paths import CONFIGS
from lacuna.drawing.text_table import text_table
from lacuna.errors import LacunaError
from lacuna.executors.base import Executor
from lacuna.executors.schedule import Schedule
from lacuna.executors.signals import stop_on_sigterm
from lacuna.search.command import train_command, train_words
from lacuna.search.loop import Loop
from lacuna.search.page import best_rows, write_sweep_page
from lacuna.search.problem import Problem, write_description
from lacuna.search.study import FAILED, FINISHED, Study
from lacuna.search.view import SweepView

SHOWN = 5
"""Trials in the table at the end."""


def main(config: dict[str, Any], words: Sequence[str] = ()) -> int:
    """Search until there are ``trials`` finished trials; 1 if some are missing in the end.

    Args:
        config: the composed configuration.
        words: the overrides it was composed from; a key that is set there is not searched.
    """
    from lacuna.config.compose import split_overrides

    wanted = _trials(config)
    _, values = split_overrides(CONFIGS, list(words))
    problem = Problem.of(config, values)
    executor: Executor = registry.build("executor", config["executor"])
    _announce(problem, values)
    stop_on_sigterm()
    with Study.opened(problem) as study:
        write_description(problem)
        stopped = search(problem, study, executor, wanted)
        return _conclude(problem, study, wanted, stopped, words)


def search(problem: Problem, study: Study, executor: Executor, wanted: int) -> str | None:
    """Do the trials that are missing; why some still are, if that is so.

    Raises:
        LacunaError: runs that this executor cannot place, or that do not have the metric.
    """
    done = len(study.of_state(FINISHED))
    if done >= wanted:
        return None
    resources = executor.resources(problem.config["trainer"].get("devices") or 1)
    executor.check([resources])
    best = study.best
    with executor, SweepView(problem, done, wanted, None if best is None else best.value) as view:
        loop = Loop(problem, study, Schedule(executor), resources, wanted, view)
        loop.run()
    return loop.stopped


def _trials(config: Mapping[str, Any]) -> int:
    trials = config["trials"]
    if type(trials) is not int or trials < 1:
        raise LacunaError(f"trials={trials} must be a whole number of at least 1.")
    return trials


def _announce(problem: Problem, values: Mapping[str, Any]) -> None:
    searched = [key for key, spec in problem.config["search"]["parameters"].items() if spec is not None]
    for key in searched:
        if key in values:
            print(f"{key}={values[key]} is fixed by the command line and not searched", file=sys.stderr)
    print(f"sweep: {problem.folder}", file=sys.stderr, flush=True)


def _conclude(problem: Problem, study: Study, wanted: int, stopped: str | None, words: Sequence[str]) -> int:
    """Say what came out; write the page."""
    best, finished, failed = study.best, len(study.of_state(FINISHED)), len(study.of_state(FAILED))
    command = None
    if best is not None:
        command = train_command(train_words(problem, best.raw, words))
        print(text_table(best_rows(problem, study, SHOWN)))
        print(f"the best trial as one run:\n{command}")
    page: Path = write_sweep_page(problem, study, command)
    print(f"look at {page}", flush=True)
    if failed:
        print(f"{failed} trials failed; the page says why.", file=sys.stderr)
    if finished >= wanted:
        return 0
    reason = f": {stopped}" if stopped else ""
    print(f"{wanted - finished} of {wanted} trials are missing{reason}", file=sys.stderr)
    print("Run the same command again to go on.", file=sys.stderr)
    return 1
