"""Every experiment composes, its components can be built, and it survives a few steps through the real command; and so
does what no experiment uses."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch._subclasses.fake_tensor import FakeTensorMode

from lacuna import registry
from lacuna.config.compose import compose
from lacuna.config.help import options
from lacuna.config.paths import CONFIGS
from lacuna.data.masks import MaskScheme
from lacuna.data.prepared import Arrays, Description, write
from lacuna.data.sources.base import Source
from lacuna.densities.base import Density
from lacuna.executors.base import Executor
from lacuna.flows.acflow import ACFlow
from lacuna.imputers.base import Imputer
from lacuna.layers.stem import ImputeStem, Stem
from lacuna.runs.budget import LIMITS, MEASURED, VALIDATION
from lacuna.runs.folder import RunFolder
from lacuna.runs.recipe import Recipe
from lacuna.runs.resolve import TRAINED, resolve
from lacuna.tasks.base import Task
from lacuna.tasks.common.models import Sizes, build_density, build_flow, build_model
from lacuna.tasks.common.sample_fid import PUBLISHED
from lacuna.tasks.measurement import Measurement
from lacuna.training.loading import load
from tests.runs.real import config, recipe, train

MEASUREMENTS = ("timing",)
EXPERIMENTS = [name for name in options(CONFIGS, "experiment") if name not in MEASUREMENTS]

# The fully connected DMFA of MNIST has 118 million parameters; the last layers of the others are large as well.
HEAVY = ("mnist_dmfa", "mnist_mfa_mean", "mnist_misconv", "mnist_wae")


def source_of(data: dict[str, Any]) -> Source:
    not_arguments = (*LIMITS, *VALIDATION, "root", "download")
    source: Source = registry.build("data", {k: v for k, v in data.items() if k not in not_arguments})
    return source


def test_there_are_experiments() -> None:
    assert len(EXPERIMENTS) >= 30
    assert set(HEAVY) < set(EXPERIMENTS)


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What a user has: a file of arrays and a folder of pictures, 12x12 in colour, three classes."""
    place = tmp_path_factory.mktemp("own")
    rng = np.random.default_rng(1)
    images = rng.random((60, 12, 12, 3), np.float32)
    images[:, :4, 2:5] = np.nan
    np.savez(place / "arrays.npz", images=images, labels=np.arange(60) % 3)
    for i in range(60):
        picture = rng.integers(0, 256, (12, 12, 4), dtype=np.uint8)
        picture[..., 3] = 255
        picture[:4, 2:5, 3] = 0  # transparent: missing
        path = place / "folder" / f"class {i % 3}" / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture).save(path)
    return {"arrays": f"data.path={place / 'arrays.npz'}", "folder": f"data.path={place / 'folder'}"}


Experiment = Callable[[str], dict[str, Any]]


@pytest.fixture(scope="module")
def experiment(own: dict[str, str]) -> Experiment:
    """The composed config of an experiment, cached because composing is slow; it must not be changed."""
    return cache(lambda name: config(f"experiment={name}", *own_words(name, own)))


def own_words(name: str, own: dict[str, str]) -> list[str]:
    word = own.get(name.split("_")[0])
    return [word] if word else []


@cache
def budget_of(name: str) -> dict[str, Any]:
    budget: dict[str, Any] = config(f"budget={name}")["budget"]
    return budget


