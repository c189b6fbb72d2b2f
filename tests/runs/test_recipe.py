"""A recipe is what decides the numbers, all of it and nothing else."""

from __future__ import annotations

import copy
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lacuna.config.compose import compose
from lacuna.config.paths import CONFIGS
from lacuna.config.training_options import OPTIONS
from lacuna.errors import LacunaError
from lacuna.runs.recipe import Recipe
from lacuna.runs.resolve import resolve
from tests.runs.real import ROOT, config

FINGERPRINT = "0123456789ab"
DECIDING = ("task", "data", "mask", "density", "stem", "net", "budget", "precision", "seed")
INFRASTRUCTURE = ("output", "data.root", "data.download")
OF_OTHER_BUDGETS = ("data.default_validation",)


def recipe(*words: str) -> Recipe:
    return resolve(config(*words), FINGERPRINT)


def leaves(value: Any, prefix: str = "") -> Iterator[str]:
    for key, inner in value.items():
        if isinstance(inner, dict):
            yield from leaves(inner, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}"


def changed(composed: dict[str, Any], path: str) -> dict[str, Any]:
    """The configuration with another value at ``path``."""
    result = copy.deepcopy(composed)
    *parents, last = path.split(".")
    inner = result
    for key in parents:
        inner = inner[key]
    old = inner[last]
    if path == "data.type":  # the source is asked for the size of its images
        inner[last] = "mnist.MNIST"
    elif path == "precision":
        inner[last] = "64-true"
    elif isinstance(old, bool):
        inner[last] = not old
    elif isinstance(old, (int, float)):
        inner[last] = old + 1
    elif isinstance(old, list):
        inner[last] = old[1:] if old else [[1, 0.5]]
    else:
        inner[last] = 3 if old is None else f"{old}_other"
    return result


BASE = compose(CONFIGS, "train", ["experiment=digits_misconv"])


OTHER_TASKS = ("flow", "features", "imputer")
"""Parts of the base config that a classifier on a DMFA does not use."""


def of_another_task(path: str) -> bool:
    """Whether a key is what a budget grants a task that this run has no part of, or what only a light one takes."""
    group, *inner = path.split(".")
    return (group == "budget" and len(inner) > 1 and inner[0] not in ("density", "classify")) or inner == ["light"]


def test_identity_does_not_depend_on_the_order_of_keys() -> None:
    def reversed_keys(value: Any) -> Any:
        return {k: reversed_keys(v) for k, v in reversed(value.items())} if isinstance(value, dict) else value

    assert resolve(reversed_keys(BASE), FINGERPRINT).identity == resolve(BASE, FINGERPRINT).identity
    assert len(recipe().identity) == 12
    assert recipe().name == f"digits-square-misconv-s0-{recipe().identity}"


@pytest.mark.parametrize("path", [path for path in leaves(BASE) if path.split(".")[0] in ("trainer", "logger")])
def test_infrastructure_is_no_part_of_it(path: str) -> None:
    assert resolve(changed(BASE, path), FINGERPRINT).identity == resolve(BASE, FINGERPRINT).identity


def test_neither_are_folders_and_other_groups_of_infrastructure() -> None:
    expected = recipe("experiment=digits_misconv").identity
    for path in INFRASTRUCTURE:
        assert resolve(changed(BASE, path), FINGERPRINT).identity == expected
    words = [
        "logger=wandb",
        "logger.tags=[a]",
        "trainer.threads=1",
        "trainer.compile=true",
        "output=elsewhere",
        "results=null",
    ]
    assert recipe("experiment=digits_misconv", *words).identity == expected


@pytest.mark.parametrize(
    "path",
    [
        p
        for p in leaves(BASE)
        if p.split(".")[0] in DECIDING
        and p not in (*INFRASTRUCTURE, *OF_OTHER_BUDGETS, "task.name")
        and not of_another_task(p)
        and not (".training." in p and p.rpartition(".")[2] in OPTIONS)  # see test_training_options.py
    ],
)
def test_every_deciding_key_changes_the_identity(path: str) -> None:
    assert resolve(changed(BASE, path), FINGERPRINT).identity != resolve(BASE, FINGERPRINT).identity


def test_no_key_is_forgotten() -> None:
    """A new key of the base config has to be put on one side or the other."""
    known = {*DECIDING, *OTHER_TASKS, "trainer", "logger", "output", "results", "plugins"}
    assert {path.split(".")[0] for path in leaves(BASE)} == known


def test_so_do_the_data() -> None:
    assert resolve(BASE, "another").identity != resolve(BASE, FINGERPRINT).identity


