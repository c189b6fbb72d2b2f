"""Which published gaps survive: MisConv against every other method, in print and in our own runs.

A pure function of gathered tables. Whether a gap of ours is one is said as in the tables (:mod:`lacuna.tables.noise`);
of the papers' no noise is known.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from lacuna.tables.cells import number, signed
from lacuna.tables.facts import warning
from lacuna.tables.gather import CellResult, TableResult
from lacuna.tables.noise import LEVEL, margin, sample_of
from lacuna.tables.spec import Axis
from lacuna.tables.written import plain

HEROES = ("misconv", "dmfa")
"""Keys of what the paper proposes: the layer, and in tables of densities its density."""
UPPER_BOUND = ("gt",)
SURVIVES, VANISHES, REVERSED = "survives", "vanishes", "reversed"
UNJUDGED, UNMEASURED, UNCLAIMED = "not judged", "not measured", "no gap in print"
MEANINGS = {
    SURVIVES: "ours has the same sign and is larger than the noise",
    VANISHES: "ours is within the noise, so that nothing can be told from it",
    REVERSED: "ours has the other sign and is larger than the noise",
    UNJUDGED: "measured once, and with one seed nothing is known of this metric's noise",
    UNMEASURED: "one of the two runs is not done",
    UNCLAIMED: "the paper prints the same number for both",
}

RULE = (
    "A gap is MisConv (in tables of densities: DMFA) against another method, + where MisConv is better (more accuracy, "
    f"less FID). Noise, behind ±: as in the tables, two-sided at {LEVEL:.0%} for every gap and not corrected for their "
    "number: Welch's t test over seeds, or, with one seed, the sampling error of an accuracy on so many test images, "
    "which says nothing of what another seed would give. Of the printed numbers no noise is known."
)


@dataclass(frozen=True)
class Gap:
    """MisConv against one method in one place; positive is in favour of MisConv, whichever direction is better.

    Args:
        table: its name.
        where: the column (or row) both stand in.
        rival: the method.
        published: as printed.
        ours: None where not measured.
        noise: how large ours must be to be one; None where that cannot be said.
        seeds: of MisConv and of the rival.
        digits: after the decimal point.
    """

    table: str
    where: Axis
    rival: Axis
    published: float
    ours: float | None
    noise: float | None
    seeds: tuple[int, int]
    digits: int

    @property
    def verdict(self) -> str:
        """What became of the published gap."""
        if round(self.published, 9) == 0:
            return UNCLAIMED
        if self.ours is None:
            return UNMEASURED
        if self.noise is None:
            return UNJUDGED
        if abs(self.ours) <= self.noise:
            return VANISHES
        return SURVIVES if (self.ours > 0) == (self.published > 0) else REVERSED


def gaps(result: TableResult) -> list[Gap]:
    """Every gap that a table has in print; none where MisConv does not stand in it."""
    found = []
    for group in result.groups:
        heroes = [(axis, cell) for axis, cell in group.members if axis.key in HEROES]
        if not heroes or group.axis.reference:
            continue
        hero, cell = heroes[0]
        for axis, rival in group.members:
            if axis.value == hero.value or axis.key in UPPER_BOUND:  # itself, maybe by another formula
                continue
            made = _gap(result.plan.spec.name, group.axis, axis, cell, rival)
            found += [] if made is None else [made]
    return found


def _gap(table: str, where: Axis, axis: Axis, hero: CellResult, rival: CellResult) -> Gap | None:
    if hero.cell.paper is None or rival.cell.paper is None or hero.cell.metric != rival.cell.metric:
        return None
    sign = 1 if hero.cell.better == "max" else -1
    one, other = sample_of(hero), sample_of(rival)
    both = one is not None and other is not None
    return Gap(
        table=table,
        where=where,
        rival=axis,
        published=sign * (hero.cell.paper - rival.cell.paper),
        ours=sign * (one.mean - other.mean) if one is not None and other is not None else None,
        noise=margin(one, other) if one is not None and other is not None else None,
        seeds=(hero.n, rival.n) if both else (0, 0),
        digits=hero.cell.digits,
    )


def gaps_page(results: Sequence[TableResult], title: str = "MisConv: which published gaps survive") -> str:
    """The page in Markdown; nothing in it is written by hand."""
    by_table = {result.plan.spec.name: (result, found) for result in results if (found := gaps(result))}
    everything = [gap for _, found in by_table.values() for gap in found]
    parts = [f"# {plain(title)}", _summary(everything)]
    parts.append("\n".join(f"- **{verdict}**: {meaning}" for verdict, meaning in MEANINGS.items()))
    parts.append(RULE)
    parts += _caveats([result for result, _ in by_table.values()])
    for result, found in by_table.values():
        spec = result.plan.spec
        parts += [f"## {plain(spec.name)}: {plain(spec.title)}", *_about(result, found), _table(found)]
    return "\n\n".join(parts) + "\n"


def _summary(everything: Sequence[Gap]) -> str:
    lines = []
    counted = [gap for gap in everything if not gap.rival.reference and gap.verdict != UNCLAIMED]
    for text, chosen in (
        ("in favour of MisConv", [gap for gap in counted if gap.published > 0]),
        ("against it", [gap for gap in counted if gap.published < 0]),
    ):
        counts = Counter(gap.verdict for gap in chosen)
        said = ", ".join(f"{counts[verdict]} {verdict}" for verdict in MEANINGS if counts[verdict])
        lines.append(f"Of {len(chosen)} published gaps {text}: {said or 'none'}.")
    references = any(gap.rival.reference for gap in everything)
    return " ".join([*lines, *["References are listed below and not counted."] * references])


def _caveats(results: Iterable[TableResult]) -> list[str]:
    """What keeps the numbers from being compared with the paper's, each point once with its tables."""
    points: dict[str, list[str]] = {}
    for result in results:
        for point in (warning(result) or ("", []))[1]:
            points.setdefault(point, []).append(result.plan.spec.name.rpartition("/")[2])
    if not points:
        return []
    listed = [f"> - {plain(point)} ({', '.join(tables)})" for point, tables in points.items()]
    head = "> **Not the paper's setting: a gap that vanishes here may be there in the full one.**"
    return ["\n".join([head, ">", *listed])]


