"""Which cells of the tables are made first: those that cost least per printed number. Nothing here imports torch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from lacuna.runs.recipe import Recipe
from lacuna.tables.plan import Cell, Plan

MISCONV = ("misconv/table1", "misconv/table2", "misconv/table6", "misconv/table8", "misconv/table9")
PRFLOW = "prflow/table1_mnist"


@dataclass(frozen=True)
class Tier:
    """Cells that come before those of the next tier.

    Args:
        data: of this data set.
        tables: of these tables.
        rows, columns: keys, where only some are meant.
    """

    data: str
    tables: tuple[str, ...]
    rows: tuple[str, ...] | None = None
    columns: tuple[str, ...] | None = None

    def has(self, table: str, cell: Cell) -> bool:
        """Whether a cell belongs to it."""
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
"""MNIST's classifiers, CIFAR-10's, SVHN's; then PRFlow on MNIST with 60 and 90 % missing."""


@dataclass
class Wanted:
    """A run that cells want, with what it needs.

    Args:
        recipe: of the run.
        tier: number of its tier, from 0.
        cells: for people.
        numbers: printed numbers that it stands beside.
    """

    recipe: Recipe
    tier: int
    cells: list[str] = field(default_factory=list)
    numbers: int = 0


def wanted_runs(plan: Plan, tiers: Sequence[Tier] = TIERS) -> list[Wanted]:
    """The runs behind the cells of some tiers, each in the first tier that wants it."""
    found: dict[str, Wanted] = {}
    for number, tier in enumerate(tiers):
        for table in plan.tables:
            for cell in table.cells:
                if not tier.has(table.spec.name, cell):
                    continue
                for recipe in cell.recipes:
                    run = found.setdefault(recipe.identity, Wanted(recipe, number))
                    run.cells.append(f"{table.spec.name}: {cell.label}")
                    run.numbers += cell.paper is not None
    return list(found.values())


def in_order(
    runs: Iterable[Wanted], seconds: Callable[[Recipe], float], done: Callable[[Recipe], bool]
) -> list[tuple[Recipe, Wanted]]:
    """Runs and what they need before them, those first that cost least per printed number.

    What a run needs counts for its cost as long as no run before it has paid for that.

    Args:
        runs: what is wanted.
        seconds: that a recipe takes, without what it needs.
        done: whether it is finished.

    Returns:
        Recipes that are not done, each once, with the run that they are for.
    """
    left = list(runs)
    paid: set[str] = set()
    found: list[tuple[Recipe, Wanted]] = []

    def bill(run: Wanted) -> list[Recipe]:
        return [recipe for recipe in _with_needs(run.recipe) if recipe.identity not in paid and not done(recipe)]

    while left:
        costs = {run.recipe.identity: sum(map(seconds, bill(run))) / max(run.numbers, 0.5) for run in left}
        first = min(left, key=lambda run: (run.tier, costs[run.recipe.identity]))
        left.remove(first)
        for recipe in bill(first):
            paid.add(recipe.identity)
            found.append((recipe, first))
    return found


def _with_needs(recipe: Recipe) -> list[Recipe]:
    """A recipe behind everything it needs, each once."""
    found: dict[str, Recipe] = {}
    for needed in recipe.prerequisites.values():
        found |= {other.identity: other for other in _with_needs(needed)}
    return list((found | {recipe.identity: recipe}).values())
