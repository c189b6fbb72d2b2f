"""A plan as text: what would be done, what is done, and how long the rest may take."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from lacuna.drawing.durations import duration
from lacuna.runs.recipe import Recipe
from lacuna.runs.steps import Training
from lacuna.tables.plan import ARCHIVED, DONE, UNNEEDED, Plan, PlannedRun

MOST_LINES = 200
"""Groups of runs that are listed one by one."""

Estimate = Callable[[Recipe], float | None]
"""Seconds that a run will take, or None where nothing like it was done yet."""
How = Callable[[Recipe], Training | None]
"""How a run trains, or None where it trains nothing."""


def plan_text(plan: Plan, estimate: Estimate, slots: int = 1, trainings: How | None = None) -> str:
    """The tables, the tree of runs (repetitions with other seeds on one line), counts, steps, and the time left.

    Args:
        plan: the plan.
        estimate: of a run not done.
        slots: how many runs at a time the estimate of the whole assumes.
        trainings: says how runs train; None: nothing is said of it.
    """
    lines = [f"{table.spec.name}: {table.spec.title} ({len(table.cells)} cells)" for table in plan.tables]
    seeds = max((table.seeds for table in plan.tables), key=len)  # a figure has one
    lines.append(f"budget {plan.tables[0].budget}, {'seed' if len(seeds) == 1 else 'seeds'} {_listed(seeds)}")
    if plan.assumed_data:
        lines.append(
            f"data not here: {', '.join(plan.assumed_data)} (planned from the published counts; what is done of these "
            "runs is known when the data are here)"
        )
    left_out = [name for name in plan.missing_data if name not in plan.assumed_data]
    if left_out:
        lines.append(f"data not here yet: {', '.join(left_out)} (their cells are left out of this plan)")
    tree = list(_tree(plan, estimate, trainings))
    lines += ["", *tree[:MOST_LINES]]
    if len(tree) > MOST_LINES:
        lines.append(f"... and {len(tree) - MOST_LINES} more lines")
    lines += ["", *_summary(plan, estimate, slots, trainings)]
    return "\n".join(lines)


def _listed(seeds: tuple[int, ...]) -> str:
    whole = len(seeds) > 3 and list(seeds) == list(range(seeds[0], seeds[0] + len(seeds)))
    return f"{seeds[0]} to {seeds[-1]}" if whole else ", ".join(map(str, seeds))


def _tree(plan: Plan, estimate: Estimate, trainings: How | None) -> Iterator[str]:
    """Runs without needs at the left, what builds on them one step further in."""
    groups: dict[str, list[PlannedRun]] = {}
    for run in plan.runs.values():
        groups.setdefault(_key(run), []).append(run)
    children: dict[str, list[str]] = {}
    roots = []
    for key, runs in groups.items():
        needs = list(runs[0].recipe.prerequisites.values())
        if needs:
            first = plan.runs[needs[0].identity]
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


def _line(runs: list[PlannedRun], estimate: Estimate, trainings: How | None) -> str:
    states: dict[str, int] = {}
    for run in runs:
        states[run.state] = states.get(run.state, 0) + 1
    text = ", ".join(state if len(runs) == 1 else f"{count} {state}" for state, count in states.items())
    left = [run for run in runs if run.state not in (DONE, ARCHIVED, UNNEEDED)]
    known = estimate(left[0].recipe) if left else None
    about = "" if known is None else f", about {duration(known)}{' each' if len(left) > 1 else ''}"
    times = f" x{len(runs)}" if len(runs) > 1 else ""
    how = "" if trainings is None else f"; {_how(runs[0].recipe, trainings)}"
    return f"{runs[0].recipe.group}{times}  [{text}{about}{how}]"


def _how(recipe: Recipe, trainings: How) -> str:
    found = trainings(recipe)
    if found is not None:
        return str(found)
    return "a measurement" if recipe.measured else "no training"


def _amount(runs: list[PlannedRun], trainings: How) -> str:
    """The training of some runs together: ``1,234 steps of 5 runs, 60 EM passes of 2; 3 runs train nothing``."""
    found = [trainings(run.recipe) for run in runs]
    trained = [each for each in found if each is not None]
    steps = [each.steps for each in trained if each.steps and not each.passes]
    passes = [each.epochs for each in trained if each.passes]
    unknown = sum(each.steps is None for each in trained)
    most = "at most " if any(each.early for each in trained) else ""
    parts = [f"{most}{sum(steps):,} steps of {len(steps)} runs"] if steps else []
    parts += [f"{sum(passes)} EM passes of {len(passes)}"] if passes else []
    parts += [f"{unknown} of unknown length"] if unknown else []
    nothing = len(found) - len(trained)
    rest = f"; {nothing} train nothing" if nothing else ""
    return f"{', '.join(parts) or 'none'}{rest}"


def _summary(plan: Plan, estimate: Estimate, slots: int, trainings: How | None) -> list[str]:
    counts = ", ".join(f"{count} {state}" for state, count in plan.counts.items())
    lines = [f"{len(plan.runs)} runs: {counts or 'none'}"]
    if trainings is not None and plan.runs:
        lines.append(f"training: {_amount(list(plan.runs.values()), trainings)}")
        if 0 < len(plan.open()) < len(plan.runs):
            lines.append(f"training left: {_amount(plan.open(), trainings)}")
    left = [estimate(run.recipe) for run in plan.open()]
    known = [seconds for seconds in left if seconds is not None]
    if left and known:
        rest = len(left) - len(known)
        more = f"; {rest} of the runs are like none done before and not in it" if rest else ""
        at_a_time = f" with {slots} at a time" if slots > 1 else ""
        lines.append(f"time left: about {duration(sum(known) / max(slots, 1))}{at_a_time}{more}")
    elif left:
        lines.append("time left: not known, for nothing like these runs was done here yet")
    return lines
