"""At budget=paper every recipe of the papers' tables has the printed settings, or a listed difference."""

from __future__ import annotations

import copy
import importlib.util
from collections.abc import Iterator
from functools import cache
from typing import Any

import pytest

from lacuna import registry
from lacuna.config.compose import compose
from lacuna.config.composer import Composer
from lacuna.config.paths import CONFIGS
from lacuna.papers import MISSING, PUBLISHED, SETTINGS, at, experiments, experiments_of, label, papers, same
from lacuna.runs.budget import LIMITS, source_of
from lacuna.runs.recipe import Recipe
from lacuna.runs.resolve import resolve
from lacuna.tables.request import find_tables
from lacuna.tables.spec import OF_DATA
from tests.runs.real import ROOT

TABLES = ("all", "misconv/baselines", "misconv/authors")


@cache
def recipes() -> dict[str, dict[str, Any]]:
    """Every recipe of the papers' tables and what it needs: ``table: row, column (task)`` -> content."""
    found: dict[str, dict[str, Any]] = {}
    composer = Composer(CONFIGS, "train")
    budget = compose(CONFIGS, "train", ["budget=paper"])["budget"]
    of_tables = Composer(CONFIGS, "reproduce")
    done: set[str] = set()
    for name in TABLES:
        for spec in find_tables(of_tables.base([f"table={name}"])["table"], of_tables):
            if spec.figure is not None and spec.figure["kind"] in OF_DATA:
                continue
            for row in spec.rows:
                for column in spec.columns:
                    base = composer.base(spec.choices(row, column))
                    config = composer.with_values(base, spec.values(row, column), spec.name)
                    recipe = resolve({**config, "budget": budget}, "0" * 12)
                    for one in everything(recipe):
                        if one.identity not in done:
                            done.add(one.identity)
                            found[f"{spec.name}: {row.label}, {column.label} ({one.task})"] = dict(one.config)
    return found


def everything(recipe: Recipe) -> Iterator[Recipe]:
    yield recipe
    for needed in recipe.prerequisites.values():
        yield from everything(needed)


def undocumented(where: str, content: dict[str, Any]) -> list[str]:
    """What differs from the settings in papers.yaml and is not listed under ``differences``."""
    listed = papers()[SETTINGS]["differences"]
    found = []
    for experiment in experiments_of(content):
        for setting, value in experiment.differences(content):
            named = any(
                entry["experiment"] == experiment.name and entry["key"] == setting.key and same(entry["value"], value)
                for entry in listed
            )
            if not named:
                found.append(f"{where}: {setting.key}={value}, but {experiment.source} has {setting.expected}")
    return found


def test_every_recipe_of_the_papers_tables_has_the_published_settings() -> None:
    wrong = [text for where, content in recipes().items() for text in undocumented(where, content)]
    assert not wrong, "\n".join(wrong)


def test_what_is_called_the_papers_names_all_of_its_training() -> None:
    """No learning rate, epoch or batch of a paper's row without a statement of where it comes from."""
    unnamed = set()
    for where, content in recipes().items():
        found = experiments_of(content)
        if content["budget"] != PUBLISHED:
            continue
        named = {key for experiment in found for key in experiment.settings}
        part = Recipe(content).component
        training = content[part].get("training", {})
        keys = {f"{part}.training.{key}" for key in leaves(training)} - set(inert(content, part))
        unnamed |= {f"{where}: {key}" for key in keys - named}
    assert not unnamed, "\n".join(sorted(unnamed))


def inert(content: dict[str, Any], part: str) -> Iterator[str]:
    """Settings without effect, since their weight, or their number of epochs, is 0."""
    training = content[part].get("training", {})
    if training.get("mse_epochs") == 0:
        yield f"{part}.training.mse_weight"
    if training.get("prior", {}).get("weight") == 0:
        yield from (f"{part}.training.prior.{key}" for key in training["prior"])


def leaves(value: dict[str, Any], prefix: str = "") -> Iterator[str]:
    for key, inner in value.items():
        if isinstance(inner, dict):
            yield from leaves(inner, f"{prefix}{key}.")
        elif inner is not None:
            yield f"{prefix}{key}"


def test_every_published_experiment_is_in_a_table() -> None:
    found = {experiment.name for content in recipes().values() for experiment in experiments_of(content)}
    assert found == {experiment.name for experiment in experiments()}


def test_all_images_are_used_and_none_is_set_aside() -> None:
    splits = papers()[SETTINGS]["splits"]
    used = {content["data"]["name"] for content in recipes().values() if "validation" in content["data"]}
    assert used == set(splits)
    for where, content in recipes().items():
        data = content["data"]
        if data["name"] not in splits:
            continue
        assert data["validation"] == 0 and all(data[limit] is None for limit in LIMITS), where
        counts = source_of({key: value for key, value in data.items() if key != "fingerprint"}).official_counts
        assert {key: counts[key] for key in ("train", "test")} == {
            key: splits[data["name"]][key] for key in ("train", "test")
        }


@pytest.mark.parametrize("experiment", experiments(), ids=lambda experiment: experiment.name)
def test_a_change_of_any_published_value_is_detected(experiment: Any) -> None:
    """Every setting in turn is set to another value in a recipe of the experiment."""
    where, content = next((w, c) for w, c in recipes().items() if experiment in experiments_of(c))
    for setting in experiment.settings.values():
        changed = copy.deepcopy(content)
        *path, last = setting.key.split(".")
        place = changed
        for part in path:
            place = place[part]
        place[last] = another(at(content, setting.key))
        if setting.accepts(place[last]):
            place[last] = "other"
        said = undocumented(where, changed)
        assert any(f"{setting.key}={place[last]}" in text for text in said), setting.key
        assert label(changed) != PUBLISHED, setting.key


def another(value: Any) -> Any:
    if isinstance(value, bool):
        return not value
    if isinstance(value, (int, float)):
        return value * 2 + 0.125
    return [*value, 1] if isinstance(value, list) else f"{value}_other"


def test_every_difference_has_a_reason() -> None:
    for experiment in experiments():
        for setting in experiment.settings.values():
            if setting.here is not None or setting.also:
                assert setting.reason, f"{experiment.name}: {setting.key}"
            assert setting.expected is not None, f"{experiment.name}: {setting.key} has no value"
    for entry in papers()[SETTINGS]["differences"]:
        assert entry["reason"] and entry["experiment"] in {experiment.name for experiment in experiments()}
        said = [at(content, entry["key"]) for content in recipes().values()]
        assert any(value is not MISSING and same(value, entry["value"]) for value in said), entry


def test_types_in_the_settings_exist() -> None:
    for experiment in experiments():
        for setting in experiment.settings.values():
            if setting.key.endswith(".type"):
                owner = setting.key.split(".")[-2]
                group = {"hold_out": "mask", "initial": "imputer"}.get(owner, owner)
                assert registry.find(group, setting.expected)


def test_the_page_of_settings_is_up_to_date() -> None:
    spec = importlib.util.spec_from_file_location("settings_script", ROOT / "scripts" / "settings.py")
    assert spec is not None and spec.loader is not None
    page = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(page)
    assert page.PAGE.read_text(encoding="utf-8") == page.page(), "run python scripts/settings.py"
