"""Learning curves of a table: a panel for each column (or group of compared cells), a line for each method."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from lacuna.drawing.line_charts import Line, Panel
from lacuna.runs.history import curves
from lacuna.tables.gather import CellResult, Group, RunView, TableResult

MOST_PANELS, MOST_LINES = 12, 10
LOSS = "train/loss"
BEST = "_best"
"""Suffix of a metric that is the best value of a curve."""

Curves = dict[str, dict[int, float]]


def panels_of(result: TableResult) -> list[Panel]:
    """The panels of a table, at most :data:`MOST_PANELS`; none if nothing was trained. Lines are means over seeds.

    A panel shows the validation metric of the cells' metric, or the curve whose best value that is, or otherwise the
    training loss. Columns with the same runs and curves share a panel.
    """
    found: dict[tuple[object, ...], Panel] = {}
    histories: dict[Path, Curves] = {}
    members = result.plan.spec.columns if result.plan.spec.compare == "rows" else result.plan.spec.rows
    styles = {axis.key: number for number, axis in enumerate(members)}
    for group in result.groups:
        if len(found) == MOST_PANELS:
            break
        metric, lines = _lines(group, histories, styles)
        if lines:
            key = (metric, *((line.label, tuple(line.points)) for line in lines))
            before = found.get(key)
            title = group.axis.label if before is None else f"{before.title}, {group.axis.label}"
            found[key] = Panel(title, lines, y_label=metric.replace("/", " "))
    return list(found.values())


def _lines(group: Group, histories: dict[Path, Curves], styles: Mapping[str, int]) -> tuple[str, list[Line]]:
    shown = [(axis, cell, _histories(cell, histories)) for axis, cell in group.members[:MOST_LINES]]
    metrics = dict.fromkeys(cell.cell.metric for _, cell, _ in shown)
    wanted = [f"validation/{metric.rpartition('/')[2]}" for metric in metrics]
    wanted += [metric.removesuffix(BEST) for metric in metrics if metric.endswith(BEST)]
    metric = next((name for name in wanted if any(name in found for _, _, many in shown for found in many)), LOSS)
    lines = []
    for axis, cell, many in shown:
        points = mean_curve([found[metric] for found in many if metric in found])
        if points:
            soft = axis.reference or cell.cell.row.reference
            lines.append(Line(axis.label, points, styles[axis.key], soft=soft))
    return metric, lines


def mean_curve(curves: Sequence[Mapping[int, float]]) -> list[tuple[float, float]]:
    """(epoch from 1, mean) of the epochs that all curves have, so that the line does not jump where one ends."""
    if not curves:
        return []
    common = sorted(set.intersection(*(set(curve) for curve in curves)))
    return [(epoch + 1.0, sum(curve[epoch] for curve in curves) / len(curves)) for epoch in common]


def _histories(cell: CellResult, read: dict[Path, Curves]) -> list[Curves]:
    """Curves of the finished runs of a cell; if there are none, of the unfinished ones."""
    runs: Sequence[RunView] = [run for run in cell.runs if run.stored is not None] or cell.runs
    found = []
    for run in runs:
        path = run.planned.folder.path
        if path not in read:
            read[path] = curves(path)
        if read[path]:
            found.append(read[path])
    return found
