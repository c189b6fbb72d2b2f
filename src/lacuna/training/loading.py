"""From a recipe to its data and its task."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from lacuna.config.training_options import LIMIT
from lacuna.data.module import IncompleteData
from lacuna.errors import LacunaError
from lacuna.registry import build, find
from lacuna.runs.folder import RunFolder
from lacuna.runs.recipe import Recipe
from lacuna.runs.settings import Settings
from lacuna.tasks.base import Task
from lacuna.tasks.common import distributed
from lacuna.tasks.common.models import Sizes, build_model
from lacuna.training.stored_model import load, refuse_measurement


def open_data(recipe: Recipe, settings: Settings, mask: Mapping[str, Any] | None = None) -> IncompleteData:
    """The incomplete images of a recipe, on this rank's device.

    Args:
        recipe: of the run.
        settings: where the data lie and on what device the run is.
        mask: config of another mask scheme than the recipe's.

    Raises:
        LacunaError: the data at hand are not those the recipe was made with.
    """
    refuse_measurement(recipe)
    config = recipe.config
    ranks, eval_batch_size = distributed.ranks(), settings.option("eval_batch_size", 250)
    device = "cpu" if not on_cuda(settings) else "cuda" if ranks == 1 else f"cuda:{distributed.rank()}"
    data = IncompleteData(
        {key: value for key, value in config["data"].items() if key != "fingerprint"},
        mask or config["mask"],
        root=settings.data_root,
        download=settings.download,
        batch_size=recipe.training.get("batch_size", eval_batch_size) // ranks,
        eval_batch_size=eval_batch_size,
        seed=config["seed"],
        most_batches=recipe.training.get(LIMIT),
        device=device,
        resident_bytes=int(_bytes(settings, "resident_gb", 8)),
    )
    if data.provenance.fingerprint != config["data"]["fingerprint"]:
        own = data.source.users_own
        raise LacunaError(
            f"The data in {config['data'].get('path') if own else settings.data_root} (fingerprint "
            f"{data.provenance.fingerprint}) are not those of this run ({config['data']['fingerprint']}): set "
            f"{'data.path' if own else 'data.root'} to where those are, or start a new run."
        )
    return data


def on_cuda(settings: Settings) -> bool:
    """Whether runs are on GPUs here."""
    return torch.cuda.is_available() and settings.option("accelerator", "auto") in ("auto", "cuda", "gpu")


def devices_of(recipe: Recipe, settings: Settings) -> int:
    """Number of devices that train a recipe: ``trainer.devices``, or 1 where its task cannot divide its batches."""
    task = find("task", recipe.config["task"]["type"])
    return settings.devices if getattr(task, "several_devices", False) else 1


def _bytes(settings: Settings, key: str, default: float) -> float:
    """A limit of ``trainer`` in bytes for this process; the ranks of a run on the CPU share one memory."""
    processes = 1 if on_cuda(settings) else distributed.ranks()
    return float(settings.option(key, default)) * 1e9 / processes


def make_task(
    recipe: Recipe,
    settings: Settings,
    data: IncompleteData,
    runs: Path | None = None,
    sizes: Sizes | None = None,
    *,
    untrained: bool = False,
) -> Task:
    """The LightningModule of a recipe, on the models of its prerequisites.

    Args:
        recipe: of the run.
        settings: where and how it runs.
        data: its incomplete images.
        runs: the folder of its prerequisites' finished runs; by default the output's.
        sizes: of a model that exists; by default the data's.
        untrained: use untrained models of the prerequisites, to measure what a step costs.

    Raises:
        LacunaError: a prerequisite is not finished or damaged, or the model does not fit the data.
    """
    runs = runs or settings.output / "runs"
    if sizes is None:
        # a user's splits may differ: masks per channel in one, shared masks in another
        splits = [data.train, data.test, *([data.validation] if data.has_validation else [])]
        channels = max(images.batch([0]).mask.shape[1] for images in splits)
        sizes = Sizes(data.shape, data.classes, channels, data.attributes)
    parts = {
        name: _untrained(prerequisite, sizes) if untrained else load(RunFolder(runs / prerequisite.name))
        for name, prerequisite in recipe.prerequisites.items()
    }
    task: Task = build(
        "task",
        recipe.config["task"],
        config=recipe.config,
        sizes=sizes,
        prerequisites=parts,
        data=data,
        eval_batch_size=settings.option("eval_batch_size", 250),
        cache_bytes=_bytes(settings, "cache_gb", 4),
        cache=settings.output / "cache",
        cache_folder=_cache_folder(recipe, settings),
    )
    return task


def _untrained(recipe: Recipe, sizes: Sizes) -> nn.Module:
    """The frozen model of a recipe before any training, on such models of its prerequisites."""
    parts = {name: _untrained(prerequisite, sizes) for name, prerequisite in recipe.prerequisites.items()}
    return build_model(recipe.config, sizes, parts).requires_grad_(False).eval()


def _cache_folder(recipe: Recipe, settings: Settings) -> Path | None:
    """Folder for images imputed by a trained model in front of the stem; None for other stems.

    Runs with the same imputer, data, mask and seed share it.
    """
    config = recipe.config
    imputer = config.get("stem", {}).get("imputer", {})
    if not imputer.get("prerequisites"):
        return None
    determined_by = {
        "imputer": imputer,
        "prerequisites": {name: recipe.prerequisites[name].identity for name in imputer["prerequisites"]},
        **{key: config[key] for key in ("version", "mask", "seed", "plugins") if key in config},
        "data": config["data"]["fingerprint"],
        "cuda": on_cuda(settings),
    }
    digest = hashlib.sha256(json.dumps(determined_by, sort_keys=True).encode()).hexdigest()[:12]
    return settings.output / "cache" / digest
