"""Every choice of a config group can be built, and what no experiment uses survives an epoch."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from lacuna import registry
from lacuna.config.compose import compose
from lacuna.config.paths import CONFIGS
from lacuna.data.masks import MaskScheme
from lacuna.data.sources.base import Source
from lacuna.densities.base import Density
from lacuna.executors.base import Executor
from lacuna.flows.acflow import ACFlow
from lacuna.imputers.base import Imputer
from lacuna.layers.stem import ImputeStem, Stem
from lacuna.runs.budget import MEASURED
from lacuna.runs.folder import RunFolder
from lacuna.runs.resolve import TRAINED, resolve
from lacuna.tasks.base import Task
from lacuna.tasks.common.models import Sizes, build_density, build_flow, build_model
from lacuna.tasks.common.sample_fid import PUBLISHED
from lacuna.tasks.measurement import Measurement
from lacuna.training.loading import load
from tests.laws.users_data import own_words, source_of, write_own
from tests.runs.real import config, recipe, train

# config group -> what its classes are
FAMILIES: dict[str, type | tuple[type, ...]] = {
    "data": Source,
    "mask": MaskScheme,
    "density": Density,
    "flow": ACFlow,
    "imputer": Imputer,
    "stem": Stem,
    "net": torch.nn.Module,
    "task": (Task, Measurement),
}
# sizes of networks that are made for one size of images
NATIVE = {"misgan_mnist": (1, 28, 28), "pbigan_mnist": (1, 28, 28)}
CHOICES = [(group, choice) for group in FAMILIES for choice in CONFIGS.options(group)]


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return write_own(tmp_path_factory.mktemp("own"))


def choosing(group: str, choice: str, own: dict[str, str]) -> list[str]:
    """The overrides that choose one file of a config group."""
    if group == "imputer":
        return ["task=impute", "mask=bernoulli", f"imputer={choice}"]
    words = [f"{group}={choice}", *(own_words(choice, own) if group == "data" else [])]
    if choice == "generate" or choice.startswith("wae_"):
        return ["task=generate", "net=wae_digits", *words]
    return words if group == "task" else [*words, f"task={group if group in TRAINED else 'classify'}"]


def test_every_group_of_components_is_tested() -> None:
    assert FAMILIES.keys() | {"executor"} == registry.PACKAGES.keys()
    assert all(CONFIGS.options(group) for group in FAMILIES)


@pytest.mark.parametrize("choice", CONFIGS.options("executor"))
def test_every_executor_can_be_chosen(choice: str) -> None:
    spec = compose(CONFIGS, "reproduce", [f"executor={choice}", "table=demo"])["executor"]
    assert isinstance(registry.build("executor", spec), Executor) and spec["name"] == choice


@pytest.mark.parametrize(("group", "choice"), CHOICES)
def test_every_choice_is_a_part(group: str, choice: str, own: dict[str, str]) -> None:
    composed = config(*choosing(group, choice, own))
    made = resolve(composed, "0123456789ab").config
    spec = made[group]
    assert issubclass(registry.find(group, spec["type"]), FAMILIES[group])
    if made["task"]["name"] in MEASURED:
        return
    if group == "data":
        source = source_of(composed["data"])
        assert isinstance(source, Source) and source.set_name
        assert (source.shape is None) == (choice in own)
        return
    if group == "mask":
        scheme = registry.build("mask", {key: value for key, value in spec.items() if key != "seed"})
        assert scheme(torch.arange(3), (3, 12, 12), seed=spec["seed"], split="test").shape == (3, 1, 12, 12)
        return
    sizes = Sizes(NATIVE.get(choice, (3, 32, 32)), 7)
    with FakeTensorMode():
        x, mask = torch.zeros(2, 3, 32, 32), torch.ones(2, 1, 32, 32, dtype=torch.bool)
        if made["task"]["name"] == "density":
            assert build_density(made, sizes)(x, mask).mean.shape[::2] == (2, 3, 32)
            return
        if made["task"]["name"] == "flow":
            side = 32 - 2 * made["flow"].get("pad", 0)
            x, mask = x[..., :side, :side], mask[..., :side, :side]
            assert build_flow(made, Sizes((3, side, side))).point_estimate(x, mask).shape == x.shape
            return
        parts = {part: build_model(needed, sizes, {}) for part, needed in made.get("prerequisites", {}).items()}
        model: Any = build_model(made, sizes, parts)
        if made["task"]["name"] == "impute":
            assert group == "task" or type(model) is registry.find(group, spec["type"])
            return
        generates = made["task"]["name"] == "generate"
        built = {"stem": model.stem, "net": model.wae if generates else model.body}
        assert group == "task" or type(built[group]) is registry.find(group, spec["type"])
        out = model(x, mask, x if isinstance(model.stem, ImputeStem) else None)
        assert out.shape == ((2, 3, 32, 32) if generates else (2, 7))


FEATURES = [choice for choice in CONFIGS.options("features") if choice not in ("none", *PUBLISHED)]


@pytest.mark.parametrize("choice", FEATURES)
def test_every_feature_net_is_trained_once_on_complete_images(choice: str) -> None:
    words = ["task=generate", "net=wae_digits", "stem=zero", f"features={choice}"]
    made, other = (resolve(config(*words, f"seed={seed}"), "0123456789ab") for seed in (0, 3))
    needed = made.prerequisites["features"]
    assert needed.identity == other.prerequisites["features"].identity and made.identity != other.identity
    assert needed.config["mask"]["name"] == "none" and "run" not in made.config["features"]
    sizes = Sizes((3, 32, 32), 7)
    with FakeTensorMode():
        model: Any = build_model(needed.config, sizes, {})
        assert model.features(torch.zeros(2, 3, 32, 32)).shape[:1] == (2,)
        assert model.features(torch.zeros(2, 3, 32, 32)).ndim == 2


@pytest.mark.parametrize("choice", ["none", *PUBLISHED])
def test_other_feature_nets_need_no_run(choice: str) -> None:
    made = resolve(config("task=generate", "net=wae_digits", "stem=zero", f"features={choice}"), "0123456789ab")
    assert not made.prerequisites and ("features" in made.config) == (choice in PUBLISHED)


TINY_NETS = ["net.stages=[[4,1],[4,1]]", "stem.filters=4", "density.net.filters=[4,4]", "density.net.kernels=[3,3]"]
TINY_CONV = ["encoder=[[4,1],[4,1]]", "middle=[4,1]", "decoder=[[4,1],[4,1]]"]
# words that no experiment says -> where to find in the trained model that they were heard
UNUSED: dict[str, Callable[[Any], bool]] = {
    "net.variant=authors": lambda model: isinstance(model.body.features[0], torch.nn.Conv2d),
    "stem.formula=paper": lambda model: model.stem.conv.formula == "paper",
    "stem.formula=authors": lambda model: model.stem.conv.formula == "authors",
    "stem=knn stem.imputer.published=true": lambda model: model.stem.frozen.published,
    "stem=acflow stem.imputer.estimate=latent_zero": lambda model: model.stem.frozen.estimate == "latent_zero",
    "task=flow flow.context=false": lambda model: not model.context,
    "density=dmfa_conv_authors task=density": lambda model: isinstance(model.net.noise, torch.nn.Conv2d),
}


@pytest.mark.parametrize("words", UNUSED)
def test_variants_that_no_experiment_uses_run_for_an_epoch(words: str, digits_root: Path, tmp_path: Path) -> None:
    every = ["budget=smoke", f"data.root={digits_root}", f"output={tmp_path}", "trainer.accelerator=cpu"]
    every += ["trainer.progress=false", *words.split()]
    every += [f"density.net.{word}" for word in TINY_CONV] if "density=" in words else TINY_NETS
    assert train(*every) == 0
    folder = RunFolder.of(tmp_path, recipe(*every))
    assert all(np.isfinite(value) for value in folder.metrics["metrics"].values())
    assert UNUSED[words](load(folder))
    without = [word for word in every if word not in words.split()[-1:]]
    assert recipe(*without).identity != folder.recipe.identity
