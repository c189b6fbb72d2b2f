"""What is said of a run's training before it begins is what the training does."""

from __future__ import annotations

from pathlib import Path

import pytest

from lacuna.config.composer import Composer
from lacuna.config.paths import CONFIGS
from lacuna.registry import find
from lacuna.runs.recipe import Recipe
from lacuna.runs.resolve import resolve
from lacuna.runs.settings import Settings
from lacuna.runs.steps import EM, FULL_BATCHES, Trainings, stored_counts, training, training_images
from lacuna.tasks.common.adversarial import AdversarialTask
from lacuna.tasks.smfa import FitSMFA
from lacuna.training.loading import open_data
from tests.runs.real import config, recipe


def published(*words: str) -> Recipe:
    """The recipe of ``train.py words`` without its data."""
    return resolve(config(*words), "unknown")


@pytest.mark.parametrize(
    "words",
    [
        (),
        ("data.validation=100",),
        ("data.validation=100", "data.train_images=50"),
        ("data.validation=0", "net.training.batch_size=64", "density.training.batch_size=64"),
        ("budget=quick",),
        ("budget=smoke",),
    ],
    ids=str,
)
def test_epochs_have_as_many_batches_as_the_loader_gives(words: tuple[str, ...], digits_root: Path) -> None:
    made = recipe("experiment=digits_misconv", *words, f"data.root={digits_root}")
    settings = Settings(data_root=digits_root, download=False, trainer={"accelerator": "cpu"})
    for each in (made, made.prerequisites["density"]):
        loader = open_data(each, settings).train_dataloader()
        found = Trainings(digits_root)(each)
        assert found is not None and found.batches == len(loader)
        assert found.epochs == each.training["epochs"] and found.steps == len(loader) * found.epochs


@pytest.mark.parametrize(
    ("words", "said"),
    [
        # 60,000 images in batches of 24; the last batch of 55,000 has 16 images
        (("experiment=mnist_zero",), "10 epochs x 2,500 batches = 25,000 steps"),
        (("experiment=mnist_zero", "data.validation=5000"), "10 epochs x 2,292 batches = 22,920 steps"),
        (("experiment=mnist_zero", "budget=quick", "net.training.batch_size=64"), "x 63 batches = "),
        (("experiment=mnist_impute", "imputer=prflow"), "at most 500 epochs x 938 batches = 469,000 steps"),
        # 937 batches of 64 are full, and only those are learned from
        (("experiment=mnist_impute", "imputer=misgan_mnist"), "1000 epochs x 937 batches = 937,000 steps"),
    ],
    ids=lambda value: str(value)[:60],
)
def test_published_sets_need_not_be_here(words: tuple[str, ...], said: str, tmp_path: Path) -> None:
    assert said in str(Trainings(tmp_path)(published(*words)))
    assert not list(tmp_path.iterdir())


def test_passes_of_em_are_no_steps_and_what_is_only_fitted_trains_nothing(tmp_path: Path) -> None:
    fitted = Trainings(tmp_path)(published("experiment=mnist_smfa"))
    assert fitted is not None and fitted.steps == 0 and str(fitted).endswith(" EM passes")
    assert Trainings(tmp_path)(published("experiment=mnist_impute", "imputer=linear")) is None
    assert Trainings(tmp_path)(published("experiment=timing")) is None


def test_a_sample_gives_up_its_share_of_validation_images_and_unknown_counts_stay_unknown() -> None:
    data = dict(published("experiment=mnist_zero", "data.validation=6000").config["data"])
    assert training_images(data, {"train": 60_000, "test": 10_000}) == 54_000
    assert training_images(data, {"train": 600, "test": 10}) == 540
    assert training_images(data, {"train": 600, "validation": 10, "test": 10}) == 600
    assert training_images({**data, "train_images": 99}, {"train": 600}) == 99
    assert training(published("experiment=mnist_zero"), {}).steps is None


def test_another_set_of_the_same_name_is_not_counted(digits_root: Path) -> None:
    data = dict(recipe("experiment=digits_zero", f"data.root={digits_root}").config["data"])
    assert dict(stored_counts(data, digits_root)) == {"train": 1297, "test": 500}
    assert stored_counts({**data, "fingerprint": "other"}, digits_root) == {"train": 1297, "test": 500}


@pytest.mark.slow
def test_every_task_is_counted_as_it_trains() -> None:
    composer = Composer(CONFIGS, "train")
    types = {str(composer.base([f"task={name}"])["task"]["type"]) for name in CONFIGS.options("task")}
    for group in ("density", "imputer"):
        for name in CONFIGS.options(group):
            own = composer.base([f"{group}={name}"])[group].get("task")
            types |= {str(own)} if own else set()
    assert {name for name in types if issubclass(find("task", name), FitSMFA)} == set(EM)
    assert {name for name in types if issubclass(find("task", name), AdversarialTask)} == set(FULL_BATCHES)
