"""The optional settings of trainings in a recipe: part of it where they are used, and nowhere else."""

from __future__ import annotations

import inspect
from typing import Any

import pytest
import pytorch_lightning as pl

from lacuna.config.composer import Composer
from lacuna.config.lightning_words import INSTEAD
from lacuna.config.paths import CONFIGS
from lacuna.config.training_options import OPTIONS, chosen
from lacuna.runs.precision import CHOICES
from lacuna.runs.recipe import Recipe
from lacuna.runs.resolve import resolve
from lacuna.runs.steps import training
from lacuna.runs.trial import trial_config
from lacuna.verbs.command import verb
from tests.runs.real import ROOT, config

USED: dict[str, tuple[str, ...]] = {
    "optimizer": ("optimizer=adamw",),
    "betas": ("betas=[0.5,0.9]",),
    "momentum": ("optimizer=sgd", "momentum=0.9"),
    "weight_decay": ("weight_decay=1e-4",),
    "gradient_clip": ("gradient_clip=1",),
    "gradient_clip_value": ("gradient_clip_value=0.1",),
    "schedule": ("schedule=cosine",),
    "warmup": ("warmup=0.5",),
    "limit_batches": ("limit_batches=3",),
}
PAPER = "experiment=mnist_misconv"


def recipe(*words: str) -> Recipe:
    return resolve(config(*words), "0123456789ab")


def test_each_option_is_tested() -> None:
    assert set(USED) == set(OPTIONS)


@pytest.mark.parametrize("name", USED)
def test_an_option_that_is_used_is_part_of_the_recipe_and_not_of_a_papers(name: str) -> None:
    """In the recipe of what it changes: a density's in that of the density, and so in the classifier's identity."""
    plain = recipe(PAPER)
    assert plain.config["budget"] == "paper" and not chosen(plain.training) and not set(OPTIONS) & set(plain.training)
    label = "cut" if name == "limit_batches" else "changed"
    for component in ("net", "density"):
        found = recipe(PAPER, *(f"{component}.training.{word}" for word in USED[name]))
        assert found.identity != plain.identity and found.config["budget"] == label
        trained = found if component == "net" else found.prerequisites["density"]
        assert set(chosen(trained.training)) == {word.partition("=")[0] for word in USED[name]}
        assert trained.config["budget"] == label
    assert found.training == plain.training


def test_an_option_at_its_default_changes_nothing() -> None:
    words = (
        f"net.training.{name}={'null' if option.default is None else option.default}"
        for name, option in OPTIONS.items()
    )
    assert recipe(PAPER, *words).config == recipe(PAPER).config


@pytest.mark.parametrize("budget", ["quick", "smoke"])
def test_light_variants_take_them_too(budget: str) -> None:
    composed = config(PAPER, f"budget={budget}", "net.training.weight_decay=0.1", "density.training.warmup=2")
    assert not any(set(OPTIONS) & set(composed[part]["light"].get("training", ())) for part in ("net", "density"))
    found = resolve(composed, "0123456789ab")
    assert found.training["weight_decay"] == 0.1
    density = found.prerequisites["density"].training
    assert density["warmup"] / density["epochs"] == pytest.approx(2 / 20)  # of the paper's 20 epochs


def test_a_schedule_takes_the_place_of_milestones() -> None:
    assert recipe("experiment=digits_zero").training["lr_milestones"] == [[14, 1e-4]]
    found = recipe("experiment=digits_zero", "net.training.schedule=linear")
    assert found.training["lr_milestones"] == [] and found.training["schedule"] == "linear"
    same = recipe("experiment=digits_zero", "net.training.schedule=linear", "net.training.lr_milestones=[[3,1e-5]]")
    assert same.identity == found.identity


def test_cells_of_tables_and_trials_of_searches_set_them() -> None:
    base = Composer(CONFIGS, "train").base(["experiment=digits_misconv"])
    assert Composer.has(base, "features.run.net.training.weight_decay")
    values = {"net.training.weight_decay": 0.5, "density.training.optimizer": "sgd"}
    assert (
        resolve(Composer.with_values(base, values), "f").config
        == resolve(
            config("experiment=digits_misconv", *(f"{key}={value}" for key, value in values.items())), "f"
        ).config
    )


def test_fewer_batches_are_planned() -> None:
    assert training(recipe("experiment=digits_zero"), {"train": 1297, "test": 500}).batches == 55
    limited = recipe("experiment=digits_zero", "net.training.limit_batches=7")
    assert training(limited, {"train": 1297, "test": 500}).batches == 7


def test_the_papers_short_names_of_precisions() -> None:
    named = {"32": "32-true", "64": "64-true", "bf16": "bf16-mixed", "16": "16-mixed"}
    for short, name in named.items():
        assert recipe(f"precision={short}").identity == recipe(f"precision={name}").identity


def test_every_argument_of_lightnings_trainer_is_answered() -> None:
    ours = set(config()["trainer"])
    arguments = set(inspect.signature(pl.Trainer.__init__).parameters) - {"self"}
    assert arguments <= ours | set(INSTEAD) and not ours & set(INSTEAD)


def test_a_trial_is_another_run() -> None:
    """All trainings are short, also where a light variant has a length of its own, and the limits are in the recipe."""
    for words in (("budget=quick",), (), ("experiment=digits_impute", "imputer=mcflow_conv")):
        composed: dict[str, Any] = config("experiment=mnist_wae", *words, "trainer.fast_dev_run=3")
        whole = {each.identity for each in resolve(composed, "f").graph()}
        tried = list(resolve(trial_config(composed, "f", "elsewhere"), "f").graph())
        assert len(tried) == len(whole) and not whole & {each.identity for each in tried}
        for each in tried:
            assert each.training["epochs"] == 1 and each.training["limit_batches"] == 3
            assert training(each, {"train": 60000, "test": 10000}).steps == 3
            assert each.config["budget"] in ("cut", "quick")


def test_the_guide_lists_every_option_with_its_default() -> None:
    page = (ROOT / "docs" / "guide" / "training.md").read_text(encoding="utf-8")
    for name, option in OPTIONS.items():
        default = "null" if option.default is None else option.default
        assert f"\n| `{name}` | `{default}` | " in page
    for precision in CHOICES:
        assert f"\n| `{precision}` (`" in page


def test_hydra_shows_them(capsys: pytest.CaptureFixture[str]) -> None:
    """``--cfg job`` is printed by Hydra itself, which must know the keys."""
    words = ("--cfg", "job", "--package", "net.training", "experiment=digits_zero", "net.training.weight_decay=0.25")
    assert verb("train", "lacuna.verbs.train:main")(words) == 0
    assert "weight_decay: 0.25" in capsys.readouterr().out
