"""A plan as text: what would be done, what is done, and how long the rest may take."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from lacuna.runs.recipe import Recipe
from lacuna.tables.plan import ARCHIVED, DONE, UNNEEDED, Plan, PlannedRun

MOST_LINES = 200
"""Groups of runs that are listed one by one."""

Estimate = Callable[[Recipe], float | None]
"""Seconds that a run will take, or None where nothing like it was done yet."""


def plan_text(plan: Plan, estimate: Estimate, slots: int = 1) -> str:
    """The tables, the tree of runs (repetitions with other seeds on one line), counts, and the time left.

    Args:
        estimate: of a run not done.
        slots: how many runs at a time the estimate of the whole assumes.
    """
    lines = [f"{table.spec.name}: {table.spec.title} ({len(table.cells)} cells)" for table in plan.tables]
    seeds = max((table.seeds for table in plan.tables), key=len)  # a figure has one
    lines.append(f"budget {plan.tables[0].budget}, {'seed' if len(seeds) == 1 else 'seeds'} {_listed(seeds)}")
    if plan.missing_data:
        lines.append(f"data not here yet: {', '.join(plan.missing_data)} (their cells are left out of this plan)")
    tree = list(_tree(plan, estimate))
    lines += ["", *tree[:MOST_LINES]]
    if len(tree) > MOST_LINES:
        lines.append(f"... and {len(tree) - MOST_LINES} more lines")
    lines += ["", *_summary(plan, estimate, slots)]
    return "\n".join(lines)


def duration(seconds: float) -> str:
    """``40 s``, ``12 min`` or ``3 h 20 min``."""
    if seconds < 90:
        return f"{max(round(seconds), 1)} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02d} min"


def _listed(seeds: tuple[int, ...]) -> str:
    whole = len(seeds) > 3 and list(seeds) == list(range(seeds[0], seeds[0] + len(seeds)))
    return f"{seeds[0]} to {seeds[-1]}" if whole else ", ".join(map(str, seeds))


def _tree(plan: Plan, estimate: Estimate) -> Iterator[str]:
    """Runs without needs at the left, what builds on them one step further in."""
    groups: dict[str, list[PlannedRun]] = {}
    for run in plan.runs.values():
        groups.setdefault(_key(run), []).append(run)
    children: dict[str, list[str]] = {}
    roots = []
    for key, runs in groups.items():
        needs = list(runs[0].recipe.needs.values())
        if needs:
            first = plan.runs[needs[0].identity]
            children.setdefault(_key(first), []).append(key)
        else:
            roots.append(key)

    def lines(key: str, depth: int) -> Iterator[str]:
        yield "  " * depth + _line(groups[key], estimate)
        for child in children.get(key, ()):
            yield from lines(child, depth + 1)

    for root in roots:
        yield from lines(root, 0)


def _key(run: PlannedRun) -> str:
    return f"{run.recipe.group}-{run.recipe.family}"


def _line(runs: list[PlannedRun], estimate: Estimate) -> str:
    states: dict[str, int] = {}
    for run in runs:
        states[run.state] = states.get(run.state, 0) + 1
    text = ", ".join(state if len(runs) == 1 else f"{count} {state}" for state, count in states.items())
    left = [run for run in runs if run.state not in (DONE, ARCHIVED, UNNEEDED)]
    known = estimate(left[0].recipe) if left else None
    about = "" if known is None else f", about {duration(known)}{' each' if len(left) > 1 else ''}"
    times = f" x{len(runs)}" if len(runs) > 1 else ""
    return f"{runs[0].recipe.group}{times}  [{text}{about}]"


def _summary(plan: Plan, estimate: Estimate, slots: int) -> list[str]:
    counts = ", ".join(f"{count} {state}" for state, count in plan.counts.items())
    lines = [f"{len(plan.runs)} runs: {counts or 'none'}"]
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
