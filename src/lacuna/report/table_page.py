"""The page of a table: pictures first, then the numbers, then how they came about (curves, protocol, data, runs)."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from urllib.parse import quote

from PIL import Image

from lacuna.drawing.html_page import (
    Charts,
    Code,
    Details,
    Facts,
    Gallery,
    Links,
    Notice,
    Picture,
    Section,
    Table,
    Text,
    render_page,
)
from lacuna.drawing.text_table import Cell
from lacuna.report.cells import missing_numbers, rows_of, rules_of, titles_of
from lacuna.report.curves import MOST_LINES, MOST_PANELS, panels_of
from lacuna.report.data_facts import data_facts, facts_of
from lacuna.report.imputation_rows import imputation_rows
from lacuna.report.table_notes import protocol, warning
from lacuna.report.verdict import verdict
from lacuna.tables.gather import FAILED, RunView, TableResult
from lacuna.tables.plan import DONE

PICTURE_BYTES = 6_000_000
"""Largest size of all pictures of a page together. In the page they are a third larger, as text."""
MOST_RUNS = 400
"""Largest number of listed runs."""
LOG_LINES = 40
OTHER_FORMS = ("table.md", "table.tex", "table.csv")


def table_page(result: TableResult, folder: Path) -> str:
    """The page that stands in ``folder``, which is where its links start from."""
    spec = result.plan.spec
    panels = imputation_rows(result)
    pictures = _pictures(result, "Pictures of the runs" if panels else "Pictures")
    top: list[Section] = [dataclasses.replace(panels[0], heading="Pictures"), *panels[1:]] if panels else pictures
    sections = [
        *_warning(result),
        *top,
        *_numbers(result),
        *_missing(result),
        *_curves(result),
        Facts(protocol(result), heading="Protocol"),
        *data_section(result),
        *(pictures if panels else []),
        *_failures(result),
        *run_sections(result, folder),
        Links([(name, name, "") for name in OTHER_FORMS], heading="The same table"),
    ]
    return render_page(spec.title, sections, lead=spec.note, footer=spec.name)


def index_page(results: Sequence[TableResult]) -> str:
    """The page that lists the tables, a line for each. It is in the folder above them."""
    rows = []
    for result in results:
        done = sum(cell.state == DONE for cell in result.cells)
        warned = warning(result)
        rows.append(
            {
                "table": Cell(result.plan.spec.name, link=f"{quote(result.plan.folder)}/index.html"),
                "what it shows": result.plan.spec.title,
                "cells": f"{done} of {len(result.cells)}",
                "budget": result.plan.budget,
                "": "" if warned is None else warned[0].split(":")[0],
            }
        )
    return render_page("Tables", [Table(rows)])


def _warning(result: TableResult) -> list[Section]:
    warned = warning(result)
    return [] if warned is None else [Notice(*warned)]


def _numbers(result: TableResult) -> list[Section]:
    """What the numbers say in words, and the numbers."""
    said = verdict(result)
    words: list[Section] = [Text("\n\n".join(said), heading="Results")] if said else []
    return [*words, _table(result, None if said else "Results")]


def _table(result: TableResult, heading: str | None) -> Table:
    titles, heads = titles_of(result), {}
    for column in result.plan.spec.columns:
        cells = [result.at(row, column) for row in result.plan.spec.rows]
        tested = {fact.short for fact in facts_of(run for cell in cells for run in cell.done)}
        if len(tested) == 1:
            heads[titles[column.key]] = tested.pop()
    heads = heads if len(set(heads.values())) > 1 else {}
    below = (
        "Below each number: the paper's, and ours minus the paper's, with an interval if there are at least two seeds."
    )
    below = below if result.has_paper else ""
    rules = rules_of(result)
    return Table(rows_of(result), caption=below, heading=heading, heads=heads, row_heads=True, rules=rules)


def _missing(result: TableResult) -> list[Section]:
    missing = missing_numbers(result)
    if not missing:
        return []
    return [Table([{"missing": cells, "why": reason} for reason, cells in missing], heading="Missing numbers")]


def _curves(result: TableResult) -> list[Section]:
    panels = panels_of(result)
    if not panels:
        return []
    members = result.plan.spec.columns if result.plan.spec.compare == "rows" else result.plan.spec.rows
    left_out = len(result.groups) > MOST_PANELS or len(members) > MOST_LINES
    caption = "Mean over seeds." + (" The first ones of the table only." if left_out else "")
    return [Charts(panels, caption=caption, heading="Learning curves")]


def _pictures(result: TableResult, heading: str) -> list[Section]:
    """The pictures of every method's first finished runs, up to :data:`PICTURE_BYTES`."""
    spec = result.plan.spec
    by_row = spec.compare != "rows"
    methods = spec.rows if by_row else spec.columns
    left, details, shown, dropped = PICTURE_BYTES, [], set[Path](), 0
    for method in methods:
        pictures: list[Picture] = []
        for other in spec.columns if by_row else spec.rows:
            cell = result.at(method, other) if by_row else result.at(other, method)
            for path in _picture_files(cell.runs):
                size = path.stat().st_size
                if path in shown:
                    continue
                shown.add(path)
                if size > left:
                    dropped += 1
                    continue
                left -= size
                name = path.stem.replace("_", " ")
                pictures.append(Picture(path, f"{name} of {cell.cell.label}", f"{other.label}: {name}"))
        if pictures:
            details.append(Details(method.label, [Gallery(pictures)]))
    if dropped:
        details.append(Details(f"{dropped} more pictures", [Text("They lie in the runs' folders, under pictures/.")]))
    return [Text("Of the first seed.", heading=heading), *details] if details else []


