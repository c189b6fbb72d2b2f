"""Learning curves of a run, finished or not, from its history. Nothing here imports torch."""

from __future__ import annotations

import json
from pathlib import Path

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
