"""Whether our runs reproduce the published gaps: the proposed method of a paper against every other of its tables.

A pure function of gathered tables. A gap is the difference between two numbers of a column. The verdict compares the
printed gap with the interval of ours (:mod:`lacuna.tables.significance`). The spread of printed numbers is unknown.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass

from lacuna.tables.best import sample_of
from lacuna.tables.gather import CellResult, Group, TableResult
from lacuna.tables.significance import Difference, Interval, corrected_intervals, difference
from lacuna.tables.spec import Axis


@dataclass(frozen=True)
class Proposal:
    """The method that a paper proposes.

    Args:
        name: for people.
        keys: keys of its rows (or columns); the first one in a table is compared.
        meaning: of "a gap" in its tables.
    """

    name: str
    keys: tuple[str, ...]
    meaning: str


PROPOSALS = {
    "misconv": Proposal(
        "MisConv", ("misconv", "dmfa"), "MisConv (in tables of densities: DMFA) against another method"
    ),
    "prflow": Proposal("PRFlow", ("prflow",), "PRFlow against another method at one missing rate"),
}
"""By the name of the paper in ``papers.yaml``."""
UPPER_BOUND = ("gt",)
REPRODUCED, REVERSED, REFUTED, INCONCLUSIVE = "reproduced", "reversed", "refuted", "inconclusive"
ONE_SEED, UNMEASURED, UNCLAIMED = "one seed: no verdict", "not measured", "no published gap"


@dataclass(frozen=True)
class Gap:
    """The proposed method against another one in one column. Positive: the proposed method is better.

    Args:
        table: its name.
        where: the column (or row) of both.
        rival: the other method.
        published: as printed.
        ours: our gap; None if it is not measured.
        interval: of ours, corrected for the number of gaps of the table; None for one seed, and for a printed gap of 0.
        seeds: of the proposed method and of the rival.
        digits: after the decimal point.
    """

    table: str
    where: Axis
    rival: Axis
    published: float
    ours: float | None
    interval: Interval | None
    seeds: tuple[int, int]
    digits: int

    @property
    def claimed(self) -> bool:
        """Whether the printed numbers differ."""
        return round(self.published, 9) != 0

    @property
    def verdict(self) -> str:
        """Whether our runs reproduce the published gap."""
        if not self.claimed:
            return UNCLAIMED
        if self.ours is None:
            return UNMEASURED
        return ONE_SEED if self.interval is None else judge(self.published, self.interval)


def judge(published: float, interval: Interval) -> str:
    """The verdict on a published gap (not 0), from the interval of our gap."""
    low, high = interval
    if low > 0 or high < 0:
        return REPRODUCED if (low > 0) == (published > 0) else REVERSED
    return INCONCLUSIVE if low <= published <= high else REFUTED


def gaps(result: TableResult, proposal: Proposal) -> list[Gap]:
    """Every published gap of a table; none if the proposed method is not in it."""
    pairs = [
        _gap(result.plan.spec.name, group.axis, axis, proposed, rival)
        for group in result.groups
        if not group.axis.reference
        for axis, proposed, rival in _pairs(group, proposal)
    ]
    claimed = [i for i, (gap, _) in enumerate(pairs) if gap.claimed]
    intervals = corrected_intervals([pairs[i][1] for i in claimed])
    by_place = dict(zip(claimed, intervals, strict=True))
    return [dataclasses.replace(gap, interval=by_place.get(i)) for i, (gap, _) in enumerate(pairs)]


def _pairs(group: Group, proposal: Proposal) -> Iterator[tuple[Axis, CellResult, CellResult]]:
    """Every rival's axis, the proposed method's cell and the rival's, if both numbers are printed."""
    own_cells = [(axis, cell) for axis, cell in group.members if axis.key in proposal.keys]
    for own, proposed in own_cells[:1]:
        for axis, rival in group.members:
            if axis.value == own.value or axis.key in UPPER_BOUND:  # the same method, perhaps with another formula
                continue
            printed = proposed.cell.paper is not None and rival.cell.paper is not None
            if printed and proposed.cell.metric == rival.cell.metric:
                yield axis, proposed, rival


def _gap(table: str, where: Axis, axis: Axis, proposed: CellResult, rival: CellResult) -> tuple[Gap, Difference | None]:
    """A gap without its interval, and the difference that the interval is computed from; None for one seed."""
    better, worse = (proposed, rival) if proposed.cell.better == "max" else (rival, proposed)
    assert better.cell.paper is not None and worse.cell.paper is not None
    a, b = sample_of(better), sample_of(worse)
    measured = better.mean is not None and worse.mean is not None
    gap = Gap(
        table=table,
        where=where,
        rival=axis,
        published=better.cell.paper - worse.cell.paper,
        ours=better.mean - worse.mean if better.mean is not None and worse.mean is not None else None,
        interval=None,
        seeds=(proposed.n, rival.n) if measured else (0, 0),
        digits=proposed.cell.digits,
    )
    return gap, None if a is None or b is None else difference(a, b)