def _about(result: TableResult, found: Sequence[Gap]) -> Iterator[str]:
    """Budget, seeds and test images behind a table's gaps."""
    seeds = sorted({n for gap in found for n in gap.seeds if n})
    images = sorted({cell.test_images for cell in result.cells if cell.test_images})
    yield "; ".join(
        [
            f"budget {result.plan.budget}",
            f"values a number: {_range(seeds) if seeds else 'none yet'}",
            *([f"test images: {_range(images)}"] if images else []),
        ]
    )


def _range(values: Sequence[int]) -> str:
    return str(values[0]) if values[0] == values[-1] else f"{values[0]} to {values[-1]}"


def _table(found: Sequence[Gap]) -> str:
    """A row a rival, a column a place."""
    places = list(dict.fromkeys(gap.where.key for gap in found))
    rivals = list(dict.fromkeys(gap.rival.key for gap in found))
    at = {(gap.rival.key, gap.where.key): gap for gap in found}
    labels = {gap.where.key: gap.where.label for gap in found}
    names = {gap.rival.key: gap.rival.label + (" (a reference)" if gap.rival.reference else "") for gap in found}
    rows = [["against", *(plain(labels[place]) for place in places)], ["---"] * (len(places) + 1)]
    rows += [[plain(names[rival]), *(_cell(at.get((rival, place))) for place in places)] for rival in rivals]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _cell(gap: Gap | None) -> str:
    if gap is None:
        return ""
    ours = ""
    if gap.ours is not None:
        noise = "" if gap.noise is None else f" ± {number(gap.noise, gap.digits)}"
        ours = f", here {signed(gap.ours, gap.digits)}{noise}"
    return f"**{gap.verdict}**: in print {signed(gap.published, gap.digits)}{ours}"
