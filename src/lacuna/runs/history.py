"""Learning curves of a run, finished or not, from its history. Nothing here imports torch."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lacuna.errors import LacunaError

HISTORY = "metrics.jsonl"


def curves(folder: Path) -> dict[str, dict[int, float]]:
    """Metric -> epoch (from 0) -> the last value logged in it.

    Empty where there is no history. Lines that cannot be read (a killed process may leave half a line) and values that
    are no numbers are skipped.
    """
    found: dict[str, dict[int, float]] = {}
    try:
        lines = (folder / HISTORY).read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return found
    for line in lines:
        try:
            row = json.loads(line)
        except json.JSONDecodeError:
            continue
        epoch = row.get("epoch") if isinstance(row, dict) else None
        if not isinstance(epoch, int):
            continue
        for metric, value in row.items():
            if metric not in ("epoch", "step") and isinstance(value, int | float):
                found.setdefault(metric, {})[epoch] = float(value)
    return found


def read_history(path: Path) -> list[dict[str, Any]]:
    """The rows of a ``metrics.jsonl``; an unfinished last line is left out.

    Raises:
        LacunaError: a line in the middle is damaged.
    """
    rows = []
    for number, line in enumerate(whole_lines(path), start=1):
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise LacunaError(f"{path} is damaged in line {number}: delete it and run the command again.") from error
        rows.append(numbers(row))
    return rows


def numbers(row: Mapping[str, Any]) -> dict[str, Any]:
    """A line of the history with values that are not finite as numbers."""
    return {key: float(value) if value in ("nan", "inf", "-inf") else value for key, value in row.items()}


def whole_lines(path: Path) -> list[str]:
    """Lines that end in a line break, without it."""
    if not path.exists():
        return []
    with path.open(encoding="utf-8", errors="replace", newline="\n") as file:
        return [line[:-1] for line in file if line.endswith("\n")]
