"""Which cells win: the best one is bold only if it is significantly better than every other.

Significant: by Welch's t test over seeds (:mod:`lacuna.tables.significance`), two-sided at 5 %. Cells of one seed have
no mark, for nothing is known of what another seed would give.

No further correction for looking at several rows: that one cell beats all the others is one claim, not k - 1, and
comparing it two-sidedly with each pays for having chosen it by looking (Gutmann and Maymin, Annals of Statistics 1987;
Hung and Fithian, Annals of Statistics 2019). So of the groups (columns) whose best cell is not really best at most 5 %
have it in bold. Between the groups of a table nothing is corrected either; the caption says so.
"""

from __future__ import annotations

from collections.abc import Sequence

from lacuna.tables.gather import CellResult, Group, TableResult
from lacuna.tables.significance import LEVEL, Interval, Sample, difference, difference_to

BEST, TIE = "best", "tie"


def marks(samples: Sequence[Sample | None], better: str, level: float = LEVEL) -> list[str]:
    """``best``, ``tie`` or nothing for each cell of a group.

    ``best``: significantly better than every other. If no cell is, ``tie`` marks the one with the best mean and those
    that do not differ significantly from it. A cell that cannot be compared may be better than all, so a group with one
    has no ``best``.

    Args:
        samples: of the cells that compete; None for what cannot be compared, a hole or a number of one seed.
        better: ``max`` or ``min``.
    """
    found = [""] * len(samples)
    there = {i: sample for i, sample in enumerate(samples) if sample is not None}
    if len(there) < 2:
        return found
    sign = 1 if better == "max" else -1
    first = max(there, key=lambda i: sign * there[i].mean)
    tied = [i for i in there if i != first and not _differ(there[first], there[i], level)]
    if not tied and len(there) == len(samples):
        found[first] = BEST
        return found
    for i in [first, *tied]:
        found[i] = TIE
    return found


def table_marks(result: TableResult) -> dict[tuple[str, str], str]:
    """Marks of a whole table, by (row key, column key). References do not compete."""
    found: dict[tuple[str, str], str] = {}
    for group in result.groups:
        for rivals in competitors(group):
            given = marks([sample_of(rival) for rival in rivals], rivals[0].cell.better)
            cells = (rival.cell for rival in rivals)
            found |= {(c.row.key, c.column.key): mark for c, mark in zip(cells, given, strict=True) if mark}
    return found


def sample_of(cell: CellResult) -> Sample | None:
    """A cell as a comparison sees it; None for a hole, and for a number of one seed."""
    if cell.mean is None or cell.sd is None:
        return None
    accuracy = cell.cell.metric.rpartition("/")[2] == "accuracy"
    return Sample(cell.mean, cell.sd, cell.n, cell.test_images if accuracy else None)


def paper_interval(cell: CellResult) -> Interval | None:
    """The 95 % interval of a cell's number minus the paper's; None where either is missing, and for one seed."""
    sample = sample_of(cell)
    if sample is None or cell.cell.paper is None:
        return None
    return difference_to(sample, cell.cell.paper).interval()


def competitors(group: Group) -> list[list[CellResult]]:
    """The cells of a group that compete, those of the same metric on the same data together.

    References do not compete, nor does what is only measured: a smaller image is no better than a larger one.
    """
    found: dict[tuple[str, ...], list[CellResult]] = {}
    for member, result in group.members:
        first = result.cell.recipes[0] if result.cell.recipes else None
        if member.reference or group.axis.reference or (first is not None and first.measured):
            continue
        data = str(first.config["data"].get("fingerprint")) if first is not None else ""
        found.setdefault((result.cell.metric, result.cell.better, data), []).append(result)
    return list(found.values())


def _differ(a: Sample, b: Sample, level: float) -> bool:
    found = difference(a, b)
    return abs(found.value) > found.margin(level)
