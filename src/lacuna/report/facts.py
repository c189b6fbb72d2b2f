"""What must be said of a table's numbers: protocol, budget, provenance, and whether they can be compared at all."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from lacuna.papers import CHANGED, experiments_of
from lacuna.runs.finished import StoredRun
from lacuna.runs.protocol import mask_text, official_counts
from lacuna.runs.recipe import FEATURES, WHOLE_BUDGETS, Recipe
from lacuna.tables.best import competitors, paper_interval, sample_of
from lacuna.tables.gather import TableResult, archive_note
from lacuna.tables.significance import LEVEL

REDUCED = "fewer images or epochs, or lighter networks, than the full setting"
SAMPLE = " (a sample of the set)"


@dataclass(frozen=True)
class DataFacts:
    """The images behind some numbers: how many, of how many, and what is wrong with them.

    Args:
        name, fingerprint, note: as the data's provenance says.
        train, test: how many were used; None where not recorded.
        stored: in the prepared set, by split.
        official: in the published set, by split; empty for sets that nobody published.
        complete: whether the test images are all of the published ones.
        sample: whether the prepared set is only a part of the published one.
        lossless: whether the pixels are as published.
    """

    name: str
    fingerprint: str
    train: int | None
    test: int | None
    stored: Mapping[str, int]
    official: Mapping[str, int]
    complete: bool
    sample: bool
    lossless: bool
    note: str

    @property
    def of(self) -> int | None:
        """Test images of the whole set, as far as it is known."""
        return self.official.get("test") or self.stored.get("test")

    @property
    def tested_on(self) -> str:
        """``1 136 of 26 032 test images (a sample of the set)``."""
        if not self.test:
            return ""
        share = "" if self.of in (None, self.test) else f" of {count(self.of or 0)}"
        return f"{count(self.test)}{share} test images{SAMPLE if self.sample else ''}"

    @property
    def trained_on(self) -> str:
        """``5 590 of 73 257``; what is kept for validation is not counted."""
        whole = self.official.get("train") or self.stored.get("train")
        if not self.train:
            return ""
        return count(self.train) if not whole or whole == self.train else f"{count(self.train)} of {count(whole)}"

    @property
    def short(self) -> str:
        """``1 136 of 26 032, a sample``, for the head of a column; empty for a whole set."""
        text = self.tested_on.replace(" test images", "").replace(SAMPLE, ", a sample")
        return "" if self.complete else text

    @property
    def flags(self) -> list[str]:
        """What keeps a number on these images from being compared with one on the published set."""
        found = [] if self.complete else [self.tested_on or "a part of the set"]
        if not self.lossless:
            found.append(f"pixels of a lossy copy{f' ({self.note})' if self.note else ''}")
        return [f"{self.name}: {'; '.join(found)}"] if found else []


def data_facts(result: TableResult) -> list[DataFacts]:
    """The sets behind a table, each once."""
    return facts_of(run for cell in result.cells for run in cell.done)


def facts_of(runs: Iterable[StoredRun]) -> list[DataFacts]:
    """The sets behind some runs, each once, in the order in which they come."""
    found: dict[tuple[Any, ...], DataFacts] = {}
    for run in runs:
        if not run.data or run.recipe.measured:
            continue
        data = run.recipe.config["data"]
        key = (run.data.get("fingerprint"), str(run.data.get("images")))
        if key not in found:
            found[key] = _facts(run, str(data["name"]), official_counts(data))
    return list(found.values())


def _facts(run: StoredRun, name: str, official: Mapping[str, int]) -> DataFacts:
    record = run.data
    used, stored = dict(record.get("images") or {}), dict(record.get("stored") or {})
    whole, there = official.get("test"), stored.get("test")
    return DataFacts(
        name=name,
        fingerprint=str(record.get("fingerprint", "")),
        train=used.get("train"),
        test=used.get("test"),
        stored=stored,
        official=official,
        complete=bool(run.complete),
        sample=there < whole if whole and there else record.get("complete") is False and used.get("test") == there,
        lossless=bool(record.get("lossless", True)),
        note=str(record.get("note") or ""),
    )


def budgets(result: TableResult) -> list[str]:
    """The budgets of the runs behind a table and of what they build on; that of the plan where there are none."""
    recipes = {recipe.identity: recipe for cell in result.cells for recipe in cell.cell.recipes}
    needed = {first.identity: first for recipe in recipes.values() for first in _all_needs(recipe)}
    found = dict.fromkeys(str(recipe.config["budget"]) for recipe in (recipes | needed).values())
    return list(found) or [result.plan.budget]


def _all_needs(recipe: Recipe) -> Iterator[Recipe]:
    for needed in recipe.prerequisites.values():
        yield needed
        yield from _all_needs(needed)


def warning(result: TableResult) -> tuple[str, list[str]] | None:
    """The sentence that nobody may overlook, and its reasons; None where the setting is the full one."""
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
    return "A reduced setting: these are not the numbers of the full one.", points


def _changed(result: TableResult) -> list[str]:
    """Rows whose settings are not those that a paper prints for them, with the first settings that differ."""
    found: dict[str, list[str]] = {}
    for cell in result.cells:
        for recipe in cell.cell.recipes[:1]:
            for one in (recipe, *_all_needs(recipe)):
                for experiment in experiments_of(one.config) if one.config["budget"] == CHANGED else []:
                    said = [f"{setting.key}={value}" for setting, value in experiment.differences(one.config)]
                    if said:
                        found.setdefault(cell.cell.row.label, []).extend(said)
    return [f"{row}: not the published {', '.join(dict.fromkeys(said))}" for row, said in found.items()]


def protocol(result: TableResult) -> list[tuple[str, str]]:
    """How the numbers came about, as (what, how)."""
    found = [*_metrics(result), *_images(result), *_masks(result)]
    spec, seeds = result.plan.spec, result.plan.seeds
    found += [("a part of the table", "; ".join(spec.part))] if spec.part else []
    found += [(axis.label, axis.note) for axis in (*spec.columns, *spec.rows) if axis.note]
    found += _saw_complete(result)
    found.append(("budget", ", ".join(budgets(result))))
    found += [("archive", archive_note(result))] if archive_note(result) else []
    found.append(("seeds", f"{', '.join(map(str, seeds))}; mean ± sample standard deviation (number of seeds)"))
    return [*found, *_differences(result), ("marks", marks_rule(result))]


def _metrics(result: TableResult) -> list[tuple[str, str]]:
    """How every metric was taken; once for each data set where they differ (in the feature net of FID, say)."""
    found: dict[str, dict[str, str]] = {}
    runs = [(cell.cell, run) for cell in result.cells for run in cell.done]
    for cell, run in sorted(runs, key=lambda pair: pair[1].mask == "none"):  # what is behind a mask speaks for all
        better = "more" if cell.better == "max" else "less"
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
        said = "; ".join(part for part in (fact.tested_on, trained) if part)
        found.append((f"data {fact.name}", said))
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
    """Which cells rest on complete training images, where the run's own images have holes."""
    found: dict[tuple[str, str], list[str]] = {}
    for cell in result.cells:
        row, column = cell.cell.row, cell.cell.column
        counted = {run.recipe.identity: dict(run.data.get("images") or {}).get("train") for run in cell.done}
        found_ways = (how for recipe in cell.cell.recipes for how in _advantages(recipe, counted.get(recipe.identity)))
        for what in dict.fromkeys(found_ways):
            found.setdefault((row.label or row.key, what), []).append(column.label or column.key)
    return [(row, f"{what}, which others do not see ({', '.join(where)})") for (row, what), where in found.items()]


