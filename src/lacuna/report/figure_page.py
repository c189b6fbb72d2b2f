"""A figure on disk and on the terminal: picture, note, protocol, missing parts."""

from __future__ import annotations

import os
from pathlib import Path

from lacuna import files
from lacuna.drawing.html_page import Facts, Links, Notice, Picture, Section, Table, render_page
from lacuna.drawing.pictures import finish
from lacuna.report.cells import missing_numbers
from lacuna.report.figures import draw_figure
from lacuna.report.table_notes import protocol, warning
from lacuna.report.table_page import data_section, run_sections
from lacuna.runs.protocol import mask_text
from lacuna.tables.gather import TableResult
from lacuna.tables.spec import OF_DATA

NUMBERS_ONLY = ("", "seeds", "marks")
"""Entries of a table's protocol that do not apply to a figure."""


def write_figure(result: TableResult, folder: Path) -> Path:
    """Write ``figure.png`` and the page with it, ``index.html``.

    Returns:
        The page.

    Raises:
        LacunaError: the folder cannot be written.
    """
    picture = folder / "figure.png"
    finish(draw_figure(result), picture)
    files.write_text(folder / "index.html", figure_page(result, folder, picture))
    return folder / "index.html"


def figure_page(result: TableResult, folder: Path, picture: Path) -> str:
    """The page in ``folder``; it is self-contained and holds the picture."""
    spec, warned = result.plan.spec, _warning(result)
    rows = [{"missing": cells, "why": reason} for reason, cells in missing_numbers(result)]
    sections: list[Section] = [
        *([] if warned is None else [Notice(*warned)]),
        Picture(picture, alt=spec.title, caption=spec.note),
        Facts(figure_facts(result), heading="Protocol"),
        *([Table(rows, heading="Missing parts")] if rows else []),
        *data_section(result),
        *run_sections(result, folder),
        Links([(os.path.basename(picture), os.path.basename(picture), "")], heading="The same figure"),
    ]
    return render_page(spec.title, sections, footer=spec.name)


def figure_facts(result: TableResult) -> list[tuple[str, str]]:
    """The protocol of the figure: (name, text) pairs."""
    masks = {cell.cell.row.label: cell.cell.config["mask"] for cell in result.cells if cell.cell.config is not None}
    if _of_data(result):
        return [(label, mask_text(mask)) for label, mask in masks.items()]
    found = [entry for entry in protocol(result) if entry[0] not in NUMBERS_ONLY]
    measured = {str(run.recipe.config["hardware"]) for cell in result.cells for run in cell.done if run.recipe.measured}
    found += [("measured on", ", ".join(sorted(measured)))] if measured else []
    return [*found, ("seed", str(result.plan.seeds[0]))]


def _of_data(result: TableResult) -> bool:
    figure = result.plan.spec.figure
    return figure is not None and figure["kind"] in OF_DATA


def _warning(result: TableResult) -> tuple[str, list[str]] | None:
    """The warning of a table; a figure that shows data has no budget."""
    if not _of_data(result):
        return warning(result)
    changed = [f"changed by the user: {change}" for change in result.plan.overrides]
    return ("A changed setting.", changed) if changed else None


def figure_text(result: TableResult) -> str:
    """For a terminal: title, warning, missing parts."""
    spec, warned = result.plan.spec, _warning(result)
    lines = [f"{spec.name}: {spec.title} (a figure)"]
    lines += [] if warned is None else [f"! {warned[0]}", *(f"!   {point}" for point in warned[1])]
    lines += [f"missing: {cells}: {reason}" for reason, cells in missing_numbers(result)]
    return "\n".join(lines)
