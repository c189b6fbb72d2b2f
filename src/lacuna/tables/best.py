"""Which cells are marked as best: a cell is bold only if it is significantly better than every other.

Significant: by Welch's t test over seeds (:mod:`lacuna.tables.significance`), two-sided at 5 %. Cells of one seed have
no mark, because their spread over seeds is unknown.

There is no further correction for the number of rows. That one cell beats all others is one claim, not k - 1, and the
two-sided comparison with each accounts for choosing the cell after looking (Gutmann and Maymin, Annals of Statistics
1987; Hung and Fithian, Annals of Statistics 2019). So at most 5 % of the groups (columns) whose best cell is not truly
best have it in bold. There is no correction between the groups of a table either; the caption says so.
"""

from __future__ import annotations

from collections.abc import Sequence

from lacuna.tables.gather import CellResult, Group, TableResult
from lacuna.tables.significance import LEVEL, Interval, Sample, difference, difference_to

BEST, TIE = "best", "tie"


def marks(samples: Sequence[Sample | None], better: str, level: float = LEVEL) -> list[str]:
    """``best``, ``tie`` or an empty string for each cell of a group.

    ``best``: significantly better than every other. If no cell is, ``tie`` marks the one with the best mean and those
    that are not significantly different from it. A cell that cannot be compared may be better than all others, so a
    group with such a cell has no ``best``.

    Args:
        samples: one for each cell that competes; None for a missing number or a number of one seed.
        better: ``max`` or ``min``.
        level: of the tests.
    """
    result = [""] * len(samples)
    comparable = {i: sample for i, sample in enumerate(samples) if sample is not None}
    if len(comparable) < 2:
        return result
    sign = 1 if better == "max" else -1
    first = max(comparable, key=lambda i: sign * comparable[i].mean)
    tied = [i for i in comparable if i != first and not _differ(comparable[first], comparable[i], level)]
    if not tied and len(comparable) == len(samples):
        result[first] = BEST
        return result
    for i in [first, *tied]:
        result[i] = TIE
    return result


def table_marks(result: TableResult) -> dict[tuple[str, str], str]:
    """Marks of a whole table, by (row key, column key). References do not compete."""
    by_place: dict[tuple[str, str], str] = {}
    for group in result.groups:
        for rivals in competitors(group):
            rival_marks = marks([sample_of(rival) for rival in rivals], rivals[0].cell.better)
            cells = (rival.cell for rival in rivals)
            by_place |= {(c.row.key, c.column.key): mark for c, mark in zip(cells, rival_marks, strict=True) if mark}
    return by_place


def sample_of(cell: CellResult) -> Sample | None:
    """A cell as a sample to compare; None for a missing number and for a number of one seed."""
    if cell.mean is None or cell.sd is None:
        return None
    accuracy = cell.cell.metric.rpartition("/")[2] == "accuracy"
    return Sample(cell.mean, cell.sd, cell.n, cell.test_images if accuracy else None)


def paper_interval(cell: CellResult) -> Interval | None:
    """The 95 % interval of a cell's number minus the paper's; None if either is missing, and for one seed."""
    sample = sample_of(cell)
    if sample is None or cell.cell.paper is None:
        return None
    return difference_to(sample, cell.cell.paper).interval()


def competitors(group: Group) -> list[list[CellResult]]:
    """The cells of a group that compete: one list for each metric and data set.

    References do not compete. Nor do times of differently large images (tasks that only measure).
    """
    by_metric: dict[tuple[str, ...], list[CellResult]] = {}
    for member, result in group.members:
        first = result.cell.recipes[0] if result.cell.recipes else None
        if member.reference or group.axis.reference or (first is not None and first.measured):
            continue
        data = str(first.config["data"].get("fingerprint")) if first is not None else ""
        by_metric.setdefault((result.cell.metric, result.cell.better, data), []).append(result)
    return list(by_metric.values())


def _differ(a: Sample, b: Sample, level: float) -> bool:
    between = difference(a, b)
    return abs(between.value) > between.margin(level)