def _picture_files(runs: Sequence[RunView]) -> list[Path]:
    """The readable pictures of the first finished run."""
    first = next((run for run in runs if run.stored is not None and not run.stored.archived), None)
    found = []
    for path in sorted(first.planned.folder.pictures.glob("*.png")) if first else []:
        try:
            with Image.open(path) as image:
                image.verify()
        except (OSError, SyntaxError, ValueError):  # an incomplete file, or not a picture
            continue
        found.append(path)
    return found


def data_section(result: TableResult) -> list[Section]:
    """The data sets of a table: numbers of images and how they differ from the published ones."""
    rows = [
        {
            "data": fact.name,
            "training images": fact.trained_on,
            "test images": fact.tested_on.replace(" test images", ""),
            "whole test set": fact.complete,
            "pixels as published": fact.lossless,
            "note": fact.note,
            "fingerprint": fact.fingerprint,
        }
        for fact in data_facts(result)
    ]
    return [Table(rows, heading="Data")] if rows else []


def _failures(result: TableResult) -> list[Section]:
    failed = [run.local for run in result.runs.values() if run.local.state == FAILED]
    found: list[Section] = []
    for run in failed[:MOST_RUNS]:
        heading = None if found else "Failed runs"
        if heading:
            found.append(Text("The same command retries them.", heading=heading))
        found.append(Details(f"{run.planned.recipe.name}: {run.why}", [Code(_log(run))]))
    return found


def _log(run: RunView) -> str:
    """The end of a run's log, with the traceback."""
    try:
        lines = (run.planned.folder.path / "log.txt").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    return "\n".join(lines[-LOG_LINES:]) or run.why


def run_sections(result: TableResult, folder: Path) -> list[Section]:
    """The runs of a table with links to their folders, their hardware and commits."""
    runs = list(result.runs.values())
    if not runs:
        return []
    rows = [_run_row(run, folder) for run in runs[:MOST_RUNS]]
    more = f" (the first {MOST_RUNS} of {len(runs)})" if len(runs) > MOST_RUNS else ""
    where = dict.fromkeys(text for run in runs for text in _hardware(run))
    commits = dict.fromkeys(commit for run in runs if run.stored for commit in run.stored.commits)
    facts = [("hardware", "; ".join(where)), ("commits", ", ".join(commits))]
    return [
        Facts([fact for fact in facts if fact[1]], heading="Runs"),
        Details(f"{len(runs)} runs, with links to their folders{more}", [Table(rows)]),
    ]


def _hardware(run: RunView) -> Iterator[str]:
    if run.stored is not None:
        yield from run.stored.hardware


def _run_row(run: RunView, folder: Path) -> dict[str, object]:
    path = run.planned.folder.path
    link = "" if run.state != DONE and not path.is_dir() else f"{_relative(path, folder)}/"
    if run.stored is not None and run.stored.archived:
        link = _relative(run.stored.place, folder)
    seconds = run.stored.seconds if run.stored is not None else float("nan")
    return {
        "run": Cell(run.planned.recipe.name, link=link),
        "state": run.state,
        "seconds": seconds if seconds != seconds else round(seconds),
        "hardware": ", ".join(_hardware(run)),
        "commit": ", ".join(run.stored.commits) if run.stored else "",
    }


def _relative(path: Path, folder: Path) -> str:
    """The address of a run's folder or file, relative to the folder of the page."""
    try:
        return quote(Path(os.path.relpath(path.resolve(), folder.resolve())).as_posix())
    except ValueError:  # another drive
        return path.resolve().as_uri()
