"""Measurements of kinds of steps: seconds of runs, the best number of runs at a time, saved rows. Imports no torch."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lacuna import files
from lacuna.errors import LacunaError
from lacuna.runs.protocol import official_counts
from lacuna.runs.recipe import Recipe
from lacuna.throughput.step_kinds import Counts, kind_key, steps_of, train_images

Rows = Mapping[str, Mapping[str, Any]]
"""Measurements by the key of the kind: ``ms`` per step alone, ``side_by_side`` {n: ms per step with n runs}, ..."""

GAIN = 1.05
"""Twice as many runs at a time are worth it if they give at least so many times the steps per second."""


def seconds_of(recipe: Recipe, rows: Rows, number: int = 1, counts: Counts = official_counts) -> float | None:
    """Seconds of a run, without its prerequisites; None if its kind was not measured.

    Args:
        recipe: of the run.
        rows: measurements.
        number: of such runs at a time on its card, as measured; 1: alone.
        counts: images per split, by default of the published set.
    """
    row = rows.get(kind_key(recipe))
    if row is None or "ms" not in row:
        return None
    ms = row["ms"] if number == 1 else row["side_by_side"][number]
    begin = row["begin_seconds"] * train_images(recipe, counts) / max(1, row["images"])
    return float(steps_of(recipe, counts) * ms / 1e3 + begin)


def best_number(rows: Rows) -> int | None:
    """The number of runs at a time with the most steps per second, median over the measured kinds; None if none."""
    best = []
    for row in rows.values():
        if row.get("side_by_side"):
            speeds = {1: 1 / row["ms"], **{n: n / ms for n, ms in row["side_by_side"].items()}}
            best.append(max(speeds, key=lambda n: speeds[n]))
    return round(statistics.median_high(best)) if best else None


def save_rows(file: Path, hardware: str, rows: Rows) -> None:
    """Save measurements for a later command on the same hardware."""
    files.write_json(file, {"hardware": hardware, "rows": dict(rows)})


def load_rows(file: Path, hardware: str) -> dict[str, dict[str, Any]]:
    """The measurements of :func:`save_rows`, without failed ones; empty if there are none of this hardware."""
    try:
        saved = files.read_json(file)
    except LacunaError:
        return {}
    if saved["hardware"] != hardware:
        return {}
    return with_whole_numbers({key: row for key, row in saved["rows"].items() if "ms" in row})


def with_whole_numbers(rows: Rows) -> dict[str, dict[str, Any]]:
    """Rows from JSON, whose keys are texts, with the numbers of runs at a time as whole numbers."""
    found = {key: dict(row) for key, row in rows.items()}
    for row in found.values():
        if "side_by_side" in row:
            row["side_by_side"] = {int(number): ms for number, ms in row["side_by_side"].items()}
    return found
