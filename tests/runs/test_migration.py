"""Recipes of version 2 in the words of version 3: every name at every depth, no number, nothing twice."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from lacuna.config.compose import compose
from lacuna.config.paths import CONFIGS
from lacuna.errors import LacunaError
from lacuna.runs.archive import ArchiveReport, unpack
from lacuna.runs.archive_record import Archive, read_archived
from lacuna.runs.evaluation import evaluation_name
from lacuna.runs.migration import (
    EARLIER,
    KEYS,
    MODULES,
    TYPES,
    identity,
    migrate,
    migrate_evaluation,
    migrate_record,
    renamed_weight,
)
from lacuna.runs.recipe import VERSION, Recipe
from lacuna.runs.resolve import resolve
from tests.runs import earlier

RESULTS = Path(__file__).resolve().parents[2] / "results"
RECIPES = {"misconv": "experiment=digits_misconv", "impute": "experiment=digits_impute"}


@pytest.fixture(params=RECIPES)
def today(request: pytest.FixtureRequest) -> dict[str, Any]:
    """A recipe with a prerequisite and a rule for what is held out, as resolved today."""
    return dict(resolve(compose(CONFIGS, "train", [RECIPES[request.param]]), "0" * 12).config)


def leaves(value: Any) -> Iterator[Any]:
    if isinstance(value, Mapping):
        for inner in value.values():
            yield from leaves(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from leaves(inner)
    else:
        yield value


def mappings(value: Any) -> Iterator[Mapping[str, Any]]:
    if isinstance(value, Mapping):
        yield value
    for inner in value.values() if isinstance(value, Mapping) else value if isinstance(value, list) else ():
        yield from mappings(inner)


def test_a_recipe_in_earlier_words_becomes_today_s(today: dict[str, Any]) -> None:
    before = earlier.recipe(today)
    kept = copy.deepcopy(before)
    assert before["version"] == EARLIER and before["needs"]
    assert migrate(before) == today and before == kept
    assert Recipe(migrate(before)).identity == Recipe(today).identity != identity(before)


def test_every_name_is_mapped_at_every_depth(today: dict[str, Any]) -> None:
    before = earlier.recipe(today)
    before["stem"] = {"inner": [{"deep": {**dict.fromkeys(KEYS, 1)}}, *({"type": name} for name in TYPES)]}
    migrated = migrate(before)
    assert migrated["stem"]["inner"][0]["deep"] == dict.fromkeys(KEYS.values(), 1)
    assert [found["type"] for found in migrated["stem"]["inner"][1:]] == list(TYPES.values())
    for found in mappings(migrated):
        assert not set(found) & set(KEYS) and found.get("type") not in TYPES
        assert found.get("version", VERSION) == VERSION


def test_only_names_change() -> None:
    before = json.loads(
        json.dumps({"version": 2, "a": [0.1, 1e-30, 5, None, True], "hide": {"hide": "hide", "n": ["needs", "hide"]}})
    )
    assert migrate(before) == {
        "version": 3, "a": [0.1, 1e-30, 5, None, True], "hold_out": {"hold_out": "hide", "n": ["needs", "hide"]},
    }  # fmt: skip


def test_names_of_components_are_no_keys() -> None:
    nested = {"version": 2, "density": {"needs": ["density"]}}
    migrated = migrate({"version": 2, "stem": {"needs": ["hide"]}, "needs": {"hide": nested}})
    assert migrated == {
        "version": 3,
        "stem": {"prerequisites": ["hide"]},
        "prerequisites": {"hide": {"version": 3, "density": {"prerequisites": ["density"]}}},
    }


def test_twice_is_once(today: dict[str, Any]) -> None:
    assert migrate(today) == today
    assert migrate(migrate(earlier.recipe(today))) == today


@pytest.mark.parametrize("version", [None, 1, VERSION + 1])
def test_other_versions_are_refused(version: int | None) -> None:
    with pytest.raises(LacunaError, match=f"version {version}"):
        migrate({"version": version})


def test_an_old_and_a_new_name_together_are_refused() -> None:
    for both in ({"hide": 1, "hold_out": 2}, {"hold_out": 2, "hide": 1}):
        with pytest.raises(LacunaError, match="hold_out"):
            migrate({"version": 2, "density": both})


def test_weights_and_modules_get_new_names_at_every_depth() -> None:
    for old, new in MODULES.items():
        for form in ("{}", "{}.weight", "model.{}.0.bias"):
            assert renamed_weight(form.format(old)) == form.format(new)
        assert renamed_weight(f"{old}al.weight") == f"{old}al.weight"
        assert renamed_weight(f"my{old}.weight") == f"my{old}.weight"


def test_an_evaluation_keeps_its_numbers_and_gets_the_name_of_its_mask() -> None:
    mask = {"name": "noise", "hide": 0.5}
    record = {"mask": mask, "split": "test", "metrics": {"accuracy": 0.25}}
    name, migrated = migrate_evaluation(evaluation_name(mask, "test"), record)
    assert migrated == {**record, "mask": {"name": "noise", "hold_out": 0.5}}
    assert name == evaluation_name(migrated["mask"], "test") != evaluation_name(mask, "test")
    assert migrate_evaluation(name, migrated) == (name, migrated)
    assert migrate_evaluation("by hand", record)[0] == "by hand"


def test_an_archived_run_keeps_everything_but_names(today: dict[str, Any]) -> None:
    before = earlier.record(today)
    after = migrate_record(before)
    assert after["recipe"] == today and after["name"] == Recipe(today).name
    assert {key: after[key] for key in after if key not in ("name", "recipe")} == {
        key: before[key] for key in before if key not in ("name", "recipe")
    }
    assert migrate_record(after) == after
    with pytest.raises(LacunaError, match="damaged"):
        migrate_record({**before, "name": after["name"]})


def test_a_packed_archive_of_an_earlier_version_is_migrated(today: dict[str, Any], tmp_path: Path) -> None:
    lines = [earlier.record(today), {**earlier.record(today), "recipe": {"version": 1}}, {"recipe": {}}]
    (tmp_path / "runs.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    report: ArchiveReport = unpack(tmp_path / "runs.jsonl", tmp_path / "results")
    assert report.written == [Recipe(today).name] and len(report.refused) == 2
    assert all(f"line {number}" in text for number, text in zip((2, 3), report.refused, strict=True))
    assert Archive(tmp_path / "results").get(Recipe(today)) is not None


def test_the_message_for_an_earlier_version_names_the_script(today: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "old.json"
    path.write_text(json.dumps(earlier.record(today)))
    with pytest.raises(LacunaError, match=r"python scripts/migrate\.py"):
        read_archived(path)


@pytest.mark.parametrize("path", sorted(RESULTS.glob("*.json")), ids=lambda path: path.stem)
def test_every_archived_run_is_found_by_the_recipe_of_today(path: Path) -> None:
    found = read_archived(path).recipe
    method = found.config.get("stem", found.config.get(found.component))["name"]
    experiment = f"{found.config['data']['name']}_{method}"
    if not (CONFIGS.main / "experiment" / f"{experiment}.yaml").exists() or found.config["budget"] != "paper":
        pytest.skip(f"no experiment {experiment} at budget=paper")
    config = compose(CONFIGS, "train", [f"experiment={experiment}", f"seed={found.config['seed']}"])
    today = resolve(config, found.config["data"]["fingerprint"])
    assert today.config == found.config
    assert Archive(RESULTS).get(today) is not None
