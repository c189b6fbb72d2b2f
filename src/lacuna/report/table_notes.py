"""The notes of a table: its protocol, and a warning if its numbers cannot be compared with the paper's."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from lacuna.papers import CHANGED, experiments_of
from lacuna.report.data_facts import count, data_facts
from lacuna.runs.protocol import mask_text, official_counts
from lacuna.runs.recipe import FEATURES, WHOLE_BUDGETS, Recipe
from lacuna.tables.best import competitors, paper_interval, sample_of
from lacuna.tables.gather import TableResult, archive_note
from lacuna.tables.significance import LEVEL

REDUCED = "fewer images or epochs, or lighter networks, than the full setting"


def budgets(result: TableResult) -> list[str]:
    """The budgets of the runs of a table and of their prerequisites; without runs, that of the plan."""
    recipes = {recipe.identity: recipe for cell in result.cells for recipe in cell.cell.recipes}
    needed = {first.identity: first for recipe in recipes.values() for first in _all_prerequisites(recipe)}
    found = dict.fromkeys(str(recipe.config["budget"]) for recipe in (recipes | needed).values())
    return list(found) or [result.plan.budget]


def _all_prerequisites(recipe: Recipe) -> Iterator[Recipe]:
    for needed in recipe.prerequisites.values():
        yield needed
        yield from _all_prerequisites(needed)


def warning(result: TableResult) -> tuple[str, list[str]] | None:
    """A warning and its reasons; None if the setting is the full one."""
    points = list(dict.fromkeys(flag for facts in data_facts(result) for flag in facts.flags))
    reduced = [name for name in budgets(result) if name not in (*WHOLE_BUDGETS, CHANGED)]
    points += [f"budget {name}: {REDUCED}" for name in reduced]
    points += _changed(result)
    points += [f"changed by the user: {change}" for change in result.plan.overrides]
    measured = {run.recipe.config["hardware"] for cell in result.cells for run in cell.done if run.recipe.measured}
    points += [f"times measured on {where}" for where in sorted(measured)] * result.has_paper
    if not points:
        return None
    if result.has_paper:
        return "Not comparable with the paper: the differences shown are not a reproduction of its numbers.", points
    return "A reduced setting: these are not the numbers of the full setting.", points


def _changed(result: TableResult) -> list[str]:
    """Rows whose settings differ from the published ones, with these settings."""
    found: dict[str, list[str]] = {}
    for cell in result.cells:
        for recipe in cell.cell.recipes[:1]:
            for one in (recipe, *_all_prerequisites(recipe)):
                for experiment in experiments_of(one.config) if one.config["budget"] == CHANGED else []:
                    changes = [f"{setting.key}={value}" for setting, value in experiment.differences(one.config)]
                    if changes:
                        found.setdefault(cell.cell.row.label, []).extend(changes)
    return [f"{row}: not the published {', '.join(dict.fromkeys(changes))}" for row, changes in found.items()]


def protocol(result: TableResult) -> list[tuple[str, str]]:
    """The protocol of a table: (name, text) pairs."""
    found = [*_metrics(result), *_images(result), *_masks(result)]
    spec, seeds = result.plan.spec, result.plan.seeds
    found += [("selection", "; ".join(spec.selection))] if spec.selection else []
    found += [(axis.label, axis.note) for axis in (*spec.columns, *spec.rows) if axis.note]
    found += _saw_complete(result)
    found.append(("budget", ", ".join(budgets(result))))
    found += [("archive", archive_note(result))] if archive_note(result) else []
    found.append(("seeds", f"{', '.join(map(str, seeds))}; mean ± sample standard deviation (number of seeds)"))
    return [*found, *_differences(result), ("marks", marks_rule(result))]


def _metrics(result: TableResult) -> list[tuple[str, str]]:
    """The definition of every metric; one for each data set if they differ (in the feature net of FID, for example)."""
    found: dict[str, dict[str, str]] = {}
    runs = [(cell.cell, run) for cell in result.cells for run in cell.done]
    for cell, run in sorted(
        runs, key=lambda pair: pair[1].mask == "none"
    ):  # runs with a mask come first: their text counts
        better = "higher" if cell.better == "max" else "lower"
        how = f"{run.protocol(cell.metric)}; {better} is better"
        found.setdefault(cell.metric, {}).setdefault(str(run.recipe.config["data"]["name"]), how)
    entries = []
    for metric in dict.fromkeys(cell.cell.metric for cell in result.cells if cell.cell.metric in found):
        by_data = found[metric]
        if len(set(by_data.values())) == 1:
            entries.append((metric, next(iter(by_data.values()))))
        else:
            entries += [(f"{metric}, {data}", how) for data, how in by_data.items()]
    return entries


def _images(result: TableResult) -> list[tuple[str, str]]:
    found = []
    for fact in data_facts(result):
        trained = f"{fact.trained_on} training images" if fact.trained_on else ""
        found.append((f"data {fact.name}", "; ".join(part for part in (fact.tested_on, trained) if part)))
    return [entry for entry in found if entry[1]]


def _masks(result: TableResult) -> list[tuple[str, str]]:
    recipes: dict[str, Recipe] = {recipe.identity: recipe for cell in result.cells for recipe in cell.cell.recipes}
    names = dict.fromkeys(
        mask_text(recipe.config["mask"])
        for recipe in recipes.values()
        if not recipe.measured and recipe.config["mask"]["name"] != "none"
    )
    return [("missing pixels", "; ".join(names))] if names else []


def _saw_complete(result: TableResult) -> list[tuple[str, str]]:
    """Cells whose method used complete training images although its data set is incomplete."""
    found: dict[tuple[str, str], list[str]] = {}
    for cell in result.cells:
        row, column = cell.cell.row, cell.cell.column
        counted = {run.recipe.identity: dict(run.data.get("images") or {}).get("train") for run in cell.done}
        advantages = (how for recipe in cell.cell.recipes for how in _advantages(recipe, counted.get(recipe.identity)))
        for what in dict.fromkeys(advantages):
            found.setdefault((row.label or row.key, what), []).append(column.label or column.key)
    return [
        (row, f"{what}, which the other methods do not see ({', '.join(where)})")
        for (row, what), where in found.items()
    ]


def _advantages(recipe: Recipe, train: int | None = None) -> Iterator[str]:
    """How a run on incomplete images uses complete training images.

    Args:
        recipe: of the run.
        train: its number of training images; None: as the recipe requests.
    """
    if recipe.measured or recipe.config["mask"]["name"] == "none":
        return
    for part, needed in recipe.prerequisites.items():
        if part != FEATURES and needed.config["mask"]["name"] == "none":  # the feature net only judges
            yield f"an advantage: its {part} was trained on complete images"
    imputer = recipe.config.get("stem", recipe.config).get("imputer", {})
    if imputer.get("complete_donors") or imputer.get("published"):
        leak = _own_donors(recipe, imputer, train)
        yield f"an advantage: missing pixels are imputed from complete training images{leak}"


def _own_donors(recipe: Recipe, imputer: Mapping[str, Any], train: int | None) -> str:
    """How many training images are donors themselves, and so find their own truth. This is a leak in training only."""
    train = train or planned_train(recipe)
    donors = imputer.get("donors") or train
    if not train or not donors:
        return ", some of which find themselves"
    donors = min(donors, train)
    share = f"{count(donors)} of {count(train)} training images, {donors / train:.0%}"
    return f" (a leak: {share}, are donors themselves and find their own truth)"


def planned_train(recipe: Recipe) -> int | None:
    """Number of training images that a recipe uses of a published set; None if the size of the set is unknown."""
    data = recipe.config["data"]
    whole, requested = official_counts(data).get("train"), data.get("train_images")
    if whole is None:
        return None
    left: int = whole - (data.get("validation") or 0)
    return left if requested is None else min(left, requested)


def _differences(result: TableResult) -> list[tuple[str, str]]:
    """The meaning of the differences from the paper's numbers."""
    if all(cell.difference is None for cell in result.cells):
        return []
    if all(paper_interval(cell) is None for cell in result.cells):
        return [("difference", "ours minus the paper's; one seed, so there is no interval")]
    how = (
        f"ours minus the paper's, with the {1 - LEVEL:.0%} interval over seeds (Student's t; the paper's number is "
        "taken as exact; no correction for the number of cells)"
    )
    single = any(cell.difference is not None and paper_interval(cell) is None for cell in result.cells)
    return [("difference", how + "; none for one seed" * single)]


def marks_rule(result: TableResult) -> str:
    """The meaning of bold and † in this table, according to the comparisons in it."""
    line = "row" if result.plan.spec.compare == "rows" else "column"
    compared = [rivals for group in result.groups for rivals in competitors(group)]
    if not any(sum(sample_of(rival) is not None for rival in rivals) > 1 for rivals in compared):
        return f"none: a comparison needs two numbers in a {line}, with two or more seeds each"
    single = any(rival.n == 1 for rivals in compared for rival in rivals)
    numbers = " among the numbers of two or more seeds" if single else ""
    missing = "a missing number or a number of one seed" if single else "a missing number"
    one_seed = " Numbers of one seed have no mark." if single else ""
    return (
        f"bold: significantly better than all others in its {line}; underlined or †: the best of its {line}{numbers}, "
        "and those not significantly different from the best. Significant: by Welch's t test over seeds, two-sided at "
        f"{LEVEL:.0%} for each {line}, without correction for the number of {line}s. A {line} with {missing} has no "
        f"bold number.{one_seed} References do not compete"
    )
