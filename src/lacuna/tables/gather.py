"""From a plan to the numbers of its tables: what run directories and archive say now, and why a number is missing.

A table is a pure function of the two: it can be made at any time, with holes where nothing is done yet.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

from lacuna.errors import LacunaError
from lacuna.runs.finished import StoredRun, read_run
from lacuna.tables import plan as planning
from lacuna.tables.plan import ARCHIVED, DONE, PARTLY, TODO, Cell, Plan, PlannedRun, TablePlan, find_states
from lacuna.tables.spec import Axis

FAILED, RUNNING, BLOCKED, DAMAGED = "failed", "running", "blocked", "damaged"
NO_DATA, NO_METRIC = "no data", "no metric"
NUMBERS_ONLY = "only its numbers are archived, and a figure takes more"
WORST_FIRST = (FAILED, DAMAGED, BLOCKED, NO_METRIC, NO_DATA, RUNNING, PARTLY, TODO)


@dataclass(frozen=True)
class RunView:
    """How a run stands.

    Args:
        planned: the run.
        state: done, archived, failed, blocked (what it needs failed), damaged (done, but unreadable), running, begun or
            to do.
        why: the sentence behind failed, blocked and damaged; otherwise empty.
        stored: its numbers, once it is done or archived.
        folder: how its directory stands, where it is archived and something needs more of it than its numbers.
    """

    planned: PlannedRun
    state: str
    why: str = ""
    stored: StoredRun | None = None
    folder: RunView | None = None

    @property
    def own(self) -> RunView:
        """How its directory stands, whatever the archive has."""
        return self.folder or self

    @property
    def seed(self) -> int:
        """Of the repetition."""
        return int(self.planned.recipe.config["seed"])


@dataclass(frozen=True)
class CellResult:
    """A cell's number, made of its runs' numbers.

    Args:
        cell: what is shown.
        wanted: how many repetitions were asked for.
        runs: the runs behind it, one a seed; none where the data are not here.
        values: by seed, the metric of the runs that are done and have it.
        missing: by seed, (state, why) of the others.
    """

    cell: Cell
    wanted: int
    runs: tuple[RunView, ...] = ()
    values: Mapping[int, float] = field(default_factory=dict)
    missing: Mapping[int, tuple[str, str]] = field(default_factory=dict)

    @property
    def n(self) -> int:
        """How many values there are."""
        return len(self.values)

    @cached_property
    def mean(self) -> float | None:
        """Of the values, over seeds."""
        return math.fsum(self.values.values()) / self.n if self.values else None

    @cached_property
    def sd(self) -> float | None:
        """Sample standard deviation over seeds; None for fewer than two."""
        return statistics.stdev(self.values.values()) if self.n > 1 else None

    @property
    def difference(self) -> float | None:
        """Ours minus the paper's, where both are there."""
        return None if self.mean is None or self.cell.paper is None else self.mean - self.cell.paper

    @cached_property
    def done(self) -> tuple[StoredRun, ...]:
        """The runs that give a value (in a figure, that are done)."""
        return tuple(run.stored for run in self.runs if run.stored is not None and run.seed not in self.missing)

    @cached_property
    def test_images(self) -> int | None:
        """How many test images a value is about (the fewest, if they differ)."""
        counts = [dict(run.data.get("images") or {}).get("test") for run in self.done]
        known = [count for count in counts if isinstance(count, int)]
        return min(known, default=None)

    @property
    def _without_data(self) -> bool:
        return not self.runs and self.cell.config is None

    @property
    def state(self) -> str:
        """``done``, or what is worst among the missing repetitions."""
        states = {state for state, _ in self.missing.values()} or ({NO_DATA} if self._without_data else set())
        return next((state for state in WORST_FIRST if state in states), DONE)

    @cached_property
    def reason(self) -> str:
        """Why there are fewer values than wanted, in a sentence; empty where none is missing."""
        if self._without_data:
            return "the data are not here"
        groups: dict[str, list[int]] = {}
        for seed, (state, why) in self.missing.items():
            groups.setdefault(f"{state}: {why}" if why else state, []).append(seed)
        if len(groups) == 1 and len(self.missing) == self.wanted:
            return next(iter(groups))
        return "; ".join(
            f"seed{'s' * (len(seeds) > 1)} {', '.join(map(str, seeds))} {text}" for text, seeds in groups.items()
        )


@dataclass(frozen=True)
class Group:
    """Cells that are compared with each other: a column, or a row where the table says so.

    Args:
        axis: the column (or row) they stand in.
        members: what differs, with its cell.
    """

    axis: Axis
    members: tuple[tuple[Axis, CellResult], ...]


