"""Mistakes found before a run: in every recipe of the graph, with each model built once."""

from __future__ import annotations

from pathlib import Path

import pytest

from lacuna.config.compose import compose
from lacuna.config.paths import CONFIGS
from lacuna.errors import LacunaError
from lacuna.runs.recipe import Recipe
from lacuna.runs.settings import Settings
from lacuna.training import validation
from lacuna.training.validation import validate
from tests.runs import real

WORDS = ("experiment=digits_impute", "imputer=density_mean", *real.TINY)


def settings(root: Path, output: Path) -> Settings:
    return Settings.of(compose(CONFIGS, "train", [*WORDS, f"output={output}", f"data.root={root}"]))


def test_every_model_is_built_once(digits_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = real.recipe(*WORDS, f"data.root={digits_root}")
    assert [each.task for each in recipe.graph()] == ["impute", "density", "classify"]
    tasks, build = [], validation.build_model
    monkeypatch.setattr(
        validation, "build_model", lambda config, *rest: tasks.append(config["task"]["name"]) or build(config, *rest)
    )
    validate(recipe, settings(digits_root, tmp_path))
    assert sorted(tasks) == ["classify", "density", "impute"] and tasks[-1] == "impute"
    assert not list(tmp_path.iterdir())


def test_a_mistake_in_a_prerequisite_is_found(digits_root: Path, tmp_path: Path) -> None:
    recipe = real.recipe(*WORDS, f"data.root={digits_root}")
    density = recipe.prerequisites["density"].config
    blind = {**density, "density": {**density["density"], "hold_out": {"type": "masks.Bernoulli", "rate": 0.0}}}
    wrong = Recipe({**recipe.config, "prerequisites": {**recipe.config["prerequisites"], "density": blind}})
    with pytest.raises(LacunaError, match=r"density\.hold_out hides nothing"):
        validate(wrong, settings(digits_root, tmp_path))
