"""From a recipe to what it names: its data, its task, and the trained model of a finished run."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from lacuna import files
from lacuna.data.module import IncompleteData
from lacuna.errors import LacunaError
from lacuna.registry import build, find
from lacuna.runs.folder import RunFolder
from lacuna.runs.recipe import Recipe
from lacuna.runs.settings import Settings
from lacuna.tasks.base import Task
from lacuna.tasks.common import distributed
from lacuna.tasks.common.held_out import hold_out_scheme
from lacuna.tasks.common.models import Sizes, build_model, load_weights
from lacuna.tasks.common.sample_fid import check_labels
from lacuna.training.measure import open_measurement

MOST_PARAMETERS = 1_000_000_000
LOOKED_AT = 64
"""Images whose masks are looked at before anything is trained."""


def open_data(recipe: Recipe, settings: Settings, mask: Mapping[str, Any] | None = None) -> IncompleteData:
    """The incomplete images of a recipe (or behind another mask), on this rank's device.

    Raises:
        LacunaError: the data at hand are not those the recipe was made with.
    """
    _refuse_measurement(recipe)
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
        device=device,
        resident_bytes=int(_bytes(settings, "resident_gb", 8)),
    )
    if data.provenance.fingerprint != config["data"]["fingerprint"]:
        raise LacunaError(
            f"The data in {settings.data_root} (fingerprint {data.provenance.fingerprint}) are not those of this run "
            f"({config['data']['fingerprint']}): set data.root to where those are, or start a new run."
        )
    return data


def on_cuda(settings: Settings) -> bool:
    """Whether runs are trained on GPUs here."""
    return torch.cuda.is_available() and settings.option("accelerator", "auto") in ("auto", "cuda", "gpu")


def devices_of(recipe: Recipe, settings: Settings) -> int:
    """On how many devices a recipe is trained: ``trainer.devices``, or one where its task cannot share its batches."""
    task = find("task", recipe.config["task"]["type"])
    return settings.devices if getattr(task, "several_devices", False) else 1


def _bytes(settings: Settings, key: str, default: float) -> float:
    """A limit of ``trainer`` for this process: the ranks of a run share the memory of a CPU."""
    sharing_it = 1 if on_cuda(settings) else distributed.ranks()
    return float(settings.option(key, default)) * 1e9 / sharing_it


def make_task(
    recipe: Recipe,
    settings: Settings,
    data: IncompleteData,
    runs: Path | None = None,
    sizes: Sizes | None = None,
    *,
    untrained: bool = False,
) -> Task:
    """The LightningModule of a recipe, on top of the finished runs it needs.

    Args:
        runs: where those are; by default the output's.
        sizes: of a model that exists; by default the data's.
        untrained: take what it needs as it is before any training, for measurements that ask what a step costs.
    """
    runs = runs or settings.output / "runs"
    if sizes is None:
        # a user's splits may differ: masks per channel in one, shared masks in another
        splits = [data.train, data.test, *([data.validation] if data.has_validation else [])]
        channels = max(images.batch([0]).mask.shape[1] for images in splits)
        sizes = Sizes(data.shape, data.classes, channels, data.attributes)
    if untrained:
        made = {name: _built(needed, sizes)[-1] for name, needed in recipe.prerequisites.items()}
        parts = {name: model.requires_grad_(False).eval() for name, model in made.items()}
    else:
        parts = {name: load(RunFolder(runs / needed.name)) for name, needed in recipe.prerequisites.items()}
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


def _cache_folder(recipe: Recipe, settings: Settings) -> Path | None:
    """Where runs keep the images that the same trained part has imputed behind the same holes; None for other stems.

    Runs that share it differ in their nets, tasks or first layers only.
    """
    config = recipe.config
    imputer = config.get("stem", {}).get("imputer", {})
    if not imputer.get("prerequisites"):
        return None
    decides = {
        "imputer": imputer,
        "prerequisites": {part: recipe.prerequisites[part].identity for part in imputer["prerequisites"]},
        **{key: config[key] for key in ("version", "mask", "seed")},
        "data": config["data"]["fingerprint"],
        "cuda": on_cuda(settings),
    }
    digest = hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()[:12]
    return settings.output / "cache" / digest


def load(folder: RunFolder) -> nn.Module:
    """The model of a finished run, in evaluation mode: a density, flow, imputer, classifier or auto-encoder.

    Raises:
        LacunaError: the run is not finished, or its files are damaged.
    """
    if not folder.finished:
        raise LacunaError(f"{folder.path} is not finished: run its train command again to finish it.")
    recipe = folder.recipe
    _refuse_measurement(recipe)
    sizes = Sizes.of(files.read_json(folder.path / "model.json"))
    runs = folder.path.parent
    parts = {name: load(RunFolder(runs / needed.name)) for name, needed in recipe.prerequisites.items()}
    model = build_model(recipe.config, sizes, parts)
    load_weights(folder.path / "model.safetensors", model, parts, recipe.identity)
    return model.requires_grad_(False).eval()


def rehearse(recipe: Recipe, settings: Settings) -> None:
    """Find mistakes before anything is trained or written: build everything, on no memory, with its data at hand.

    Raises:
        LacunaError: what would have failed later, maybe after hours.
    """
    if recipe.measured:
        open_measurement(recipe, settings)
        return
    _check_devices(recipe, settings)
    data = open_data(recipe, settings)
    for split in ("train", "test", *(["validation"] if data.has_validation else [])):
        data.positions(split)
    sizes = Sizes(data.shape, data.classes, attributes=data.attributes)
    _check_hiding(recipe, data)
    check_labels(recipe, data)
    with torch.device("meta"):
        models = _built(recipe, sizes)
    for what in models:
        count = sum(weight.numel() for weight in what.parameters())
        if count > MOST_PARAMETERS:
            shape = "x".join(map(str, data.shape))
            raise LacunaError(
                f"A {type(what).__name__} for images of {shape} would have {count:,} parameters: "
                "choose a network made for such images, for instance density=dmfa_conv or an experiment."
            )
    task: type[Task] = find("task", recipe.config["task"]["type"])
    task.check(recipe, data)
    for needed in recipe.prerequisites.values():
        rehearse(needed, settings)


def _built(recipe: Recipe, sizes: Sizes) -> list[nn.Module]:
    """The model of a recipe, and before it those of the recipes it needs."""
    parts = {name: _built(needed, sizes) for name, needed in recipe.prerequisites.items()}
    model = build_model(recipe.config, sizes, {name: built[-1] for name, built in parts.items()})
    return [*itertools.chain.from_iterable(parts.values()), model]


def _refuse_measurement(recipe: Recipe) -> None:
    if recipe.measured:
        raise LacunaError(f"run={recipe.name} is a measurement: it has no data and no model; choose another run.")


def _check_devices(recipe: Recipe, settings: Settings) -> None:
    devices, batch = devices_of(recipe, settings), recipe.training.get("batch_size", 0)
    if devices == 1:
        return
    accelerator, gpus = settings.option("accelerator", "auto"), torch.cuda.device_count()
    if accelerator not in ("auto", "cuda", "gpu", "cpu"):
        raise LacunaError(f"trainer.devices={devices}: on trainer.accelerator={accelerator} a run takes 1 device.")
    if accelerator != "cpu" and gpus < devices and (gpus or accelerator != "auto"):
        raise LacunaError(f"trainer.devices={devices}: there are {gpus} GPUs: take fewer, or trainer.accelerator=cpu.")
    if batch % devices:
        raise LacunaError(
            f"trainer.devices={devices} cannot share batches of {batch} images (training.batch_size of the "
            f"{recipe.task} run) evenly: choose a number of devices that divides {batch}."
        )


def _check_hiding(recipe: Recipe, data: IncompleteData) -> None:
    index = torch.arange(LOOKED_AT)
    if recipe.config["mask"]["type"] != "masks.NoMask" and data.scheme(index, data.shape, seed=0, split="try").all():
        raise LacunaError(f"The mask {recipe.config['mask']} hides nothing of images {data.shape}: use mask=none.")
    if "hold_out" in recipe.config[recipe.component]:
        hide = hold_out_scheme(recipe.config[recipe.component]["hold_out"])
        if hide(index, data.shape, seed=0, split="try").all():
            raise LacunaError(
                f"{recipe.component}.hold_out hides nothing of images {data.shape}: there is nothing to learn from."
            )
