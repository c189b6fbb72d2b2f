"""From milliseconds per step to the hours of all runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lacuna.throughput.rows import Rows
from lacuna.throughput.step_kinds import Kind

NOTE = (
    "hours = steps x ms, plus the time of a run before its first step, scaled to all training images; not included: "
    "evaluation, pictures, validation, new imputations between epochs, and runs without steps"
)


def projection(kinds: Sequence[Kind], rows: Rows, others: int) -> dict[str, Any]:
    """The hours of every kind, the totals, and a summary line.

    Args:
        kinds: of the runs.
        rows: measurements by the kind's key (:class:`lacuna.gpu.step_costs.StepCosts`).
        others: number of runs without steps.

    Returns:
        ``hours_alone``: one run after another. ``hours_best``: every kind with its best number of runs at a time.
        ``kinds``: those with the most hours first. ``not_measured``: names. ``lower_bound``: whether there are any.
    """
    measured, missing = [], []
    for kind in kinds:
        row = rows.get(kind.key)
        if row is None or "ms" not in row:
            reason = "no time" if row is None else str(row["error"])
            missing.append({"name": kind.name, "runs": kind.runs, "steps": sum(kind.steps), "reason": reason})
        else:
            measured.append(_hours(kind, row))
    measured.sort(key=lambda entry: -float(entry["hours_alone"]))
    found: dict[str, Any] = {
        "hours_alone": sum(entry["hours_alone"] for entry in measured),
        "hours_best": sum(entry["hours_best"] for entry in measured),
        "lower_bound": bool(missing),
        "runs": sum(kind.runs for kind in kinds),
        "runs_without_steps": others,
        "note": NOTE,
        "kinds": measured,
        "not_measured": missing,
    }
    return found | {"line": _line(found)}


def _hours(kind: Kind, row: Mapping[str, Any]) -> dict[str, Any]:
    together = dict(row.get("side_by_side") or {})
    per_run = {1: row["ms"], **{n: ms / n for n, ms in together.items()}}
    best = min(per_run, key=lambda n: per_run[n])
    begin = kind.runs * row["begin_seconds"] * kind.images / max(1, row["images"])
    steps = sum(kind.steps)
    more = {"side_by_side_error": row["side_by_side_error"]} if "side_by_side_error" in row else {}
    return {
        "name": kind.name,
        "runs": kind.runs,
        "steps": steps,
        "batch_size": row["batch_size"],
        "ms": row["ms"],
        **({"modes_ms": row["modes"]} if "modes" in row else {}),
        "side_by_side_ms": {str(n): ms for n, ms in together.items()},
        "best_number": best,
        "begin_seconds_a_run": begin / kind.runs,
        "bytes": row["bytes"],
        "hours_alone": (steps * row["ms"] / 1e3 + begin) / 3600,
        "hours_best": (steps * per_run[best] / 1e3 + begin) / 3600,
        **more,
    }


def _line(found: Mapping[str, Any]) -> str:
    measured, missing = len(found["kinds"]), len(found["not_measured"])
    bound = "at least " if missing else ""
    rest = f"; {missing} kinds of runs not measured" if missing else ""
    return (
        f"{found['runs']} runs with steps: {bound}{found['hours_alone']:.1f} h one after another, "
        f"{found['hours_best']:.1f} h with several at a time ({measured} kinds measured{rest})"
    )