def _advantages(recipe: Recipe, train: int | None = None) -> Iterator[str]:
    """What a run on incomplete images owes to complete training images, of which it had ``train``, if that is known."""
    if recipe.measured or recipe.config["mask"]["name"] == "none":
        return
    for part, needed in recipe.prerequisites.items():
        if part != FEATURES and needed.config["mask"]["name"] == "none":  # features judge, they help nobody
            yield f"an advantage: the {part} behind it was trained on complete images"
    imputer = recipe.config.get("stem", recipe.config).get("imputer", {})
    if imputer.get("complete_donors") or imputer.get("published"):
        yield f"an advantage: its holes are filled from complete training images{_own_donors(recipe, imputer, train)}"


def _own_donors(recipe: Recipe, imputer: Mapping[str, Any], train: int | None) -> str:
    """How many training images are donors themselves, and so find their own truth: this leaks in training only."""
    train = train or planned_train(recipe)
    donors = imputer.get("donors") or train
    if not train or not donors:
        return ", some of which find themselves"
    donors = min(donors, train)
    share = f"{count(donors)} of {count(train)} training images, {donors / train:.0%}"
    return f" (a leak: {share}, are donors and find themselves, their own truth and all)"


def planned_train(recipe: Recipe) -> int | None:
    """How many training images a recipe asks for of a published set; None where nobody knows the set's size."""
    data = recipe.config["data"]
    whole, asked = official_counts(data).get("train"), data.get("train_images")
    if whole is None:
        return None
    left: int = whole - (data.get("validation") or 0)
    return left if asked is None else min(left, asked)


def _differences(result: TableResult) -> list[tuple[str, str]]:
    """What stands behind the paper's numbers."""
    if all(cell.difference is None for cell in result.cells):
        return []
    if all(paper_interval(cell) is None for cell in result.cells):
        return [("difference", "ours minus the paper's; of one seed, so that it has no interval")]
    how = (
        f"ours minus the paper's, with its {1 - LEVEL:.0%} interval over seeds (Student's t; the paper's number is "
        "taken as exact; each cell alone, not corrected for their number)"
    )
    single = any(cell.difference is not None and paper_interval(cell) is None for cell in result.cells)
    return [("difference", how + "; of one seed there is none" * single)]


def marks_rule(result: TableResult) -> str:
    """What bold and † mean in this table, by the comparisons that were made in it."""
    line = "row" if result.plan.spec.compare == "rows" else "column"
    compared = [rivals for group in result.groups for rivals in competitors(group)]
    if not any(sum(sample_of(rival) is not None for rival in rivals) > 1 for rivals in compared):
        return f"none, for nothing can be compared: that takes two numbers in a {line}, of two or more seeds each"
    single = any(rival.n == 1 for rivals in compared for rival in rivals)
    numbers = "numbers of two or more seeds" if single else "those that are there"
    hole = "a hole or a number of one seed has no winner; one seed has no mark" if single else "a hole has no winner"
    return (
        f"bold: significantly better than every other in its {line}; underlined or †: the best of its {line} among "
        f"{numbers}, and what does not differ significantly from it. Significant: by Welch's t test over seeds, "
        f"two-sided at {LEVEL:.0%} for each {line}, not corrected for the number of {line}s. A {line} with {hole}; "
        "references do not compete"
    )


def count(number: int) -> str:
    """``26 032``, with spaces that do not break."""
    return f"{number:,}".replace(",", "\u00a0")
