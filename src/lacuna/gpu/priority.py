"""The order of the tables' cells: least cost per published number first. Imports no torch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from lacuna.runs.recipe import Recipe
from lacuna.tables.plan import Cell, Plan

MISCONV = ("misconv/table1", "misconv/table2", "misconv/table6", "misconv/table8", "misconv/table9")
PRFLOW = "prflow/table1_mnist"


@dataclass(frozen=True)
class Tier:
    """A set of cells that is done before the next tier.

    Args:
        data: name of the data set.
        tables: names of the tables.
        rows, columns: keys; None: all.
    """

    data: str
    tables: tuple[str, ...]
    rows: tuple[str, ...] | None = None
    columns: tuple[str, ...] | None = None

    def has(self, table: str, cell: Cell) -> bool:
        """Whether a cell belongs to this tier."""
        return (
            table in self.tables
            and (self.rows is None or cell.row.key in self.rows)
            and (self.columns is None or cell.column.key in self.columns)
            and bool(cell.recipes)
            and cell.recipes[0].config["data"]["name"] == self.data
        )


TIERS = (
    Tier("mnist", MISCONV),
    Tier("cifar10", MISCONV),
    Tier("svhn", MISCONV),
    Tier("mnist", (PRFLOW,), rows=("prflow",), columns=("p60", "p90")),
)
"""The classifiers of MNIST, CIFAR-10 and SVHN; then PRFlow on MNIST with 60 and 90 % missing."""


@dataclass
class WantedRun:
    """A run that cells need.

    Args:
        recipe: of the run.
        tier: index of its tier, from 0.
        cells: their names.
        numbers: number of published numbers that it is compared with.
    """

    recipe: Recipe
    tier: int
    cells: list[str] = field(default_factory=list)
    numbers: int = 0


def wanted_runs(plan: Plan, tiers: Sequence[Tier] = TIERS) -> list[WantedRun]:
    """The runs of the cells of some tiers, each in the first tier that has it."""
    found: dict[str, WantedRun] = {}
    for number, tier in enumerate(tiers):
        for table in plan.tables:
            for cell in table.cells:
                if not tier.has(table.spec.name, cell):
                    continue
                for recipe in cell.recipes:
                    run = found.setdefault(recipe.identity, WantedRun(recipe, number))
                    run.cells.append(f"{table.spec.name}: {cell.label}")
                    run.numbers += cell.paper is not None
    return list(found.values())


def cheapest_first(
    runs: Iterable[WantedRun], seconds: Callable[[Recipe], float], done: Callable[[Recipe], bool]
) -> list[tuple[Recipe, WantedRun]]:
    """Runs with their prerequisites before them, least cost per published number first.

    The cost of a prerequisite counts for the first run that needs it only.

    Args:
        runs: the runs to do.
        seconds: duration of a run, without its prerequisites.
        done: whether a run is finished.

    Returns:
        The recipes that are not done, each once, with the run that needs them.
    """
    remaining = list(runs)
    counted: set[str] = set()
    order: list[tuple[Recipe, WantedRun]] = []

    def open_recipes(run: WantedRun) -> list[Recipe]:
        return [
            recipe for recipe in _with_prerequisites(run.recipe) if recipe.identity not in counted and not done(recipe)
        ]

    while remaining:
        costs = {run.recipe.identity: sum(map(seconds, open_recipes(run))) / max(run.numbers, 0.5) for run in remaining}
        first = min(remaining, key=lambda run: (run.tier, costs[run.recipe.identity]))
        remaining.remove(first)
        for recipe in open_recipes(first):
            counted.add(recipe.identity)
            order.append((recipe, first))
    return order


def _with_prerequisites(recipe: Recipe) -> list[Recipe]:
    """A recipe after all its prerequisites, each once."""
    found: dict[str, Recipe] = {}
    for needed in recipe.prerequisites.values():
        found |= {other.identity: other for other in _with_prerequisites(needed)}
    return list((found | {recipe.identity: recipe}).values())
