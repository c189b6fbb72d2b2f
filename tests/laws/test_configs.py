"""Every experiment composes, its components can be built, and it survives a few steps through the real command."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from lacuna import registry
from lacuna.config.paths import CONFIGS
from lacuna.data.prepared import Arrays, Description, write
from lacuna.data.sources.base import Source
from lacuna.imputers.base import Imputer
from lacuna.layers.stem import ImputeStem
from lacuna.runs.folder import RunFolder
from lacuna.runs.recipe import Recipe
from lacuna.runs.resolve import resolve
from lacuna.tasks.common.models import Sizes, build_density, build_flow, build_model
from lacuna.training.loading import load
from tests.laws.users_data import own_words, source_of, write_own
from tests.runs.real import config, recipe, train

MEASUREMENTS = ("timing",)
EXPERIMENTS = [name for name in CONFIGS.options("experiment") if name not in MEASUREMENTS]

# The fully connected DMFA of MNIST has 118 million parameters; the last layers of the others are large as well.
HEAVY = ("mnist_dmfa", "mnist_mfa_mean", "mnist_misconv", "mnist_wae")


def test_there_are_experiments() -> None:
    assert len(EXPERIMENTS) >= 30
    assert set(HEAVY) < set(EXPERIMENTS)


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return write_own(tmp_path_factory.mktemp("own"))


Experiment = Callable[[str], dict[str, Any]]


@pytest.fixture(scope="module")
def experiment(own: dict[str, str]) -> Experiment:
    """The composed config of an experiment, cached because composing is slow; it must not be changed."""
    return cache(lambda name: config(f"experiment={name}", *own_words(name, own)))


@cache
def budget_of(name: str) -> dict[str, Any]:
    budget: dict[str, Any] = config(f"budget={name}")["budget"]
    return budget


@pytest.mark.parametrize("name", EXPERIMENTS)
@pytest.mark.parametrize("budget", CONFIGS.options("budget"))
def test_composes_to_a_recipe(name: str, budget: str, experiment: Experiment) -> None:
    made = resolve({**experiment(name), "budget": budget_of(budget)}, "0123456789ab")
    data, method = name.split("_", 1)
    assert made.config["data"]["name"] == data
    part = {"density": "density", "flow": "flow", "generate": "net", "impute": "imputer"}.get(made.task, "stem")
    assert made.config[part]["name"] == {"impute": "mean"}.get(method, method)
    assert made.task == "impute" or made.training["epochs"] >= 1
    # the text at its top is what --help says of it
    lines = (CONFIGS.main / "experiment" / f"{name}.yaml").read_text().splitlines()
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


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Shared: densities are trained once."""
    return tmp_path_factory.mktemp("outputs")


@pytest.mark.parametrize("name", MEASUREMENTS)
def test_measures_without_any_data(name: str, tmp_path: Path) -> None:
    for budget in CONFIGS.options("budget"):
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
