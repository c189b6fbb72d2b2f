"""From tables to the runs behind them: cells become recipes, equal recipes become one run, finished ones drop out.

A run whose numbers are in the archive drops out, too, unless another one needs its weights or a figure its pictures.

Nothing here imports torch and nothing is trained: a plan of thousands of cells takes seconds.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Mapping
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
from lacuna.tables.known_data import fingerprint_in
from lacuna.tables.spec import OF_DATA, Axis, TableSpec

DONE, TODO, PARTLY, FAILED, RUNNING = "done", "to do", "begun", "failed before", "running elsewhere"
ARCHIVED = "archived"
"""Its numbers are in the archive, and nothing needs its weights or pictures."""
UNNEEDED = "not needed"
"""No cell shows its numbers, and whatever would build on it is done or archived."""
NOT_HERE = "unknown"
"""Stands for the fingerprint of data that are not on this machine: no such run can be done."""


@dataclass(frozen=True)
class Cell:
    """One cell: what is shown, and the runs it is the mean of."""

    row: Axis
    column: Axis
    metric: str
    better: str
    digits: int
    paper: float | None
    recipes: tuple[Recipe, ...]
    """One a seed; empty where the data are not here, so that nobody can say which run it is."""
    config: Mapping[str, Any] | None = None
    """Of a figure that shows data, where these are here: what says which."""

    @property
    def label(self) -> str:
        """For people: ``MisConv, SVHN``."""
        return f"{self.row.label}, {self.column.label}"


@dataclass(frozen=True)
class TablePlan:
    """A table whose cells know their runs."""

    spec: TableSpec
    cells: tuple[Cell, ...]
    budget: str
    seeds: tuple[int, ...]
    overrides: tuple[str, ...] = ()
    """What the user changed in its runs."""

    @property
    def folder(self) -> str:
        """Where it is rendered: a reduced, changed or partial table never takes the place of the full one."""
        parts = [self.spec.name, *([] if self.budget == "paper" else [self.budget])]
        changes = (*self.overrides, *self.spec.part)
        if changes:
            parts.append(hashlib.sha256("\n".join(changes).encode()).hexdigest()[:6])
        return "-".join(parts)


@dataclass
class PlannedRun:
    """A run that some cells, or other runs, need."""

    recipe: Recipe
    settings: Settings
    cells: list[str] = field(default_factory=list)
    state: str = TODO
    cpus: int | None = None
    """What the table asks for, where the executor's config leaves it open."""
    shown: bool = False
    """Whether a cell shows its numbers; otherwise others build on it."""
    pictures: bool = False
    """Whether a figure is drawn from what it leaves behind besides its numbers."""
    archived: ArchivedRun | None = None
    """Its numbers in the archive, whatever its own state."""

    @property
    def folder(self) -> RunFolder:
        """Where it is."""
        return RunFolder.of(self.settings.output, self.recipe)


@dataclass
class Plan:
    """Tables, and every run they need, those that others need first."""

    tables: tuple[TablePlan, ...]
    output: Path
    runs: dict[str, PlannedRun] = field(default_factory=dict)
    missing_data: tuple[str, ...] = ()
    archive: Archive = field(default_factory=lambda: Archive(None))
    assumed_data: tuple[str, ...] = ()
    """Not here, but planned from their published counts: to look at, never to be run."""

    @cached_property
    def counts(self) -> dict[str, int]:
        """Runs by state."""
        found: dict[str, int] = {}
        for run in self.runs.values():
            found[run.state] = found.get(run.state, 0) + 1
        return found

    def open(self) -> list[PlannedRun]:
        """What is to be run."""
        return [run for run in self.runs.values() if run.state not in (DONE, ARCHIVED, UNNEEDED)]


@dataclass(frozen=True)
class Wishes:
    """What the user asks for besides the tables.

    Args:
        budget: the composed ``budget`` group.
        seeds: of the repetitions of every cell.
        choices: group choices for every cell.
        values: by dotted key, for every cell that has the key and does not set it itself.
        infrastructure: ``output``, ``trainer``, ``logger`` and ``data`` (root, download) of every run.
        prepare: whether to make data that are missing now; otherwise their cells have no runs.
        assume: plan runs of published data that are not here all the same, as runs whose identity is not known.
        archive: the folder of archived runs; None: there is none.
    """

    budget: Mapping[str, Any]
    seeds: tuple[int, ...]
    choices: tuple[str, ...] = ()
    values: Mapping[str, Any] = field(default_factory=dict)
    infrastructure: Mapping[str, Any] = field(default_factory=dict)
    prepare: Callable[[], bool] = bool
    assume: bool = False
    archive: Path | None = None


