"""One sweep from its problem to its results: do the missing trials, then print and write what came out."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any

from lacuna.drawing.text_table import text_table
from lacuna.executors.base import Executor
from lacuna.executors.schedule import Schedule
from lacuna.search.command import train_command, train_words
from lacuna.search.loop import Loop
from lacuna.search.page import best_rows, write_sweep_page
from lacuna.search.problem import Problem
from lacuna.search.pruner import Pruner, Rule
from lacuna.search.study import FAILED, PRUNED, Study
from lacuna.search.view import SweepView

BEST_SHOWN = 5
"""Trials in the table at the end."""


def run_trials(problem: Problem, study: Study, executor: Executor, wanted: int) -> str | None:
    """Do trials until ``wanted`` are finished or pruned.

    Returns:
        Why some are still missing; None if none are.

    Raises:
        LacunaError: runs that this executor cannot place or stop, or that do not have the metric.
    """
    done, rule = study.ended, Rule.of(problem.config["search"])
    if done >= wanted:
        return None
    resources = executor.resources(problem.config["trainer"].get("devices") or 1)
    executor.check([resources])
    if rule is not None:
        rule.check(executor)
    best = study.best
    with executor, SweepView(problem, done, wanted, None if best is None else best.value) as view:
        pruner = None if rule is None else Pruner(rule, problem, study)
        loop = Loop(problem, study, Schedule(executor), resources, wanted, view, pruner)
        loop.run()
    return loop.stopped


def print_start(problem: Problem, values: Mapping[str, Any]) -> None:
    """Print the sweep's folder, and the parameters that the command line fixes.

    Args:
        problem: the search.
        values: what the command line sets, by dotted key.
    """
    for key, spec in problem.config["search"]["parameters"].items():
        if spec is not None and key in values:
            print(f"{key}={values[key]} is set on the command line: it is not searched", file=sys.stderr)
    print(f"sweep: {problem.folder}", file=sys.stderr, flush=True)


def print_results(problem: Problem, study: Study, words: Sequence[str]) -> None:
    """Print the best trials and the best one as a command; write the page.

    Args:
        problem: the search.
        study: its trials.
        words: the overrides of the command line.
    """
    best, failed, pruned = study.best, len(study.of_state(FAILED)), len(study.of_state(PRUNED))
    command = None
    if best is not None:
        command = train_command(train_words(problem, best.raw, words))
        print(text_table(best_rows(problem, study, BEST_SHOWN)))
        print(f"the best trial as one run:\n{command}")
    print(f"page: {write_sweep_page(problem, study, command)}", flush=True)
    if pruned:
        print(f"{pruned} trials were pruned: others did better after as many epochs.", file=sys.stderr)
    if failed:
        print(f"{failed} trials failed; the page lists the reasons.", file=sys.stderr)
