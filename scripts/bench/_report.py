"""How the benchmarks report: one line a comparison, and all of them in one table at the end of ``make bench``."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

ROWS = "BENCH_ROWS"
"""Environment variable: the file that collects the rows of several scripts."""


def report(
    work: str, other: str, ours: float, theirs: float, unit: str, floor: float | None = None, *, show: bool = True
) -> None:
    """Print a comparison, and add it to the collected ones.

    Args:
        work: what was done.
        other: what else did it.
        ours, theirs: time (or memory) in ``unit``; below 1 their ratio is in our favour.
        floor: largest ratio that is good enough; None: no such bound.
        show: False: only add it.
    """
    row = {"work": work, "ours": ours, "other": other, "theirs": theirs, "unit": unit, "floor": floor}
    if os.environ.get(ROWS):
        with Path(os.environ[ROWS]).open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
    if show:
        print(table([row]), flush=True)


def table(rows: list[dict[str, Any]]) -> str:
    """Rows as text."""
    from lacuna.drawing.text_table import text_table

    shown = []
    for row in rows:
        ratio = row["ours"] / row["theirs"]
        kept = "" if row["floor"] is None else ("yes" if ratio <= row["floor"] else "NO")
        shown.append(
            {
                "work": row["work"],
                "other": row["other"],
                "ours": _short(row["ours"], row["unit"]),
                "theirs": _short(row["theirs"], row["unit"]),
                "ours / theirs": f"{ratio:.3f}",
                "at most": "" if row["floor"] is None else f"{row['floor']:g}",
                "kept": kept,
            }
        )
    return text_table(shown)


def _short(value: float, unit: str) -> str:
    return f"{value:.3g} {unit}"


if __name__ == "__main__":
    lines = Path(sys.argv[1]).read_text(encoding="utf-8").splitlines()
    print(table([json.loads(line) for line in lines]))