@pytest.mark.parametrize("name", EXPERIMENTS)
@pytest.mark.parametrize("budget", options(CONFIGS, "budget"))
def test_composes_to_a_recipe(name: str, budget: str, experiment: Experiment) -> None:
    made = resolve({**experiment(name), "budget": budget_of(budget)}, "0123456789ab")
    data, method = name.split("_", 1)
    assert made.config["data"]["name"] == data
    part = {"density": "density", "flow": "flow", "generate": "net", "impute": "imputer"}.get(made.task, "stem")
    assert made.config[part]["name"] == {"impute": "mean"}.get(method, method)
    assert made.task == "impute" or made.training["epochs"] >= 1
    # the text at its top is what --help says of it
    lines = (CONFIGS / "experiment" / f"{name}.yaml").read_text().splitlines()
    assert lines[0] == "# @package _global_" and lines[1].startswith("# ") and lines[1].endswith(".")


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_its_components_can_be_built(name: str, experiment: Experiment) -> None:
    made = resolve(experiment(name), "0123456789ab")
    source = source_of(experiment(name)["data"])
    shape, classes = source.shape or (3, 12, 12), source.classes or 3
    registry.build("mask", {k: v for k, v in made.config["mask"].items() if k != "seed"})
    sizes = Sizes(shape, classes)
    with FakeTensorMode():  # shapes without memory or arithmetic
        parts = {part: build_model(needed.config, sizes, {}) for part, needed in made.prerequisites.items()}
        x = torch.zeros(2, *shape)
        mask = torch.ones_like(x[:, :1], dtype=torch.bool)
        if made.task == "density":
            out = build_density(made.config, sizes)(x, mask)
        elif made.task == "flow":
            out = build_flow(made.config, sizes).log_prob(x, mask)
        elif made.task == "impute":
            assert isinstance(build_model(made.config, sizes, parts), Imputer)
        else:
            model: Any = build_model(made.config, sizes, parts)
            out = model(x, mask, x if isinstance(model.stem, ImputeStem) else None)
    if made.task == "density":
        assert (len(out.mean), *out.mean.shape[2:]) == (2, *shape)
    elif made.task == "flow":
        assert out.shape == (2,)
    elif made.task != "impute":
        assert out.shape == ((2, *shape) if made.task == "generate" else (2, classes))
    registry.find("task", made.config["task"]["type"])


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
CHOICES = [(group, choice) for group in FAMILIES for choice in options(CONFIGS, group)]


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
    assert all(options(CONFIGS, group) for group in FAMILIES)


@pytest.mark.parametrize("choice", options(CONFIGS, "executor"))
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


FEATURES = [choice for choice in options(CONFIGS, "features") if choice not in ("none", *PUBLISHED)]


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


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Synthetic prepared sets with the names and shapes of the real ones."""
    root = tmp_path_factory.mktemp("synthetic")
    rng = np.random.default_rng(0)
    for name in sorted({name.split("_")[0] for name in EXPERIMENTS} - {"arrays", "folder"}):
        source = source_of(config(f"data={name}")["data"])
        assert source.shape is not None

        def made(n: int, source: Source = source) -> Arrays:
            images = rng.integers(0, 256, (n, *(source.shape or ())), dtype=np.uint8)
            if source.attributes is not None:
                return Arrays(images, rng.integers(0, 2, (n, source.attributes), dtype=np.uint8))
            return Arrays(images, None if source.classes is None else np.arange(n) % source.classes)

        splits = {"train": made(24), "validation": made(10), "test": made(10)}
        about = Description(source.set_name, source.classes, "made up", complete=False, attributes=source.attributes)
        write(source.folder(root), about, splits)
    return root


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


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Shared: densities are trained once."""
    return tmp_path_factory.mktemp("outputs")


@pytest.mark.parametrize("name", MEASUREMENTS)
def test_measures_without_any_data(name: str, tmp_path: Path) -> None:
    for budget in options(CONFIGS, "budget"):
        made = resolve({**config(f"experiment={name}"), "budget": budget_of(budget)}, "0123456789ab")
        assert made.measured and made.name.startswith(name)
    words = [f"experiment={name}", "budget=smoke", f"data.root={tmp_path / 'data'}", f"output={tmp_path / 'out'}"]
    words += ["data.download=false", "trainer.accelerator=cpu", "data=mnist"]
    assert train(*words) == 0
    folder = RunFolder.of(tmp_path / "out", recipe(*words))
    assert all(np.isfinite(value) for value in folder.metrics["metrics"].values())
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.slow if n in HEAVY else ()) for n in EXPERIMENTS])
def test_runs_for_an_epoch(name: str, root: Path, output: Path, own: dict[str, str]) -> None:
    words = [f"experiment={name}", "budget=smoke", f"data.root={root}", f"output={output}", "data.download=false"]
    words += ["trainer.accelerator=cpu", "trainer.progress=false", *own_words(name, own)]
    assert train(*words) == 0
    made: Recipe = recipe(*words)
    folder = RunFolder.of(output, made)
    found = folder.metrics["metrics"]
    assert all(np.isfinite(value) for value in found.values())
    metrics = {"classify": "test/accuracy", "generate": "test/fid_best", "impute": "test/rmse"}
    assert metrics.get(made.task, "test/nll_per_dim") in found
    if made.task == "classify" and name not in HEAVY:
        weight = load(folder).state_dict()["stem.conv.weight"]
        assert len(weight) == made.config["stem"]["filters"]
