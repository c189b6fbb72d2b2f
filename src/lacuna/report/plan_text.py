"""A plan as text: the tree of runs with their states, and an estimate of the time left."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from lacuna.drawing.durations import duration
from lacuna.executors.forecast import timed_text, total_seconds
from lacuna.runs.recipe import Recipe
from lacuna.runs.steps import Training
from lacuna.runs.title import group_title
from lacuna.tables.plan import ARCHIVED, DONE, UNNEEDED, Plan, PlannedRun

MOST_LINES = 200
"""Groups of runs that are listed."""

Estimate = Callable[[Recipe], float | None]
"""Seconds that a run will take; None: unknown."""
TrainingOf = Callable[[Recipe], Training | None]
"""How a run trains; None: it trains nothing."""


def plan_text(
    plan: Plan, estimate: Estimate, slots: int = 1, trainings: TrainingOf | None = None, gpus: int = 0
) -> str:
    """The tables, the tree of runs (all seeds of a run on one line), counts, training steps and the time left.

    Args:
        plan: the plan.
        estimate: of an unfinished run.
        slots: number of runs at a time for the estimate of the time left.
        trainings: how runs train; None: not shown.
        gpus: number of GPUs if runs share them: ``estimate`` is time of a GPU, and ``slots`` unused. 0: they do not.
    """
    lines = [f"{table.spec.name}: {table.spec.title} ({len(table.cells)} cells)" for table in plan.tables]
    seeds = max((table.seeds for table in plan.tables), key=len)  # a figure has one
    lines.append(f"budget {plan.tables[0].budget}, {'seed' if len(seeds) == 1 else 'seeds'} {_listed(seeds)}")
    if plan.assumed_data:
        lines.append(
            f"data not on this machine: {', '.join(plan.assumed_data)} (planned from the published numbers of images; "
            "which of these runs are done is known once the data are here)"
        )
    left_out = [name for name in plan.missing_data if name not in plan.assumed_data]
    if left_out:
        lines.append(f"data not on this machine: {', '.join(left_out)} (their cells are left out of this plan)")
    tree = list(_tree(plan, estimate, trainings))
    lines += ["", *tree[:MOST_LINES]]
    if len(tree) > MOST_LINES:
        lines.append(f"... and {len(tree) - MOST_LINES} more lines")
    shared = f" on {gpus} GPU{'s' if gpus > 1 else ''}, shared by several runs each"
    at_a_time = shared if gpus else f" with {slots} at a time"
    lines += ["", *_summary(plan, estimate, gpus or slots, trainings, at_a_time if gpus or slots > 1 else "")]
    return "\n".join(lines)


def _listed(seeds: tuple[int, ...]) -> str:
    whole = len(seeds) > 3 and list(seeds) == list(range(seeds[0], seeds[0] + len(seeds)))
    return f"{seeds[0]} to {seeds[-1]}" if whole else ", ".join(map(str, seeds))


def _tree(plan: Plan, estimate: Estimate, trainings: TrainingOf | None) -> Iterator[str]:
    """Runs without prerequisites at the left; runs that build on them are indented."""
    groups: dict[str, list[PlannedRun]] = {}
    for run in plan.runs.values():
        groups.setdefault(_key(run), []).append(run)
    children: dict[str, list[str]] = {}
    roots = []
    for key, runs in groups.items():
        prerequisites = list(runs[0].recipe.prerequisites.values())
        if prerequisites:
            first = plan.runs[prerequisites[0].identity]
            children.setdefault(_key(first), []).append(key)
        else:
            roots.append(key)

    def lines(key: str, depth: int) -> Iterator[str]:
        yield "  " * depth + _line(groups[key], estimate, trainings)
        for child in children.get(key, ()):
            yield from lines(child, depth + 1)

    for root in roots:
        yield from lines(root, 0)


def _key(run: PlannedRun) -> str:
    return f"{run.recipe.group}-{run.recipe.family}"


def _line(runs: list[PlannedRun], estimate: Estimate, trainings: TrainingOf | None) -> str:
    states: dict[str, int] = {}
    for run in runs:
        states[run.state] = states.get(run.state, 0) + 1
    text = ", ".join(state if len(runs) == 1 else f"{count} {state}" for state, count in states.items())
    unfinished = [run for run in runs if run.state not in (DONE, ARCHIVED, UNNEEDED)]
    seconds = estimate(unfinished[0].recipe) if unfinished else None
    about = "" if seconds is None else f", ~{duration(seconds)}{' each' if len(unfinished) > 1 else ''}"
    times = f" x {len(runs)} seeds" if len(runs) > 1 else ""
    how = "" if trainings is None else f"; {_training_text(runs[0].recipe, trainings)}"
    return f"{group_title(runs[0].recipe)}{times}  [{text}{about}{how}]"


def _training_text(recipe: Recipe, trainings: TrainingOf) -> str:
    training = trainings(recipe)
    if training is not None:
        return str(training)
    return "a measurement" if recipe.measured else "no training"


def _amount(runs: list[PlannedRun], trainings: TrainingOf) -> str:
    """The training of some runs together: ``1,234 steps of 5 runs, 60 EM passes of 2; 3 train nothing``."""
    each_training = [trainings(run.recipe) for run in runs]
    trained = [each for each in each_training if each is not None]
    steps = [each.steps for each in trained if each.steps and not each.passes]
    passes = [each.epochs for each in trained if each.passes]
    unknown = sum(each.steps is None for each in trained)
    most = "at most " if any(each.early for each in trained) else ""
    parts = [f"{most}{sum(steps):,} steps of {len(steps)} runs"] if steps else []
    parts += [f"{sum(passes)} EM passes of {len(passes)}"] if passes else []
    parts += [f"{unknown} of unknown length"] if unknown else []
    nothing = len(each_training) - len(trained)
    rest = f"; {nothing} train nothing" if nothing else ""
    return f"{', '.join(parts) or 'none'}{rest}"


def _summary(plan: Plan, estimate: Estimate, slots: int, trainings: TrainingOf | None, at_a_time: str) -> list[str]:
    counts = ", ".join(f"{count} {state}" for state, count in plan.counts.items())
    lines = [f"{len(plan.runs)} runs: {counts or 'none'}"]
    if trainings is not None and plan.runs:
        lines.append(f"training: {_amount(list(plan.runs.values()), trainings)}")
        if 0 < len(plan.unfinished()) < len(plan.runs):
            lines.append(f"training left: {_amount(plan.unfinished(), trainings)}")
    estimates = [estimate(run.recipe) for run in plan.unfinished()]
    known = [seconds for seconds in estimates if seconds is not None]
    unknown = len(estimates) - len(known)
    seconds = total_seconds(known, unknown)
    if estimates and seconds is not None:
        lines.append(f"time left: ~{duration(seconds / max(slots, 1))}{at_a_time}{timed_text(len(known), unknown)}")
    elif estimates:
        lines.append("time left: unknown, because no similar run has finished yet")
    return lines
