"""From tables to runs: every cell becomes recipes, equal recipes become one run, finished runs are left out.

A run whose numbers are in the archive is left out, too, unless another run needs its weights or a figure its pictures.

Nothing here imports torch and nothing is trained: a plan of thousands of cells takes seconds.
"""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from lacuna.config.composer import Composer
from lacuna.errors import LacunaError
from lacuna.runs.archive_record import Archive, ArchivedRun
from lacuna.runs.budget import source_of
from lacuna.runs.folder import RunFolder
from lacuna.runs.prepare import data_key, fingerprint_at_hand, prepare_data
from lacuna.runs.recipe import Recipe
from lacuna.runs.resolve import resolve
from lacuna.runs.results import left_out
from lacuna.runs.settings import Settings
from lacuna.tables.archived_data import recorded_fingerprint
from lacuna.tables.options import RunOptions
from lacuna.tables.spec import OF_DATA, Axis, TableSpec

DONE, TODO, PARTLY, FAILED, RUNNING = "done", "to do", "begun", "failed before", "running elsewhere"
ARCHIVED = "archived"
"""The numbers of the run are in the archive, and nothing needs its weights or pictures."""
UNNEEDED = "not needed"
"""No cell shows the numbers of the run, and all runs that build on it are done or archived."""
UNKNOWN_FINGERPRINT = "unknown"
"""In place of the fingerprint of data that are not on this machine. Runs with it can only be listed."""


@dataclass(frozen=True)
class Cell:
    """One cell: its metric, and the runs that it is the mean of."""

    row: Axis
    column: Axis
    metric: str
    better: str
    digits: int
    paper: float | None
    recipes: tuple[Recipe, ...]
    """One for each seed; empty if the data are not on this machine, so that the runs cannot be identified."""
    config: Mapping[str, Any] | None = None
    """Only for a figure that shows data, if these are on this machine: the configuration of data and mask."""

    @property
    def label(self) -> str:
        """For people: ``MisConv, SVHN``."""
        return f"{self.row.label}, {self.column.label}"


@dataclass(frozen=True)
class TablePlan:
    """A table with its cells and their runs."""

    spec: TableSpec
    cells: tuple[Cell, ...]
    budget: str
    seeds: tuple[int, ...]
    overrides: tuple[str, ...] = ()
    """The user's changes to its runs."""

    @property
    def folder(self) -> str:
        """Folder of the rendered table. A reduced, changed or partial table never replaces the full one."""
        parts = [self.spec.name, *([] if self.budget == "paper" else [self.budget])]
        changes = (*self.overrides, *self.spec.selection)
        if changes:
            parts.append(hashlib.sha256("\n".join(changes).encode()).hexdigest()[:6])
        return "-".join(parts)


@dataclass
class PlannedRun:
    """A run that cells or other runs need."""

    recipe: Recipe
    settings: Settings
    cells: list[str] = field(default_factory=list)
    state: str = TODO
    cpus: int | None = None
    """CPU cores that the table requests, if the executor's config does not say."""
    shown: bool = False
    """Whether a cell shows its numbers; otherwise it is a prerequisite only."""
    pictures: bool = False
    """Whether a figure needs its files, and not only its numbers."""
    archived: ArchivedRun | None = None
    """Its numbers in the archive, whatever the state of its directory."""

    @property
    def folder(self) -> RunFolder:
        """The run's directory."""
        return RunFolder.of(self.settings.output, self.recipe)


@dataclass
class Plan:
    """Tables and every run they need, prerequisites first."""

    tables: tuple[TablePlan, ...]
    output: Path
    runs: dict[str, PlannedRun] = field(default_factory=dict)
    missing_data: tuple[str, ...] = ()
    archive: Archive = field(default_factory=lambda: Archive(None))
    assumed_data: tuple[str, ...] = ()
    """Names of data that are not on this machine and are planned from their published counts: to list, never to run."""

    @cached_property
    def counts(self) -> dict[str, int]:
        """Number of runs by state."""
        return dict(Counter(run.state for run in self.runs.values()))

    def unfinished(self) -> list[PlannedRun]:
        """The runs still to be done."""
        return [run for run in self.runs.values() if run.state not in (DONE, ARCHIVED, UNNEEDED)]


def plan_tables(specs: Iterable[TableSpec], composer: Composer, options: RunOptions) -> Plan:
    """Plan tables: the recipes of every cell, and the state of every run.

    Args:
        composer: of ``train``'s configurations.

    Raises:
        LacunaError: a table names an experiment or a key that does not exist; an override that fits no cell.
    """
    planner = _Planner(composer, options)
    tables = tuple(planner.table(spec) for spec in specs)
    unused = set(options.values) - planner.used
    if unused:
        first = sorted(unused)[0]
        if first in planner.own:
            raise LacunaError(f"{first}: all cells of these tables that have this key set it themselves.")
        raise LacunaError(f"{first}: no cell of these tables has this key.")
    output = Path(options.infrastructure["output"])
    data = tuple(sorted(planner.missing)), planner.archive, tuple(sorted(planner.assumed))
    plan = Plan(tables, output, planner.runs, *data)
    find_states(plan)
    return plan


