"""The verb ``sweep``: search hyper-parameters; trials are runs like any other."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any

from lacuna import plugins
from lacuna.config.folders import Configs
from lacuna.config.paths import CONFIGS
from lacuna.errors import LacunaError
from lacuna.executors.opening import open_executor
from lacuna.executors.signals import stop_on_signals
from lacuna.extras import installed, require
from lacuna.program import command_text
from lacuna.search.problem import Problem, write_description
from lacuna.search.study import FINISHED, Study
from lacuna.search.sweep import print_results, print_start, run_trials
from lacuna.verbs.command import CRASHED, DONE


@plugins.permitting
def main(config: dict[str, Any], words: Sequence[str] = (), configs: Configs = CONFIGS) -> int:
    """Search until ``trials`` trials are finished or pruned.

    Args:
        config: the composed configuration.
        words: the overrides that it was composed from; keys that they set are not searched.
        configs: the config folders.

    Returns:
        0; 1 if trials are missing in the end.
    """
    from lacuna.config.compose import split_overrides

    if not installed("optuna"):  # before data are prepared
        require("optuna", "sweep", command_text("sweep"))
    wanted = _trials(config)
    _, values = split_overrides(configs, list(words))
    problem = Problem.of(config, values)
    executor = open_executor(config)
    print_start(problem, values)
    stop_on_signals()
    with Study.opened(problem) as study:
        write_description(problem)
        stopped = run_trials(problem, study, executor, wanted)
        print_results(problem, study, words)
        _mirror(problem, study)
        missing = wanted - study.ended
    if missing <= 0:
        return DONE
    reason = f": {stopped}" if stopped else ""
    print(f"{missing} of {wanted} trials are missing{reason}", file=sys.stderr)
    print("Run the same command again to go on.", file=sys.stderr)
    return CRASHED


def _mirror(problem: Problem, study: Study) -> None:
    """Show in the mirrors the runs that were finished before this command."""
    if not problem.settings.mirrors.names:
        return
    from lacuna.training.mirrors.afterwards import mirror_finished

    trials = study.of_state(FINISHED)
    mirror_finished((recipe, problem.settings) for trial in trials for recipe in problem.recipes(trial.raw))


def _trials(config: Mapping[str, Any]) -> int:
    trials = config["trials"]
    if type(trials) is not int or trials < 1:
        raise LacunaError(f"trials={trials} must be a whole number of at least 1.")
    return trials
