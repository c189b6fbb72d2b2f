"""The page of a paper's gaps, in Markdown: verdict, printed gap, ours and its interval; the rule in plain words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from lacuna.report.cells import signed, spanned
from lacuna.report.facts import warning
from lacuna.report.formats import plain
from lacuna.tables.gaps import (
    INCONCLUSIVE,
    ONE_SEED,
    PROPOSALS,
    REFUTED,
    REPRODUCED,
    REVERSED,
    UNCLAIMED,
    UNMEASURED,
    Gap,
    Proposal,
    gaps,
)
from lacuna.tables.gather import TableResult
from lacuna.tables.significance import LEVEL

MEANINGS = {
    REPRODUCED: "the interval of our difference leaves out 0, on the printed gap's side; the size may be another",
    REVERSED: "the interval leaves out 0, on the other side",
    REFUTED: "the interval contains 0 and leaves out the printed gap: there is no gap of that size here",
    INCONCLUSIVE: "the interval contains both 0 and the printed gap: more seeds are needed",
    ONE_SEED: "one of the two was run with a single seed, of which no interval can be made",
    UNMEASURED: "one of the two has no finished run",
    UNCLAIMED: "the paper prints the same number for both",
}
RULE = (
    "The interval, in brackets, is Welch's over seeds. The verdicts of a table are corrected for the number m of gaps "
    f"that it has in print, measured or not. Holm's procedure at {LEVEL:.0%} finds which differences are significant; "
    f"if they are r, their intervals are those of confidence 1 − {LEVEL:g} / (m − r + 1), which leave out 0, and all "
    f"others those of confidence 1 − {LEVEL:g} / m (Bonferroni), which contain 0. So in a table in which no two "
    f"methods differ, any *{REPRODUCED}* or *{REVERSED}* at all has a probability of at most {LEVEL:.0%}, and so has "
    f"any *{REFUTED}* in a table in which every printed gap is true, as far as results are normal over seeds and "
    "Welch's approximation holds. The printed numbers are taken as exact, for no spread is known of them. Tables are "
    "not corrected for each other."
)


def gaps_page(results: Sequence[TableResult], paper: str) -> str:
    """The page in Markdown; nothing in it is written by hand.

    Args:
        results: of the tables, each printed number in one of them only.
        paper: a key of :data:`PROPOSALS`.
    """
    proposal = PROPOSALS[paper]
    by_table = {r.plan.spec.name: (r, found) for r in results if (found := gaps(r, proposal))}
    everything = [gap for _, found in by_table.values() for gap in found]
    parts = [f"# {proposal.name}: the published gaps, and ours", _origin(by_table.values(), paper)]
    parts.append(_summary(everything, proposal))
    parts.append(f"A gap is {proposal.meaning}, + where {proposal.name} is better. The verdicts:")
    parts.append("\n".join(f"- **{verdict}**: {meaning}" for verdict, meaning in MEANINGS.items()))
    parts.append(RULE)
    parts += _caveats([result for result, _ in by_table.values()])
    for result, found in by_table.values():
        spec = result.plan.spec
        parts += [f"## {plain(spec.name)}: {plain(spec.title)}", _about(result, found), _table(found)]
    return "\n\n".join(parts) + "\n"


def _origin(tables: Iterable[tuple[TableResult, Sequence[Gap]]], paper: str) -> str:
    """Where the numbers come from, and that there are none if so."""
    listed = list(tables)
    if not listed:
        return f"None of these tables has a gap of {PROPOSALS[paper].name} in print."
    budgets = ", ".join(dict.fromkeys(result.plan.budget for result, _ in listed))
    measured = any(gap.ours is not None for _, found in listed for gap in found)
    text = f"Written by `python scripts/gaps.py --paper {paper}` from the finished runs of budget {budgets}."
    return text if measured else f"{text} **There are none yet: nothing on this page is measured.**"


def _summary(everything: Sequence[Gap], proposal: Proposal) -> str:
    lines = []
    counted = [gap for gap in everything if not gap.rival.reference and gap.claimed]
    for text, chosen in (
        (f"in favour of {proposal.name}", [gap for gap in counted if gap.published > 0]),
        ("against it", [gap for gap in counted if gap.published < 0]),
    ):
        counts = Counter(gap.verdict for gap in chosen)
        said = ", ".join(f"{counts[verdict]} {verdict}" for verdict in MEANINGS if counts[verdict])
        lines.append(f"Of {len(chosen)} published gap{'s' * (len(chosen) != 1)} {text}: {said or 'none'}.")
    references = any(gap.rival.reference for gap in everything)
    return " ".join([*lines, *["References are listed below and not counted here."] * references])


def _caveats(results: Iterable[TableResult]) -> list[str]:
    """What keeps the numbers from being compared with the paper's, each point once with its tables."""
    points: dict[str, list[str]] = {}
    for result in results:
        for point in (warning(result) or ("", []))[1]:
            points.setdefault(point, []).append(result.plan.spec.name.rpartition("/")[2])
    if not points:
        return []
    listed = [f"> - {plain(point)} ({', '.join(tables)})" for point, tables in points.items()]
    head = "> **Not the paper's setting: the verdicts are about the gaps at this one.**"
    return ["\n".join([head, ">", *listed])]


def _about(result: TableResult, found: Sequence[Gap]) -> str:
    """Budget, correction, seeds and test images behind a table's gaps."""
    seeds = sorted({n for gap in found for n in gap.seeds if n})
    images = sorted({cell.test_images for cell in result.cells if cell.test_images})
    return "; ".join(
        [
            f"budget {result.plan.budget}",
            f"corrected for {sum(gap.claimed for gap in found)} gaps",
            f"seeds a number: {_range(seeds) if seeds else 'none yet'}",
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
    ours = "" if gap.ours is None else f", here {signed(gap.ours, gap.digits)}{spanned(gap.interval, gap.digits)}"
    return f"**{gap.verdict}**; in print {signed(gap.published, gap.digits)}{ours}"
