"""Which published gaps are there in our own runs: what a paper proposes against every other method of its tables.

A pure function of gathered tables. A gap is the difference between two numbers of a column; the verdict compares the
printed one with the interval of ours (:mod:`lacuna.tables.significance`). Of the printed numbers no spread is known.
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
    """What a paper proposes.

    Args:
        name: for people.
        keys: of its rows (or columns), the first that stands in a table being the one that is compared.
        meaning: of "a gap" in its tables.
    """

    name: str
    keys: tuple[str, ...]
    meaning: str


PROPOSALS = {
    "misconv": Proposal(
        "MisConv", ("misconv", "dmfa"), "MisConv (in tables of densities: DMFA) against another method"
    ),
    "prflow": Proposal("PRFlow", ("prflow",), "PRFlow against another method at one rate of missing pixels"),
}
"""By the name of the paper in ``papers.yaml``."""
UPPER_BOUND = ("gt",)
REPRODUCED, REVERSED, REFUTED, INCONCLUSIVE = "reproduced", "reversed", "refuted", "inconclusive"
ONE_SEED, UNMEASURED, UNCLAIMED = "one seed: no verdict", "not measured", "no gap in print"


@dataclass(frozen=True)
class Gap:
    """What is proposed against one method in one place; positive is in its favour, whichever direction is better.

    Args:
        table: its name.
        where: the column (or row) both stand in.
        rival: the method.
        published: as printed.
        ours: None where not measured.
        interval: of ours, corrected for the gaps of the table; None for one seed, and where nothing is to be judged.
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
        """Whether there is a gap in print."""
        return round(self.published, 9) != 0

    @property
    def verdict(self) -> str:
        """What became of the published gap."""
        if not self.claimed:
            return UNCLAIMED
        if self.ours is None:
            return UNMEASURED
        return ONE_SEED if self.interval is None else judge(self.published, self.interval)


def judge(published: float, interval: Interval) -> str:
    """The verdict on a published gap, not 0, by the interval of ours."""
    low, high = interval
    if low > 0 or high < 0:
        return REPRODUCED if (low > 0) == (published > 0) else REVERSED
    return INCONCLUSIVE if low <= published <= high else REFUTED


def gaps(result: TableResult, proposal: Proposal) -> list[Gap]:
    """Every gap that a table has in print; none where the proposed method does not stand in it."""
    found = [
        _gap(result.plan.spec.name, group.axis, axis, hero, rival)
        for group in result.groups
        if not group.axis.reference
        for axis, hero, rival in _pairs(group, proposal)
    ]
    claimed = [i for i, (gap, _) in enumerate(found) if gap.claimed]
    intervals = corrected_intervals([found[i][1] for i in claimed])
    by_place = dict(zip(claimed, intervals, strict=True))
    return [dataclasses.replace(gap, interval=by_place.get(i)) for i, (gap, _) in enumerate(found)]


def _pairs(group: Group, proposal: Proposal) -> Iterator[tuple[Axis, CellResult, CellResult]]:
    """Every rival with the proposed method's cell and its own, where both numbers are printed."""
    heroes = [(axis, cell) for axis, cell in group.members if axis.key in proposal.keys]
    for own, hero in heroes[:1]:
        for axis, rival in group.members:
            if axis.value == own.value or axis.key in UPPER_BOUND:  # itself, maybe by another formula
                continue
            printed = hero.cell.paper is not None and rival.cell.paper is not None
            if printed and hero.cell.metric == rival.cell.metric:
                yield axis, hero, rival


def _gap(table: str, where: Axis, axis: Axis, hero: CellResult, rival: CellResult) -> tuple[Gap, Difference | None]:
    """A gap without its interval, and what that is made of; None for one seed."""
    better, worse = (hero, rival) if hero.cell.better == "max" else (rival, hero)
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
        seeds=(hero.n, rival.n) if measured else (0, 0),
        digits=hero.cell.digits,
    )
    return gap, None if a is None or b is None else difference(a, b)
