"""A search compares like with like, never looks at test images, and leaves everything else as it was."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from lacuna import files
from lacuna.config.compose import compose
from lacuna.config.paths import CONFIGS
from lacuna.errors import LacunaError
from lacuna.runs.folder import RunFolder
from lacuna.runs.resolve import resolve
from lacuna.search.command import override_value, train_command, train_words
from lacuna.search.problem import Problem, final_metric
from tests.search.standin import problem

RAW = {"net.training.lr": 0.0031234567, "net.training.batch_size": 40, "net.dropout": 0.12345678, "net.hidden": 64}


@pytest.fixture
def make(digits_root: Path, tmp_path: Path) -> Any:
    return lambda *words: problem(digits_root, tmp_path / "out", *words)


def test_a_trial_is_the_run_that_train_py_would_make(make: Any, digits_root: Path) -> None:
    searched = make("experiment=digits_misconv", "seeds=2", "seed=3", "executor.cpus=1", "trials=9")
    recipes = searched.recipes(RAW)
    assert [recipe.config["seed"] for recipe in recipes] == [3, 4]
    own = ["experiment=digits_misconv", "budget=smoke", f"data.root={digits_root}", "seed=3"]
    words = train_words(searched, RAW, [*own, "seeds=2", "executor.cpus=1", "trials=9", "search.name=classifier"])
    assert words[: len(own)] == own
    again = resolve(compose(CONFIGS, "train", words), searched.fingerprint)
    assert again.identity == recipes[0].identity
    assert train_command(words).startswith("python train.py experiment=digits_misconv budget=smoke ")
    for key, value in {"lr": 0.003123, "batch_size": 40}.items():
        assert recipes[0].config["net"]["training"][key] == value
    assert (recipes[0].config["net"]["dropout"], recipes[0].config["net"]["hidden"]) == (0.1235, 64)


def test_what_is_trained_first_is_the_same_in_every_trial(make: Any) -> None:
    searched = make("experiment=digits_misconv", "seeds=2")
    one, other = searched.recipes(RAW), searched.recipes({**RAW, "net.training.lr": 1e-4, "net.hidden": 16})
    assert one[0].identity != other[0].identity
    for mine, theirs in zip(one, other, strict=True):
        assert mine.prerequisites["density"].identity == theirs.prerequisites["density"].identity
    # another seed is another repetition
    assert one[0].prerequisites["density"].identity != one[1].prerequisites["density"].identity


def test_later_learning_rates_keep_their_ratio(make: Any, digits_root: Path) -> None:
    words = ["experiment=digits_zero", "net=classifier_own"]  # 1e-3, after 22 epochs 1e-4
    searched = make(*words)
    raw = {**RAW, "net.training.lr": 0.005}
    assert searched.values(raw)["net.training.lr_milestones"] == [[22, 5e-4]]
    again = train_words(searched, raw, [*words, "budget=smoke", f"data.root={digits_root}"])
    assert resolve(compose(CONFIGS, "train", again), searched.fingerprint).identity == searched.recipes(raw)[0].identity
    # unless somebody set them, or there are none
    assert "net.training.lr_milestones" not in make(*words, "net.training.lr_milestones=[[5,1e-6]]").values(raw)
    assert "net.training.lr_milestones" not in make("experiment=digits_zero", "net=classifier_mnist").values(raw)


def test_what_the_command_line_sets_is_not_searched(make: Any) -> None:
    searched = make("experiment=digits_zero", "net.dropout=0.3", "net.training.batch_size=7")
    assert [parameter.key for parameter in searched.parameters] == ["net.training.lr", "net.hidden"]
    (recipe,) = searched.recipes(RAW)
    assert recipe.config["net"]["dropout"] == 0.3 and recipe.config["net"]["training"]["batch_size"] == 7
    with pytest.raises(LacunaError, match="no parameter to search"):
        make("net.dropout=0.3", "net.training.batch_size=7", "net.hidden=16", "net.training.lr=0.1")
    with pytest.raises(LacunaError, match="no parameter to search"):
        make(*(f"search.parameters={{{key}: null}}" for key in RAW))


def test_comparable_trials_and_no_others_share_a_folder(make: Any) -> None:
    base = ("experiment=digits_zero",)
    name = make(*base).name
    range_ = "search.parameters={net.training.lr: {low: 1e-6, high: 1.0}}"
    same: list[tuple[str, ...]] = [(range_,), ("trials=99",), ("executor.retries=1",), ("trainer.threads=1",)]
    assert {make(*base, *words).name for words in same} == {name}
    different = ["seeds=2", "seed=1", "mask=noise", "mask.fraction=0.3", "stem.filters=8", "data.train_images=9"]
    different += [
        "net.dropout=0.0",
        "search.metric=validation/loss",
        "search.direction=minimize",
        "net.variant=authors",
    ]
    different += ["precision=bf16-mixed"]
    names = {word: make(*base, word).name for word in different}
    assert len({name, *names.values()}) == len(different) + 1
    # a rate that is searched leaves no trace of what it was; the shape of its schedule does
    own = (*base, "net=classifier_own")
    assert make(*own).name != make(*own, "net.training.lr_milestones=[]").name
    assert name.startswith("digits-square-zero-smoke-classifier-")


def test_the_start_is_the_configuration_if_it_is_inside(make: Any) -> None:
    start = make("experiment=digits_zero").start
    assert start == {"net.training.lr": 1e-3, "net.training.batch_size": 24, "net.dropout": 0.0, "net.hidden": 32}
    assert make("experiment=digits_zero", "search.parameters={net.dropout: {low: 0.1}}").start is None


def test_the_density_is_searched_as_a_task_of_its_own(make: Any) -> None:
    searched = make("experiment=digits_dmfa", "search=dmfa")
    start = searched.start
    assert start is not None
    (recipe,) = searched.recipes({**start, "density.components": 3, "density.training.lr": 2e-3})
    assert recipe.task == "density" and recipe.config["density"]["components"] == 3
    # 1e-3, in the end 2e-4; one epoch of smoke leaves the rates' ratio
    assert recipe.config["density"]["training"]["lr_milestones"][0][1] == pytest.approx(4e-4)


MISTAKES: list[tuple[tuple[str, ...], str]] = [
    (("search=null",), "search is empty: choose one, for instance search=classifier"),
    (("search.metric=test/accuracy",), "search.metric=test/accuracy would select by test images"),
    (("search.metric=complete/accuracy",), "search.metric=complete/accuracy would select by test images"),
    (("search.metric=accuracy",), "search.metric=accuracy must be a validation/... metric"),
    (("search.direction=max",), "search.direction=max must be maximize or minimize"),
    (("experiment=digits_dmfa",), "search=classifier is for task=classify, and this is task=density"),
    (("search=dmfa",), "search=dmfa is for task=density, and this is task=classify"),
    (("net=lenet_digits",), "this experiment has no key net.dropout: leave it out with"),
    (("seeds=0",), "seeds=0"),
    (("seeds=null",), "seeds=None"),
    (("data.validation=0",), "needs validation images: set data.validation"),
    (("search.parameters={net.training.lr: {low: -1.0, log: false}}",), "net.training.lr=-1.0 more than 0"),
    (("search.parameters={net.training.lr: {low: 0.0}}",), "log of net.training.lr"),
]


@pytest.mark.parametrize(("words", "sentence"), MISTAKES, ids=lambda item: str(item)[:40])
def test_mistakes_are_one_sentence_before_anything_starts(
    make: Any, words: tuple[str, ...], sentence: str, tmp_path: Path
) -> None:
    with pytest.raises(LacunaError) as caught:
        make(*words)
    assert sentence in str(caught.value) and "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("key", "spec", "words", "sentence"),
    [
        ("density.factors", {"low": 1, "high": 4}, (), "belongs to a prerequisite: search it with task=density"),
        (
            "density.factors",
            {"low": 1, "high": 4},
            ("stem=zero",),
            "density.factors changes nothing",
        ),
        ("trainer.eval_batch_size", {"low": 1, "high": 4}, (), "trainer.eval_batch_size changes nothing"),
        ("mask.fraction", {"low": 0.1, "high": 0.5}, (), "mask.fraction cannot be searched"),
        ("seed", {"low": 0, "high": 5}, (), "seed cannot be searched"),
        ("net.sizes", {"low": 0, "high": 5}, (), "this experiment has no key net.sizes"),
        ("net.training.lr", {"choices": [1e-3, "high"]}, (), "net.training.lr=high must be a number"),
        ("net", {"choices": [1, 2]}, (), "set key by key"),
    ],
)
def test_keys_that_cannot_be_searched(
    key: str, spec: dict[str, Any], words: tuple[str, ...], sentence: str, digits_root: Path
) -> None:
    own = ["search=classifier", f"data.root={digits_root}", "budget=smoke", *words]
    config = compose(CONFIGS, "sweep", own)
    config["search"]["parameters"] = {key: spec}
    with pytest.raises(LacunaError, match=sentence):
        Problem.of(config)


def test_choices_of_every_kind_reach_the_run_and_the_command(digits_root: Path) -> None:
    own = ["search=classifier", f"data.root={digits_root}", "budget=smoke"]
    config = compose(CONFIGS, "sweep", own)
    stages = [[[32, 1], [64, 1]], [[16, 1]]]
    config["search"]["parameters"] = {
        "stem.formula": {"choices": ["exact", "authors"]},
        "net.stages": {"choices": stages},
        "net.training.lr_milestones": {"choices": [[], [[1, 1e-5]]]},
    }
    searched = Problem.of(config)
    raw = {"stem.formula": '"authors"', "net.stages": "[[16, 1]]", "net.training.lr_milestones": "[[1, 1e-05]]"}
    (recipe,) = searched.recipes(raw)
    assert recipe.config["stem"]["formula"] == "authors" and recipe.config["net"]["stages"] == [[16, 1]]
    assert recipe.config["net"]["training"]["lr_milestones"] == [[0, 1e-5]]  # an epoch of smoke
    words = train_words(searched, raw, own)
    assert resolve(compose(CONFIGS, "train", words), searched.fingerprint).identity == recipe.identity


VALUES = [None, True, False, 3, -2, 0.1, 1e-05, 1e20, [], [1, ["a", None]]]
TEXTS = ["exact", "a b", "it's", "null", "1e-3", "x=[1,2]", "a\\b", "a\\'b\\", ""]


@pytest.mark.parametrize("value", [*VALUES, *TEXTS], ids=repr)
def test_values_are_read_back_from_a_command_line(value: Any) -> None:
    found = compose(CONFIGS, "train", [f"logger.tags=[{override_value(value)}]", "logger=wandb"])
    assert found["logger"]["tags"] == [value]
    assert type(found["logger"]["tags"][0]) is type(value)


def test_a_metric_is_final_or_of_the_last_epoch(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run")
    files.write_json(run.path / "metrics.json", {"metrics": {"test/nll": 1.0, "validation/loss": 2.0}})
    lines = '{"validation/nll": 9.0}\n{"validation/nll": 3.0, "validation/loss": 7.0, "validation/psnr": "nan"}\n'
    files.write_text(run.path / "metrics.jsonl", lines)
    assert final_metric(run, "validation/loss") == 2.0
    assert final_metric(run, "validation/nll") == 3.0
    assert final_metric(run, "validation/psnr") != final_metric(run, "validation/psnr")
    with pytest.raises(LacunaError, match=r"validation/acc is not a metric of run.* validation/loss, validation/nll"):
        final_metric(run, "validation/acc")


def test_sweep_takes_all_that_train_takes() -> None:
    train, sweep = (compose(CONFIGS, name, []) for name in ("train", "sweep"))
    assert {key: sweep[key] for key in train} == train
    assert sweep.keys() - train.keys() == {"executor", "trials", "seeds"}