class _Planner:
    def __init__(self, composer: Composer, options: RunOptions) -> None:
        self.composer, self.options = composer, options
        self.runs: dict[str, PlannedRun] = {}
        self.used: set[str] = set()
        self.own: set[str] = set()
        self.missing: set[str] = set()
        self.archive = Archive(options.archive, options.infrastructure["output"], left_out)
        self.assumed: set[str] = set()
        self._fingerprints: dict[str, str | None] = {}

    def table(self, spec: TableSpec) -> TablePlan:
        cells = [self._cell(spec, row, column) for row in spec.rows for column in spec.columns]
        changed = (*self.options.choices, *(f"{key}={value}" for key, value in self.options.values.items()))
        return TablePlan(spec, tuple(cells), str(self.options.budget["name"]), self._seeds(spec), changed)

    def _seeds(self, spec: TableSpec) -> tuple[int, ...]:
        return self.options.seeds if spec.figure is None else self.options.seeds[:1]

    def _cell(self, spec: TableSpec, row: Axis, column: Axis) -> Cell:
        config = self._config(spec, row, column)
        of_data = spec.figure is not None and spec.figure["kind"] in OF_DATA
        cell = Cell(
            row=row,
            column=column,
            metric=spec.cell_metric(row, column),
            better=spec.cell_better(row, column),
            digits=spec.cell_digits(row, column),
            paper=spec.printed(row, column),
            recipes=() if of_data else self._recipes(config, self._seeds(spec)),
            config=config if of_data and self._has_data(config) else None,
        )
        settings = Settings.of(config)
        for recipe in cell.recipes:
            self._add_run(recipe, settings, f"{spec.name}: {cell.label}", spec.cpus)
            run = self.runs[recipe.identity]
            run.shown, run.pictures = True, run.pictures or spec.figure is not None
        return cell

    def _config(self, spec: TableSpec, row: Axis, column: Axis) -> dict[str, Any]:
        choices = (*spec.choices(row, column), *self.options.choices)
        base = self.composer.base(choices)
        overrides = {key: value for key, value in self.options.values.items() if self.composer.has(base, key)}
        own = spec.values(row, column)  # these stay, for the labels of row and column describe them
        self.used |= set(overrides) - set(own)
        self.own |= set(overrides) & set(own)
        config = self.composer.with_values(base, {**overrides, **own}, f"table={spec.name}")
        infrastructure = self.options.infrastructure
        return {
            **config,
            "budget": self.options.budget,
            **{key: infrastructure[key] for key in ("output", "trainer", "logger")},
            "plugins": sorted({*config.get("plugins", ()), *infrastructure.get("plugins", ())}),
            "data": {**config["data"], **infrastructure["data"]},
        }

    def _recipes(self, config: dict[str, Any], seeds: tuple[int, ...]) -> tuple[Recipe, ...]:
        fingerprint = self._fingerprint(config)
        if fingerprint is None:
            known = self.options.assume_data and source_of(config["data"]).official_counts
            (self.assumed if known else self.missing).add(str(config["data"]["name"]))
            if not known:
                return ()
            fingerprint = UNKNOWN_FINGERPRINT
        first = resolve({**config, "seed": seeds[0]}, fingerprint)
        return tuple(first.with_seed(seed) for seed in seeds)

    def _has_data(self, config: dict[str, Any]) -> bool:
        """Whether the data themselves are on this machine, and not only results."""
        self._fingerprint(config)  # prepares them if allowed
        here = fingerprint_at_hand(config) is not None
        self.missing |= set() if here else {str(config["data"]["name"])}
        return here

    def _fingerprint(self, config: dict[str, Any]) -> str | None:
        key = data_key(config)
        if key not in self._fingerprints:
            found = fingerprint_at_hand(config)
            if found is None and self.options.prepare():
                found = prepare_data(config)
            known = found or recorded_fingerprint(Path(config["output"]), self.archive, str(config["data"]["name"]))
            self._fingerprints[key] = known
        return self._fingerprints[key]

    def _add_run(self, recipe: Recipe, settings: Settings, cell: str, cpus: int | None) -> None:
        run = self.runs.get(recipe.identity)
        if run is None:
            for needed in recipe.prerequisites.values():
                self._add_run(needed, settings, cell, cpus)
            run = self.runs[recipe.identity] = PlannedRun(recipe, settings, cpus=cpus)
        if cell not in run.cells:
            run.cells.append(cell)


def find_states(plan: Plan) -> None:
    """Look up the state of every run of a plan. The directory of runs is listed once."""
    try:
        present = set(os.listdir(plan.output / "runs"))
    except OSError:
        present = set()
    for run in plan.runs.values():
        run.state = _state(run.folder) if run.recipe.name in present else TODO
        run.archived = plan.archive.get(run.recipe)
    needed: set[str] = set()
    for run in reversed(plan.runs.values()):  # prerequisites come first in a plan
        if run.state == DONE:
            continue
        needs_files = run.pictures or run.recipe.identity in needed
        if not needs_files and run.archived is not None:
            run.state = ARCHIVED
        elif not needs_files and not run.shown:
            run.state = UNNEEDED
        else:
            needed |= {other.identity for other in run.recipe.prerequisites.values()}
    plan.__dict__.pop("counts", None)


def _state(folder: RunFolder) -> str:
    if folder.finished:
        return DONE
    status = folder.status
    if status.get("state") == "failed":
        return FAILED
    if status.get("state") == "running" and folder.in_use:
        return RUNNING
    return PARTLY if folder.resumable else TODO
