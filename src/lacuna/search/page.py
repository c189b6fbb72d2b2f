"""The page of a sweep: best trials, history, importance of parameters, failures. Imports no torch."""

from __future__ import annotations

import statistics
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

from lacuna.drawing.html_page import Picture, Section, Table, Text, write_page
from lacuna.errors import LacunaError
from lacuna.search import pictures
from lacuna.search.problem import Problem
from lacuna.search.study import FAILED, FINISHED, PRUNED, Study, Trial
from lacuna.search.view import short_names, trial_values

MOST_ROWS = 50
LEAST_FOR_IMPORTANCE = 4
"""Least number of finished trials for the importance of parameters."""


def best_rows(problem: Problem, study: Study, most: int) -> list[dict[str, Any]]:
    """The best trials, one row each; with several seeds also the standard deviation."""
    return [_row(problem, trial) for trial in study.ranked()[:most]]


def write_sweep_page(problem: Problem, study: Study, command: str | None) -> Path:
    """Write ``index.html`` in the sweep's folder.

    Args:
        command: the best trial as a command of ``train.py``.
    """
    finished, failed, pruned = study.ranked(), study.of_state(FAILED), study.of_state(PRUNED)
    lead = f"{len(finished)} finished trials" + (f", {len(pruned)} pruned" if pruned else "")
    if finished:
        lead += f"; the best {problem.metric} is {finished[0].value:.5g} (trial {finished[0].number})"
    path = problem.folder / "index.html"
    sections = [*_results(problem, study, command), *_plots(problem, study, finished)]
    sections += [*_pruned(problem, pruned), *_failures(problem, failed)]
    write_page(path, f"Sweep {problem.name}", sections, lead=lead + ".", footer=_footer(problem))
    return path


def importance(problem: Problem, study: Study) -> dict[str, float]:
    """The share of the metric's variance that each parameter explains (functional ANOVA; Hutter et al., ICML 2014).

    Empty with too few trials, one parameter, or equal values of all trials.
    """
    values = [trial.value for trial in study.of_state(FINISHED) if trial.value is not None]
    if len(values) < LEAST_FOR_IMPORTANCE or len(set(values)) < 2 or len(problem.parameters) < 2:
        return {}
    import optuna.importance

    clipped = dict(zip(values, pictures.clipped(problem, values), strict=True))
    found: dict[str, float] = optuna.importance.get_param_importances(
        study.in_memory(),
        evaluator=optuna.importance.FanovaImportanceEvaluator(seed=0),
        target=lambda frozen: clipped[cast(float, frozen.value)],
    )
    return found


def _row(problem: Problem, trial: Trial) -> dict[str, Any]:
    row: dict[str, Any] = {"trial": str(trial.number), problem.metric: trial.value}
    if len(problem.seeds) > 1:
        with suppress(LacunaError, OSError, ValueError):  # runs may have been deleted since
            row["± over seeds"] = statistics.stdev(problem.result(problem.recipes(trial.raw)))
    return row | trial_values(problem, trial)


def _results(problem: Problem, study: Study, command: str | None) -> list[Section]:
    rows = best_rows(problem, study, MOST_ROWS)
    runs = f"the mean over seeds {', '.join(map(str, problem.seeds))}" if len(problem.seeds) > 1 else "one run a trial"
    caption = f"Finished trials, the best one first ({problem.metric}, {problem.direction}, {runs})."
    sections: list[Section] = [Table(rows, caption, "Trials", digits=5)]
    if command is not None:
        sections.insert(0, Text(command, "The best trial as one run"))
    return sections


def _plots(problem: Problem, study: Study, finished: list[Trial]) -> list[Section]:
    if not finished:
        return []
    sections: list[Section] = [
        Picture(
            pictures.history(problem, sorted(finished, key=lambda trial: trial.number)),
            "The metric of every trial and the best so far",
            "Each dot is a trial; the line is the best so far. Much worse values are drawn at the edge.",
            "History",
        )
    ]
    shares = importance(problem, study)
    if shares:
        names = short_names(list(shares))
        sections.append(
            Picture(
                pictures.bars({names[key]: share for key, share in shares.items()}),
                "Importance of each parameter",
                "The share of the metric's variance that each parameter explains over the space (functional ANOVA)."
                " With few trials this is a rough estimate.",
                "Importance of parameters",
            )
        )
    sections.append(
        Picture(
            pictures.slices(problem, finished),
            "The metric against each parameter",
            "The metric against each parameter; later trials are stronger in colour, the best one is ringed.",
            "Metric by parameter",
        )
    )
    return sections


def _pruned(problem: Problem, pruned: list[Trial]) -> list[Section]:
    if not pruned:
        return []
    rows: list[dict[str, Any]] = [
        {"trial": str(t.number), "epochs": str(t.epochs), problem.metric: t.value, **trial_values(problem, t)}
        for t in pruned
    ]
    caption = "Stopped because others did better after as many epochs; the value is the last one of the first run."
    return [Table(rows, caption, "Pruned trials", digits=5)]


def _failures(problem: Problem, failed: list[Trial]) -> list[Section]:
    if not failed:
        return []
    rows = [{"trial": str(t.number)} | trial_values(problem, t) | {"reason": _last_line(t.error)} for t in failed]
    return [Table(rows, "Details are in the log.txt of the run.", "Failed trials")]


def _last_line(text: str | None) -> str:
    return ((text or "").strip().splitlines() or ["unknown"])[-1]


def _footer(problem: Problem) -> str:
    return (
        "This search used no test images. The best of many validation values is optimistic: judge the best trial by a"
        " test metric of its run, once.\n\n"
        f"The trials are in optuna.log, the fixed settings in sweep.json (data {problem.fingerprint})."
    )
