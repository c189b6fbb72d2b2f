"""What a table's numbers say, in a sentence for each group of methods that are compared."""

from __future__ import annotations

from collections.abc import Sequence

from lacuna.report.cells import number
from lacuna.tables.best import BEST, competitors, marks, sample_of
from lacuna.tables.gather import CellResult, Group, TableResult

MOST_GROUPS = 6
"""Of a table with more groups nothing is said in words: the marks in it are read faster."""


def verdict(result: TableResult) -> list[str]:
    """Which method is best and which are significantly worse, by the rule of the table's marks.

    Empty where nothing can be compared (one seed, one method) and for tables of many groups.
    """
    found = [
        said for group in result.groups for rivals in competitors(group) if (said := _verdict(result, group, rivals))
    ]
    return found if len(found) <= MOST_GROUPS else []


def _verdict(result: TableResult, group: Group, rivals: Sequence[CellResult]) -> str:
    better = rivals[0].cell.better
    given = marks([sample_of(rival) for rival in rivals], better)
    marked = [rival for rival, mark in zip(rivals, given, strict=True) if mark]
    if not marked:
        return ""
    sign = 1 if better == "max" else -1
    first = max(marked, key=lambda rival: sign * (rival.mean or 0.0))
    tied = [_name(result, rival) for rival in marked if rival is not first]
    # a number of one seed has no mark, but nothing was tested
    worse = [_name(result, rival) for rival in rivals if rival not in marked and sample_of(rival) is not None]
    mean = number(first.mean or 0.0, first.cell.digits)
    where = group.axis.label or group.axis.key
    if BEST in given:
        return f"{where}: {_name(result, first)} is best: {mean}, significantly better than {listed(worse)}."
    said = f"{where}: {_name(result, first)} has the best mean, {mean}"
    said += f", significantly better than {listed(worse)}" if worse else ""
    return f"{said}{', but' if worse else ','} not significantly different from {listed(tied)}." if tied else f"{said}."


def _name(result: TableResult, cell: CellResult) -> str:
    axis = cell.cell.column if result.plan.spec.compare == "rows" else cell.cell.row
    return axis.label or axis.key


def listed(names: Sequence[str]) -> str:
    """``a``, ``a and b``, ``a, b and c``."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