def plan_tables(specs: Iterable[TableSpec], composer: Composer, wishes: Wishes) -> Plan:
    """Plan tables.

    Raises:
        LacunaError: a table names an experiment or a key that does not exist; an override that fits no cell.
    """
    planner = _Planner(composer, wishes)
    tables = tuple(planner.table(spec) for spec in specs)
    unused = set(wishes.values) - planner.used
    if unused:
        first = sorted(unused)[0]
        if first in planner.own:
            raise LacunaError(f"{first}: every cell of these tables that has this key sets it itself.")
        raise LacunaError(f"{first}: no cell of these tables has this key.")
    output = Path(wishes.infrastructure["output"])
    missing, assumed = tuple(sorted(planner.missing)), tuple(sorted(planner.assumed))
    plan = Plan(tables, output, planner.runs, missing, planner.archive, assumed)
    find_states(plan)
    return plan


class _Planner:
    def __init__(self, composer: Composer, wishes: Wishes) -> None:
        self.composer, self.wishes = composer, wishes
        self.runs: dict[str, PlannedRun] = {}
        self.used: set[str] = set()
        self.own: set[str] = set()
        self.missing: set[str] = set()
        self.archive = Archive(wishes.archive, wishes.infrastructure["output"], left_out)
        self.assumed: set[str] = set()
        self._fingerprints: dict[str, str | None] = {}

    def table(self, spec: TableSpec) -> TablePlan:
        cells = [self._cell(spec, row, column) for row in spec.rows for column in spec.columns]
        wishes = self.wishes
        changed = (*wishes.choices, *(f"{key}={value}" for key, value in wishes.values.items()))
        return TablePlan(spec, tuple(cells), str(wishes.budget["name"]), self._seeds(spec), changed)

    def _seeds(self, spec: TableSpec) -> tuple[int, ...]:
        return self.wishes.seeds if spec.figure is None else self.wishes.seeds[:1]

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
            config=config if of_data and self._at_hand(config) else None,
        )
        settings = Settings.of(config)
        for recipe in cell.recipes:
            self._take(recipe, settings, f"{spec.name}: {cell.label}", spec.cpus)
            run = self.runs[recipe.identity]
            run.shown, run.pictures = True, run.pictures or spec.figure is not None
        return cell

    def _config(self, spec: TableSpec, row: Axis, column: Axis) -> dict[str, Any]:
        words = (*spec.words(row, column), *self.wishes.choices)
        base = self.composer.base(words)
        wished = {key: value for key, value in self.wishes.values.items() if self.composer.has(base, key)}
        own = spec.values(row, column)  # what a row is about stays: its label would be wrong otherwise
        self.used |= set(wished) - set(own)
        self.own |= set(wished) & set(own)
        config = self.composer.with_values(base, {**wished, **own}, f"table={spec.name}")
        infrastructure = self.wishes.infrastructure
        return {
            **config,
            "budget": self.wishes.budget,
            **{key: infrastructure[key] for key in ("output", "trainer", "logger")},
            "data": {**config["data"], **infrastructure["data"]},
        }

    def _recipes(self, config: dict[str, Any], seeds: tuple[int, ...]) -> tuple[Recipe, ...]:
        fingerprint = self._fingerprint(config)
        if fingerprint is None:
            known = self.wishes.assume and source_of(config["data"]).official_counts
            (self.assumed if known else self.missing).add(str(config["data"]["name"]))
            if not known:
                return ()
            fingerprint = NOT_HERE
        first = resolve({**config, "seed": seeds[0]}, fingerprint)
        return tuple(first.with_seed(seed) for seed in seeds)

    def _at_hand(self, config: dict[str, Any]) -> bool:
        """Whether the data themselves are here, and not only results."""
        self._fingerprint(config)  # prepares them, if that is wished
        here = fingerprint_at_hand(config) is not None
        self.missing |= set() if here else {str(config["data"]["name"])}
        return here

    def _fingerprint(self, config: dict[str, Any]) -> str | None:
        key = data_key(config)
        if key not in self._fingerprints:
            found = fingerprint_at_hand(config)
            if found is None and self.wishes.prepare():
                found = prepare_data(config)
            known = found or fingerprint_in(Path(config["output"]), self.archive, str(config["data"]["name"]))
            self._fingerprints[key] = known
        return self._fingerprints[key]

    def _take(self, recipe: Recipe, settings: Settings, cell: str, cpus: int | None) -> None:
        run = self.runs.get(recipe.identity)
        if run is None:
            for needed in recipe.prerequisites.values():
                self._take(needed, settings, cell, cpus)
            run = self.runs[recipe.identity] = PlannedRun(recipe, settings, cpus=cpus)
        if cell not in run.cells:
            run.cells.append(cell)


def find_states(plan: Plan) -> None:
    """Look up how every run of a plan stands; one listing of the directory for those that never began."""
    try:
        present = set(os.listdir(plan.output / "runs"))
    except OSError:
        present = set()
    for run in plan.runs.values():
        run.state = _state(run.folder) if run.recipe.name in present else TODO
        run.archived = plan.archive.get(run.recipe)
    needed: set[str] = set()
    for run in reversed(plan.runs.values()):  # what others need stands before them
        if run.state == DONE:
            continue
        wanted = run.pictures or run.recipe.identity in needed
        if not wanted and run.archived is not None:
            run.state = ARCHIVED
        elif not wanted and not run.shown:
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