def test_only_reduced_budgets_set_training_images_aside_unless_the_user_does() -> None:
    def aside(*words: str) -> int:
        found: int = recipe("experiment=mnist_zero", *words).config["data"]["validation"]
        return found

    assert aside() == 0 and aside("budget=quick") == aside("budget=smoke") == 5000
    assert aside("data.validation=300") == aside("data.validation=300", "budget=quick") == 300
    assert aside("data.validation=0", "budget=quick") == 0
    with pytest.raises(LacunaError, match=r"data.validation=-1 must be null or a whole number of at least 0"):
        aside("data.validation=-1")


@pytest.mark.parametrize(
    ("words", "label"),
    [
        ((), "paper"),
        (("stem=mask",), "paper"),
        (("net.training.lr=2e-3",), "changed"),
        (("net.training.epochs=20",), "changed"),
        (("net.training.batch_size=48",), "changed"),
        (("net.stages=[[32,1],[64,2]]",), "changed"),
        (("stem.filters=16", "net.stages=[[16,0],[64,2]]"), "changed"),
        (("data.train_images=50000",), "cut"),
        (("data.test_images=100",), "cut"),
        (("data.validation=5000",), "cut"),
        (("stem=misconv", "density=dmfa_mnist"), "paper"),
        (("stem=misconv", "density=dmfa_mnist", "density.training.lr=1e-3"), "changed"),
        (("budget=quick",), "quick"),
        (("budget=quick", "net.training.lr=2e-3"), "quick"),
        (("experiment=digits_zero",), "full"),
        (("experiment=digits_zero", "net.training.lr=2e-3"), "full"),
    ],
)
def test_only_what_is_as_published_is_called_the_papers(words: tuple[str, ...], label: str) -> None:
    found = recipe("experiment=mnist_zero", *words) if words[:1] != ("experiment=digits_zero",) else recipe(*words)
    assert found.config["budget"] == label


def test_what_a_run_does_not_use_is_no_part_of_it() -> None:
    zero = recipe("experiment=digits_zero")
    assert not zero.prerequisites and "density" not in zero.config
    assert recipe("experiment=digits_zero", "density.training.lr=0.5").identity == zero.identity
    density = recipe("experiment=digits_dmfa")
    assert recipe("experiment=digits_dmfa", "net.training.lr=0.5", "stem=zero").identity == density.identity


def test_a_light_budget_takes_lighter_values_and_the_users_word_stands_in_them_too() -> None:
    words = ["task=flow", "flow=acflow_mnist"]
    full, light = recipe(*words), recipe(*words, "budget=quick")
    assert full.config["flow"]["width"] == 32 and "light" not in full.config["flow"]
    assert light.config["flow"]["width"] == 16 and "light" not in light.config["flow"]
    own = recipe(*words, "budget=quick", "flow.width=20")
    assert own.config["flow"]["width"] == 20 and own.config["flow"]["scales"] == light.config["flow"]["scales"]


def test_a_density_may_be_trained_in_a_way_of_its_own() -> None:
    fitted = recipe("experiment=digits_misconv", "density=smfa_digits").prerequisites["density"].config
    assert fitted["task"] == {"name": "density", "type": "smfa.FitSMFA"} and "task" not in fitted["density"]
    assert "lr" not in fitted["density"]["training"]
    whole = recipe("experiment=digits_misconv", "density=smfa_digits", "density.complete=true").prerequisites["density"]
    assert whole.config["mask"]["name"] == "none"


def test_an_imputer_is_fitted_or_trained() -> None:
    words = ["task=impute", "mask=bernoulli", "stem=zero"]
    fitted = recipe(*words, "imputer=gaussian")
    assert not fitted.training and fitted.component == "imputer" and set(fitted.prerequisites) == {"features"}
    assert fitted.name.startswith("digits-bernoulli-gaussian-s0-")
    assert fitted.config["task"] == {"name": "impute", "type": "impute.Impute"}
    assert recipe(*words, "imputer=gaussian", "stem=mask", "density.components=2").identity == fitted.identity
    assert recipe(*words, "imputer=gaussian", "imputer.donors=7").identity != fitted.identity
    on_density = recipe(*words, "imputer=density_mean")
    assert on_density.prerequisites["density"].identity == recipe("task=density", "mask=bernoulli").identity
    assert not recipe(*words, "imputer=mean", "features=none").prerequisites


