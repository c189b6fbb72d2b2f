"""The tables of ``reproduce.py`` as a run of W&B: numbers, pictures and pages as they are at the end of a command."""

from __future__ import annotations

import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lacuna.drawing.text_table import Cell
from lacuna.report.cells import ROW_NAMES, rows_of
from lacuna.runs.mirror_options import MirrorOptions
from lacuna.tables.gather import TableResult, gather
from lacuna.tables.plan import Plan
from lacuna.training.mirrors.base import DONE, FAILED, RunFacts
from lacuna.training.mirrors.memory import Memory
from lacuna.training.mirrors.wandb_access import package
from lacuna.training.mirrors.wandb_run import start_run

FOLDER = "dashboards"
"""Folder of the runs of tables, in ``output``."""
COLUMNS = ("row", "column", "metric", "better", "mean", "sd", "n", "paper", "difference", "state", "reason")
MOST_PICTURES = 24
PAGE_BYTES = 20_000_000
"""Largest page that is logged."""


def log_tables(plan: Plan, group: str, options: MirrorOptions) -> None:
    """Log the tables, as they are now, to their run of W&B: the same one in every command.

    A failure is reported in a sentence: the tables are on disk.
    """
    try:
        _log(plan, group, options)
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        print(f"logger=wandb failed for the tables ({reason[:300]}); they are on disk.", file=sys.stderr, flush=True)


def _log(plan: Plan, group: str, options: MirrorOptions) -> None:
    facts = _facts(plan, group, options)
    memory = Memory(facts.folder)
    identity = memory["wandb"].setdefault("id", uuid.uuid4().hex[:12])
    run = start_run(facts, options, run_id=identity)
    if run is None:
        return
    memory.save()
    exit_code = FAILED
    try:
        results = gather(plan)
        for result in results:
            prefix = "" if len(results) == 1 else f"{result.plan.spec.name}/"
            folder = plan.output / "tables" / result.plan.folder
            run.log({f"{prefix}{name}": value for name, value in _shown(result, folder).items()})
            run.summary.update({f"{prefix}{name}": value for name, value in _numbers(result).items()})
            if "results" in options.artifacts:
                _store(run, result, folder)
        exit_code = DONE
    finally:
        run.finish(exit_code=exit_code)


def _facts(plan: Plan, group: str, options: MirrorOptions) -> RunFacts:
    """The run: one for each group, budget and change of the tables."""
    first = plan.tables[0]
    name = first.folder if len(plan.tables) == 1 else f"{group}-{first.budget}"
    tables = [table.spec.name for table in plan.tables]
    return RunFacts(
        identity="",
        name=f"table {name}",
        group=group,
        job_type="table",
        tags=tuple(dict.fromkeys([*tables[:10], first.budget, *options.tags])),
        config={
            "tables": tables,
            "budget": first.budget,
            "seeds": list(first.seeds),
            "overrides": list(first.overrides),
        },
        folder=plan.output / FOLDER / name.replace("/", "-"),
        output=plan.output,
    )


def _shown(result: TableResult, folder: Path) -> dict[str, Any]:
    """What the run shows of a table."""
    wandb = package()
    found: dict[str, Any] = dict(_pictures(result, folder))
    if result.plan.spec.figure is None:
        rows = [[_plain(row[name]) for name in row] for row in rows_of(result)]
        names = [name if name != ROW_NAMES else "method" for name in rows_of(result)[0]]
        found["results"] = wandb.Table(columns=list(COLUMNS), data=_results(result))
        found["comparison"] = wandb.Table(columns=names, data=rows)
    page = folder / "index.html"
    if page.is_file() and page.stat().st_size <= PAGE_BYTES:
        found["page"] = wandb.Html(page.read_text(encoding="utf-8"), inject=False)
    return found


def _results(result: TableResult) -> list[list[Any]]:
    """One line for each cell, :data:`COLUMNS`."""
    return [
        [
            cell.cell.row.label or cell.cell.row.key,
            cell.cell.column.label or cell.cell.column.key,
            cell.cell.metric,
            cell.cell.better,
            cell.mean,
            cell.sd,
            cell.n,
            cell.cell.paper,
            cell.difference,
            cell.state,
            cell.reason,
        ]
        for cell in result.cells
    ]


def _numbers(result: TableResult) -> dict[str, float]:
    """``row/column`` -> mean, and how many cells are done."""
    if result.plan.spec.figure is not None:
        return {}
    means = {f"{cell.cell.row.key}/{cell.cell.column.key}": cell.mean for cell in result.cells}
    counts = {"cells": len(result.cells), "cells_done": sum(cell.mean is not None for cell in result.cells)}
    return {name: value for name, value in means.items() if value is not None} | counts


def _plain(cell: str | Cell) -> str:
    return cell if isinstance(cell, str) else f"{cell}{f' [{cell.below}]' if cell.below else ''}"


def _pictures(result: TableResult, folder: Path) -> Iterator[tuple[str, Any]]:
    """The figure, or the pictures of the first run of every cell, each with a name of its own: their sizes differ."""
    image = package().Image
    if result.plan.spec.figure is not None:
        if (folder / "figure.png").is_file():
            yield "figure", image(str(folder / "figure.png"), caption=result.plan.spec.title)
        return
    shown: dict[Path, str] = {}
    for cell in result.cells:
        for run in cell.done[:1]:
            paths = () if run.archived else sorted(run.folder.pictures.glob("*.png"))
            for path in paths:
                shown.setdefault(path, f"{cell.cell.label}: {path.stem.replace('_', ' ')}")
    for path, caption in list(shown.items())[:MOST_PICTURES]:
        yield f"pictures/{caption}", image(str(path), caption=caption)


def _store(run: Any, result: TableResult, folder: Path) -> None:
    artifact = package().Artifact(result.plan.folder.replace("/", "-")[:120], type="table")
    for path in sorted(folder.glob("*.*")):
        artifact.add_file(str(path))
    run.log_artifact(artifact)
