"""A finished plan with made-up numbers, and what is rendered of it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lacuna.report.render import render, text
from lacuna.runs.recipe import Recipe
from lacuna.tables.plan import Plan
from tests.tables.finished import finish, plan

EVIL = 'a_b & 50% <script>"x"</script> $x^2$ #1 {y} \\z [q] * | `c` ~ ż 漢 ±−–'
VALUES = {
    ("zero", "square"): (0.801, 0.800, 0.799),
    ("misconv", "square"): (0.901, 0.900, 0.899),
    ("zero", "noise"): (0.801, 0.800, 0.799),
    ("misconv", "noise"): (0.802, 0.801, 0.800),
    ("gt", "square"): (0.991, 0.990, 0.989),
}
FORMS = ("table.md", "table.tex", "table.csv", "index.html")


def with_budget(content: Mapping[str, Any], budget: str) -> dict[str, Any]:
    """A recipe, and what it needs, under another budget's name."""
    needs = {part: with_budget(needed, budget) for part, needed in content.get("prerequisites", {}).items()}
    return {**content, "budget": budget} | ({"prerequisites": needs} if needs else {})


def filled(
    root: Path, output: Path, *specs, budget: str = "paper", paper: bool = True, seeds=(0, 1, 2), **data: Any
) -> Plan:
    """A finished plan; of all three seeds, MisConv wins in one column and ties in the other."""
    found = plan(root, output, *specs, seeds=seeds)
    tables, runs = [], {}
    for table in found.tables:
        cells = []
        for cell in table.cells:
            recipes = tuple(Recipe(with_budget(recipe.config, budget)) for recipe in cell.recipes)
            values = VALUES.get((cell.row.key, cell.column.key))
            planned = found.runs[cell.recipes[0].identity]
            for recipe, value in zip(recipes, values or (), strict=False):
                history = [{"epoch": e, "validation/accuracy": value * (e + 1) / 4} for e in range(3)]
                finish(recipe, output, {"test/accuracy": value}, history=history, **data)
            runs |= {recipe.identity: dataclasses.replace(planned, recipe=recipe) for recipe in recipes}
            cells.append(dataclasses.replace(cell, recipes=recipes, paper=0.85 if paper else None))
        tables.append(dataclasses.replace(table, cells=tuple(cells), budget=budget))
    return Plan(tuple(tables), output, runs)


def written(found: Plan, target: Path) -> dict[str, str]:
    """What was rendered of the first table, by file, and what the terminal gets."""
    render(found, target)
    folder = target / found.tables[0].folder
    return {name: (folder / name).read_text(encoding="utf-8") for name in FORMS} | {"text": text(found)}