def test_an_imputer_may_be_trained_in_a_way_of_its_own_and_then_stands_in_no_stem() -> None:
    config_ = config("task=impute", "mask=bernoulli", "budget=quick")
    training = {"epochs": 400, "batch_size": 8, "lr": 1e-3, "lr_milestones": []}
    own = {"name": "own", "type": "own.Own", "task": "own.TrainOwn", "width": 9, "light": {"width": 3}}
    made = resolve({**config_, "imputer": {**own, "training": training}}, FINGERPRINT)
    assert made.config["task"] == {"name": "impute", "type": "own.TrainOwn"}
    assert made.training["epochs"] == 300 and made.config["imputer"]["width"] == 3
    assert not {"task", "light"} & set(made.config["imputer"])
    stem = {**config("stem=knn"), "task": {"name": "classify", "type": "classifier.TrainClassifier"}}
    stem["stem"]["imputer"] = {**own, "training": training}
    with pytest.raises(LacunaError, match=r"stem.imputer=own"):
        resolve(stem, FINGERPRINT)


def test_feature_nets_are_the_same_for_every_method_and_seed() -> None:
    words = ["task=generate", "net=wae_digits"]
    one, other = recipe(*words, "stem=zero"), recipe(*words, "stem=mask", "seed=3")
    net = one.prerequisites["features"]
    others = (other, one.with_seed(7))
    assert all(net.identity == recipe.prerequisites["features"].identity for recipe in others)
    assert net.task == "classify" and net.config["mask"]["name"] == "none" and net.config["net"]["name"] == "lenet"
    assert one.identity != recipe(*words, "stem=zero", "features=none").identity
    assert "features" not in recipe(*words, "stem=zero", "features=none").prerequisites


def test_a_prerequisite_is_the_run_one_would_have_asked_for() -> None:
    needed = recipe("experiment=digits_misconv").prerequisites["density"]
    assert needed.identity == recipe("experiment=digits_dmfa").identity
    # below an imputer as well as in the stem itself
    assert recipe("experiment=digits_mfa_mean").prerequisites["density"].identity == needed.identity


def test_the_command_line_reaches_a_prerequisite() -> None:
    words = ["experiment=digits_misconv", "density.training.lr=0.0123", "mask=noise", "seed=5"]
    needed = recipe(*words).prerequisites["density"]
    assert needed.training["lr"] == 0.0123
    assert needed.config["mask"]["name"] == "noise"
    assert needed.config["seed"] == 5
    assert recipe(*words).identity != recipe(*words[:1], *words[2:]).identity


def test_complete_images_whatever_the_mask() -> None:
    plain = recipe("experiment=digits_gt")
    assert plain.config["mask"]["name"] == "none"
    assert recipe("experiment=digits_gt", "mask=noise").identity == plain.identity


def test_a_budget_caps_and_scales() -> None:
    words = ["experiment=svhn_misconv", "density=dmfa_conv", "density.light=null"]
    paper, quick = recipe(*words), recipe(*words, "budget=quick")
    before, after = paper.prerequisites["density"].training, quick.prerequisites["density"].training
    assert (before["epochs"], before["mse_epochs"], before["lr_milestones"]) == (100, 10, [[10, 1e-5]])
    assert (after["epochs"], after["mse_epochs"]) == (10, 1)
    assert after["lr"] == pytest.approx(10 * before["lr"])
    assert after["lr_milestones"][0] == pytest.approx([1, 1e-4])
    assert (paper.training["epochs"], quick.training["epochs"]) == (25, 12)
    assert quick.training["lr"] == paper.training["lr"]
    assert paper.config["data"]["train_images"] is None
    assert quick.config["data"]["train_images"] == 4000
    assert "quick" in quick.name and "quick" not in paper.name


def test_a_budget_never_raises() -> None:
    words = ["budget=quick", "data.train_images=50", "net.training.epochs=2", "density.training.epochs=3"]
    small = recipe("experiment=digits_misconv", *words)
    assert small.config["data"]["train_images"] == 50
    assert small.training["epochs"] == 2
    assert small.prerequisites["density"].training["epochs"] == 3


def test_a_part_that_cannot_be_trained_is_named() -> None:
    wrong = copy.deepcopy(BASE)
    wrong["stem"]["prerequisites"] = ["oracle"]
    with pytest.raises(LacunaError, match=r"prerequisites: \[oracle\]"):
        resolve(wrong, FINGERPRINT)


def test_planning_imports_no_torch(digits_root: Path) -> None:
    script = (
        "import sys; from tests.runs.real import recipe; "
        f"name = recipe('experiment=digits_misconv', 'data.root={digits_root}').name; "
        "print(name, sorted({'torch', 'pytorch_lightning', 'wandb', 'sklearn'} & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT)
    assert result.stdout.startswith("digits-square-misconv-s0-") and result.stdout.endswith(" []\n")