@dataclass(frozen=True)
class TableResult:
    """A table with its numbers; ``cells`` row by row."""

    plan: TablePlan
    cells: tuple[CellResult, ...]

    def at(self, row: Axis, column: Axis) -> CellResult:
        """One cell."""
        return self._by_key[row.key, column.key]

    @cached_property
    def _by_key(self) -> dict[tuple[str, str], CellResult]:
        return {(result.cell.row.key, result.cell.column.key): result for result in self.cells}

    @cached_property
    def groups(self) -> tuple[Group, ...]:
        """What is compared."""
        spec = self.plan.spec
        if spec.compare == "rows":
            return tuple(Group(r, tuple((c, self.at(r, c)) for c in spec.columns)) for r in spec.rows)
        return tuple(Group(c, tuple((r, self.at(r, c)) for r in spec.rows)) for c in spec.columns)

    @cached_property
    def runs(self) -> dict[str, RunView]:
        """Every run behind a cell, by identity."""
        return {run.planned.recipe.identity: run for cell in self.cells for run in cell.runs}

    @property
    def has_paper(self) -> bool:
        """Whether a paper printed any of its numbers."""
        return any(cell.cell.paper is not None for cell in self.cells)


def archive_note(result: TableResult) -> str:
    """Which share of the numbers is from the archive; empty where none is."""
    runs = {run.recipe.identity: run for cell in result.cells for run in cell.done}
    archived = [run for run in runs.values() if run.archived]
    if not archived:
        return ""
    places = ", ".join(sorted({run.place.parent.name for run in archived}))
    return (
        f"{len(archived)} of {len(runs)} runs are from the archive {places}/: their numbers are here, not their models"
    )


def gather(plan: Plan) -> list[TableResult]:
    """The numbers of a plan's tables as they are now; every run directory is read once."""
    find_states(plan)
    views: dict[str, RunView] = {}
    for identity, planned in plan.runs.items():
        views[identity] = _view(planned, views)
    return [TableResult(table, tuple(_cell(table, cell, views) for cell in table.cells)) for table in plan.tables]


def _view(planned: PlannedRun, before: Mapping[str, RunView]) -> RunView:
    """How a run stands; what it needs is in ``before`` already (a plan lists it first)."""
    if planned.state == ARCHIVED:
        return RunView(planned, ARCHIVED, stored=planned.archived)
    own = _own_view(planned, before)
    if planned.archived is None or own.state in (DONE, DAMAGED):
        return own
    return RunView(planned, ARCHIVED, stored=planned.archived, folder=own)


def _own_view(planned: PlannedRun, before: Mapping[str, RunView]) -> RunView:
    """As its directory tells."""
    if planned.state == DONE:
        try:
            return RunView(planned, DONE, stored=read_run(planned.folder.path, planned.recipe))
        except LacunaError as error:
            return RunView(planned, DAMAGED, str(error))
    if planned.state == planning.FAILED:
        return RunView(planned, FAILED, failure(planned))
    for needed in planned.recipe.prerequisites.values():
        first = before.get(needed.identity)
        if first is not None and first.own.state in (FAILED, BLOCKED, DAMAGED):
            return RunView(planned, BLOCKED, f"{needed.name} {first.own.state}: {first.own.why}")
    return RunView(planned, RUNNING if planned.state == planning.RUNNING else planned.state)


def failure(planned: PlannedRun) -> str:
    """Why a run failed, in one sentence: the last line of what its status says."""
    lines = str(planned.folder.status.get("error") or "").strip().splitlines()
    return lines[-1].removeprefix("LacunaError: ").strip().rstrip(":") if lines else "no reason was recorded"


def _cell(table: TablePlan, cell: Cell, views: Mapping[str, RunView]) -> CellResult:
    runs = tuple(views[recipe.identity] for recipe in cell.recipes)
    values: dict[int, float] = {}
    missing: dict[int, tuple[str, str]] = {}
    for run in runs:
        if table.spec.figure is not None and run.stored is not None and run.stored.archived:
            missing[run.seed] = (run.own.state, run.own.why or NUMBERS_ONLY)
            continue
        if run.stored is not None and not cell.metric:  # of a figure
            continue
        value = None if run.stored is None else run.stored.metrics.get(cell.metric)
        if value is not None and math.isfinite(value):
            values[run.seed] = value
        elif run.stored is not None:
            missing[run.seed] = (NO_METRIC, f"the run has no {cell.metric}" if value is None else f"it is {value}")
        else:
            missing[run.seed] = (run.state, run.why)
    return CellResult(cell, len(table.seeds), runs, values, missing)
