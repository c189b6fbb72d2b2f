"""The formats of a table: Markdown, LaTeX, CSV and plain text."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable

from lacuna.drawing.latex import latex_table
from lacuna.drawing.text_table import BEST, TIE, markdown_table, text_table
from lacuna.report.cells import missing_numbers, rows_of, rules_of
from lacuna.report.data_facts import facts_of
from lacuna.report.table_notes import protocol, warning
from lacuna.tables.best import paper_interval, table_marks
from lacuna.tables.gather import CellResult, TableResult, archive_note
from lacuna.tables.significance import LEVEL

CSV_COLUMNS = (
    "table", "row", "column", "row_label", "column_label", "metric", "better", "mean", "sd", "n", "wanted", "seeds",
    "values", "paper", "difference", "difference_low", "difference_high", "mark", "reference", "state", "reason",
    "budget", "data", "test_images", "train_images", "of_test_images", "complete", "lossless", "fingerprint", "note",
    "protocol", "hardware", "commits", "runs", "archived",
)  # fmt: skip


def as_text(result: TableResult) -> str:
    """For a terminal: title, warning, numbers (the paper's in brackets), legend, missing numbers."""
    spec = result.plan.spec
    lines = [f"{spec.name}: {spec.title}", *_warning_lines(result), "", text_table(rows_of(result)), ""]
    marks = set(table_marks(result).values())
    meanings = {
        BEST: "* significantly better than all others",
        TIE: "† best, or not significantly different from the best",
    }
    seeds = "" if len(result.plan.seeds) == 1 else "mean ± sd (seeds)"
    paper = f"[paper's, ours minus paper's{_span(result)}]" if result.has_paper else ""
    legend = [seeds, paper, *(meaning for mark, meaning in meanings.items() if mark in marks)]
    lines += ["; ".join(part for part in legend if part)] if any(legend) else []
    lines += [archive_note(result)] if archive_note(result) else []
    lines += [f"missing: {cells}: {reason}" for reason, cells in missing_numbers(result)]
    return "\n".join(lines).rstrip()


def as_markdown(result: TableResult) -> str:
    """A table as a Markdown document."""
    spec, warned = result.plan.spec, warning(result)
    parts = [f"# {plain(spec.title)}", plain(spec.note)] if spec.note else [f"# {plain(spec.title)}"]
    if warned is not None:
        title, points = warned
        parts.append("\n".join([f"> **{plain(title)}**", ">", *(f"> - {plain(point)}" for point in points)]))
    parts.append(markdown_table(rows_of(result)))
    parts.append("\n".join(f"- **{plain(what)}**: {plain(how)}" for what, how in protocol(result)))
    missing = missing_numbers(result)
    if missing:
        listed = (f"- {plain(cells)}: {plain(reason)}" for reason, cells in missing)
        parts.append("\n".join(["Missing:", "", *listed]))
    return "\n\n".join(parts) + "\n"


def as_latex(result: TableResult) -> str:
    """A LaTeX ``table`` environment; needs booktabs."""
    spec, warned = result.plan.spec, warning(result)
    notes = [spec.note] if spec.note else []
    notes += [f"{what}: {how}." for what, how in protocol(result)]
    notes += [f"Missing: {cells}: {reason}." for reason, cells in missing_numbers(result)]
    return latex_table(
        rows_of(result),
        caption=f"{spec.title}.",
        stressed="" if warned is None else f"{warned[0]} {'; '.join(warned[1])}.",
        label=spec.name.replace("/", "-"),
        notes=notes,
        rules=rules_of(result),
    )


def as_csv(result: TableResult) -> str:
    """One line for each cell, with all its values; a missing number has no mean."""
    text = io.StringIO()
    writer = csv.DictWriter(text, CSV_COLUMNS, lineterminator="\n")
    writer.writeheader()
    marks = table_marks(result)
    for cell in result.cells:
        writer.writerow(_csv_row(result, cell, marks.get((cell.cell.row.key, cell.cell.column.key), "")))
    return text.getvalue()


def _csv_row(result: TableResult, cell: CellResult, mark: str) -> dict[str, object]:
    spec, facts = cell.cell, facts_of(cell.done)
    low, high = paper_interval(cell) or (None, None)
    return {
        "table": result.plan.spec.name,
        "row": spec.row.key,
        "column": spec.column.key,
        "row_label": spec.row.label,
        "column_label": spec.column.label,
        "metric": spec.metric,
        "better": spec.better,
        "mean": cell.mean,
        "sd": cell.sd,
        "n": cell.n,
        "wanted": cell.wanted,
        "seeds": _joined(cell.values),
        "values": _joined(cell.values.values()),
        "paper": spec.paper,
        "difference": cell.difference,
        "difference_low": low,
        "difference_high": high,
        "mark": mark,
        "reference": spec.row.reference or spec.column.reference,
        "state": cell.state,
        "reason": cell.reason,
        "budget": _joined(dict.fromkeys(str(recipe.config["budget"]) for recipe in spec.recipes)) or result.plan.budget,
        "data": _joined(fact.name for fact in facts),
        "test_images": _joined(fact.test for fact in facts),
        "train_images": _joined(fact.train for fact in facts),
        "of_test_images": _joined(fact.of for fact in facts),
        "complete": all(fact.complete for fact in facts) if facts else "",
        "lossless": all(fact.lossless for fact in facts) if facts else "",
        "fingerprint": _joined(fact.fingerprint for fact in facts),
        "note": _joined(fact.note for fact in facts),
        "protocol": cell.done[0].protocol(spec.metric) if cell.done else "",
        "hardware": _joined(dict.fromkeys(where for run in cell.done for where in run.hardware)),
        "commits": _joined(dict.fromkeys(commit for run in cell.done for commit in run.commits)),
        "runs": _joined(recipe.name for recipe in spec.recipes),
        "archived": _joined(run.recipe.name for run in cell.done if run.archived),
    }


def _joined(values: Iterable[object]) -> str:
    return ";".join("" if value is None else str(value) for value in values)


def _span(result: TableResult) -> str:
    """A legend of the intervals, if there are any."""
    there = any(paper_interval(cell) is not None for cell in result.cells)
    return f" ({1 - LEVEL:.0%} interval)" * there


def _warning_lines(result: TableResult) -> list[str]:
    warned = warning(result)
    return [] if warned is None else [f"! {warned[0]}", *(f"!   {point}" for point in warned[1])]


def plain(text: str) -> str:
    """Text with the special characters of Markdown escaped."""
    return re.sub(r"([\\`*_\[\]<>|])", r"\\\1", " ".join(text.split()))
