"""From a plan to the numbers of its tables, as run directories and archive have them now, and why a number is missing.

A table is a pure function of the two. It can be made at any time; what is not done yet is a missing number.
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
NUMBERS_ONLY = "only its numbers are archived; a figure needs its files"
WORST_FIRST = (FAILED, DAMAGED, BLOCKED, NO_METRIC, NO_DATA, RUNNING, PARTLY, TODO)


@dataclass(frozen=True)
class RunView:
    """The state of a run.

    Args:
        planned: the run.
        state: done, archived, failed, blocked (a prerequisite failed), damaged (done, but unreadable), running, begun
            or to do.
        why: the reason for failed, blocked and damaged; otherwise empty.
        stored: its numbers, once it is done or archived.
        directory: the state of its directory, if the run is archived and something needs more than its numbers.
    """

    planned: PlannedRun
    state: str
    why: str = ""
    stored: StoredRun | None = None
    directory: RunView | None = None

    @property
    def local(self) -> RunView:
        """The state of its directory on this machine, whatever the archive has."""
        return self.directory or self

    @property
    def seed(self) -> int:
        """The seed of the run."""
        return int(self.planned.recipe.config["seed"])


@dataclass(frozen=True)
class CellResult:
    """The number of a cell: the mean over its runs.

    Args:
        cell: the planned cell.
        wanted: number of seeds that were requested.
        runs: one for each seed; none if the data are not on this machine.
        values: by seed, the metric of the runs that are done and have it.
        missing: by seed, (state, reason) of the others.
    """

    cell: Cell
    wanted: int
    runs: tuple[RunView, ...] = ()
    values: Mapping[int, float] = field(default_factory=dict)
    missing: Mapping[int, tuple[str, str]] = field(default_factory=dict)

    @property
    def n(self) -> int:
        """Number of values."""
        return len(self.values)

    @cached_property
    def mean(self) -> float | None:
        """Mean over seeds."""
        return math.fsum(self.values.values()) / self.n if self.values else None

    @cached_property
    def sd(self) -> float | None:
        """Sample standard deviation over seeds; None for fewer than two."""
        return statistics.stdev(self.values.values()) if self.n > 1 else None

    @property
    def difference(self) -> float | None:
        """Ours minus the paper's; None if either is missing."""
        return None if self.mean is None or self.cell.paper is None else self.mean - self.cell.paper

    @cached_property
    def done(self) -> tuple[StoredRun, ...]:
        """The runs that have a value (for a figure: that are done)."""
        return tuple(run.stored for run in self.runs if run.stored is not None and run.seed not in self.missing)

    @cached_property
    def test_images(self) -> int | None:
        """Number of test images behind a value (the smallest, if runs differ)."""
        counts = [dict(run.data.get("images") or {}).get("test") for run in self.done]
        known = [count for count in counts if isinstance(count, int)]
        return min(known, default=None)

    @property
    def _without_data(self) -> bool:
        return not self.runs and self.cell.config is None

    @property
    def state(self) -> str:
        """``done``, or the worst state among the missing seeds."""
        states = {state for state, _ in self.missing.values()} or ({NO_DATA} if self._without_data else set())
        return next((state for state in WORST_FIRST if state in states), DONE)

    @cached_property
    def reason(self) -> str:
        """Why there are fewer values than wanted, in a sentence; empty if none is missing."""
        if self._without_data:
            return "the data are not on this machine"
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
    """Cells that are compared with each other: a column, or a row if the table has ``compare: rows``.

    Args:
        axis: their column (or row).
        members: (row or column, cell) of each.
    """

    axis: Axis
    members: tuple[tuple[Axis, CellResult], ...]


@dataclass(frozen=True)
class TableResult:
    """A table with its numbers; ``cells`` row by row."""

    plan: TablePlan
    cells: tuple[CellResult, ...]

    def at(self, row: Axis, column: Axis) -> CellResult:
        """The cell of a row and a column."""
        return self._by_key[row.key, column.key]

    @cached_property
    def _by_key(self) -> dict[tuple[str, str], CellResult]:
        return {(result.cell.row.key, result.cell.column.key): result for result in self.cells}

    @cached_property
    def groups(self) -> tuple[Group, ...]:
        """The groups of cells that are compared."""
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
    """How many of the numbers are from the archive; empty if none is."""
    runs = {run.recipe.identity: run for cell in result.cells for run in cell.done}
    archived = [run for run in runs.values() if run.archived]
    if not archived:
        return ""
    places = ", ".join(sorted({run.place.parent.name for run in archived}))
    return f"{len(archived)} of {len(runs)} runs are from the archive {places}/: it has their numbers, not their models"


def gather(plan: Plan) -> list[TableResult]:
    """The present numbers of a plan's tables; every run directory is read once."""
    find_states(plan)
    views: dict[str, RunView] = {}
    for identity, planned in plan.runs.items():
        views[identity] = _view(planned, views)
    return [TableResult(table, tuple(_cell(table, cell, views) for cell in table.cells)) for table in plan.tables]


def _view(planned: PlannedRun, before: Mapping[str, RunView]) -> RunView:
    """The state of a run; its prerequisites are in ``before`` already (a plan lists them first)."""
    if planned.state == ARCHIVED:
        return RunView(planned, ARCHIVED, stored=planned.archived)
    local = _local_view(planned, before)
    if planned.archived is None or local.state in (DONE, DAMAGED):
        return local
    return RunView(planned, ARCHIVED, stored=planned.archived, directory=local)


def _local_view(planned: PlannedRun, before: Mapping[str, RunView]) -> RunView:
    """The state of the run's directory."""
    if planned.state == DONE:
        try:
            return RunView(planned, DONE, stored=read_run(planned.folder.path, planned.recipe))
        except LacunaError as error:
            return RunView(planned, DAMAGED, str(error))
    if planned.state == planning.FAILED:
        return RunView(planned, FAILED, failure(planned))
    for needed in planned.recipe.prerequisites.values():
        first = before.get(needed.identity)
        if first is not None and first.local.state in (FAILED, BLOCKED, DAMAGED):
            return RunView(planned, BLOCKED, f"{needed.name} {first.local.state}: {first.local.why}")
    return RunView(planned, RUNNING if planned.state == planning.RUNNING else planned.state)


def failure(planned: PlannedRun) -> str:
    """Why a run failed, in one sentence: the last line of the error in its status."""
    lines = str(planned.folder.status.get("error") or "").strip().splitlines()
    return lines[-1].removeprefix("LacunaError: ").strip().rstrip(":") if lines else "no reason was recorded"


def _cell(table: TablePlan, cell: Cell, views: Mapping[str, RunView]) -> CellResult:
    runs = tuple(views[recipe.identity] for recipe in cell.recipes)
    values: dict[int, float] = {}
    missing: dict[int, tuple[str, str]] = {}
    for run in runs:
        if table.spec.figure is not None and run.stored is not None and run.stored.archived:
            missing[run.seed] = (run.local.state, run.local.why or NUMBERS_ONLY)
            continue
        if run.stored is not None and not cell.metric:  # a figure has none
            continue
        value = None if run.stored is None else run.stored.metrics.get(cell.metric)
        if value is not None and math.isfinite(value):
            values[run.seed] = value
        elif run.stored is not None:
            missing[run.seed] = (NO_METRIC, f"the run has no {cell.metric}" if value is None else f"it is {value}")
        else:
            missing[run.seed] = (run.state, run.why)
    return CellResult(cell, len(table.seeds), runs, values, missing)
