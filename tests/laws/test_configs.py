"""Every experiment composes, its parts can be built, and it survives a few steps through the real command."""

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
from lacuna.cli import CONFIGS
from lacuna.data.prepared import Arrays, Description, write
from lacuna.data.sources.base import Source
from lacuna.layers.stem import ImputeStem
from lacuna.runs.folder import RunFolder
from lacuna.runs.recipe import LIMITS, Recipe, resolve
from lacuna.runs.run import load
from lacuna.tasks.models import Sizes, build_classifier, build_density
from lacuna.usage import options
from tests.runs.real import config, recipe, train

EXPERIMENTS = options(CONFIGS, "experiment")

# The fully connected DMFA of MNIST has 118 million parameters; the last layers of the others are large as well.
HEAVY = ("mnist_dmfa", "mnist_mfa_mean", "mnist_misconv")


def source_of(data: dict[str, Any]) -> Source:
    not_arguments = (*LIMITS, "validation", "root", "download")
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
    """The composed config of an experiment; composing takes a while, and nobody changes the result."""
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
    assert made.content["data"]["name"] == data
    part = "density" if made.task == "density" else "stem"
    assert method == "dmfa" if part == "density" else made.content["stem"]["name"] == method
    assert made.training["epochs"] >= 1
    # the text at its top is what --help says of it
    lines = (CONFIGS / "experiment" / f"{name}.yaml").read_text().splitlines()
    assert lines[0] == "# @package _global_" and lines[1].startswith("# ") and lines[1].endswith(".")


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_its_parts_can_be_built(name: str, experiment: Experiment) -> None:
    made = resolve(experiment(name), "0123456789ab")
    source = source_of(experiment(name)["data"])
    shape, classes = source.shape or (3, 12, 12), source.classes or 3
    registry.build("mask", {k: v for k, v in made.content["mask"].items() if k != "seed"})
    sizes = Sizes(shape, classes)
    with FakeTensorMode():  # shapes without memory or arithmetic
        parts = {part: build_density(needed.content, sizes) for part, needed in made.needs.items()}
        x = torch.zeros(2, *shape)
        mask = torch.ones_like(x[:, :1], dtype=torch.bool)
        if made.task == "density":
            out = build_density(made.content, sizes)(x, mask)
        else:
            model = build_classifier(made.content, sizes, parts)
            out = model(x, mask, x if isinstance(model.stem, ImputeStem) else None)
    if made.task == "density":
        assert out.mean.shape == (2, 1, *shape)
    else:
        assert out.shape == (2, classes)
    registry.find("task", made.content["task"]["type"])


@pytest.mark.parametrize("group", ["data", "mask", "density", "imputer", "stem", "net", "task"])
def test_every_part_names_a_class(group: str) -> None:
    for choice in options(CONFIGS, group):
        words = [f"stem={choice}"] if group == "stem" else [f"{group}={choice}"]
        if group == "imputer":
            words = [f"imputer@stem.imputer={choice}", "stem=zero"]
        composed = config(*words)
        spec = composed["stem"]["imputer"] if group == "imputer" else composed[group]
        assert issubclass(registry.find(group, spec["type"]), object)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Synthetic prepared sets of the right shapes under the right names."""
    root = tmp_path_factory.mktemp("synthetic")
    rng = np.random.default_rng(0)
    for name in sorted({name.split("_")[0] for name in EXPERIMENTS} - {"arrays", "folder"}):
        source = source_of(config(f"data={name}")["data"])
        assert source.shape is not None
        classes = source.classes

        def made(n: int, shape: tuple[int, ...] = source.shape, classes: int | None = classes) -> Arrays:
            images = rng.integers(0, 256, (n, *shape), dtype=np.uint8)
            return Arrays(images, None if classes is None else np.arange(n) % classes)

        splits = {"train": made(24), "validation": made(10), "test": made(10)}
        about = Description(source.set_name, classes, "made up", complete=False)
        write(source.folder(root), about, splits)
    return root


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Shared: densities are trained once."""
    return tmp_path_factory.mktemp("outputs")


@pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.slow if n in HEAVY else ()) for n in EXPERIMENTS])
def test_runs_for_an_epoch(name: str, root: Path, output: Path, own: dict[str, str]) -> None:
    words = [f"experiment={name}", "budget=smoke", f"data.root={root}", f"output={output}", "data.download=false"]
    words += ["trainer.accelerator=cpu", "trainer.progress=false", *own_words(name, own)]
    assert train(*words) == 0
    made: Recipe = recipe(*words)
    folder = RunFolder.of(output, made)
    found = folder.metrics["metrics"]
    assert all(np.isfinite(value) for value in found.values())
    assert ("test/nll_per_dim" if made.task == "density" else "test/accuracy") in found
    if made.task == "classify" and name not in HEAVY:
        weight = load(folder).state_dict()["stem.conv.weight"]
        assert len(weight) == made.content["stem"]["filters"]
