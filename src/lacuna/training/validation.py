"""Mistakes in a run and its prerequisites, found before anything is trained or written.

One pass looks at every recipe and its data; one builds every model, on no memory.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn

from lacuna.data.module import IncompleteData
from lacuna.errors import LacunaError
from lacuna.registry import find
from lacuna.runs.precision import HALF_SCALED
from lacuna.runs.recipe import Recipe
from lacuna.runs.settings import Settings
from lacuna.tasks.base import Task
from lacuna.tasks.common.held_out import hold_out_scheme
from lacuna.tasks.common.models import Sizes, build_model
from lacuna.tasks.common.sample_fid import check_labels
from lacuna.training.loading import devices_of, on_cuda, open_data
from lacuna.training.measure import open_measurement
from lacuna.training.profiling import check_profiler
from lacuna.training.speed import check_speed

MOST_PARAMETERS = 1_000_000_000
IMAGES = 64
"""How many images must show that a mask scheme hides something."""


def validate(recipe: Recipe, settings: Settings) -> None:
    """Check a recipe and all its prerequisites, with their data at hand.

    Raises:
        LacunaError: a mistake that would have stopped the run later.
    """
    check_speed(settings)
    check_profiler(settings)
    if recipe.measured:
        open_measurement(recipe, settings)
        return
    recipes = list(recipe.graph())
    data = {each.identity: _validated_data(each, settings) for each in recipes}
    with torch.device("meta"):
        _build(recipe, data, {})
    for each in recipes:
        task: type[Task] = find("task", each.config["task"]["type"])
        task.check(each, data[each.identity])


def _validated_data(recipe: Recipe, settings: Settings) -> IncompleteData:
    """The data of one recipe, checked: its splits, batches, masks and labels."""
    _check_devices(recipe, settings)
    if recipe.config["precision"] == HALF_SCALED and not on_cuda(settings):
        raise LacunaError(f"precision={HALF_SCALED} needs a GPU, and this run is on the CPU: use bf16-mixed.")
    data = open_data(recipe, settings)
    for split in ("train", "test", *(["validation"] if data.has_validation else [])):
        data.positions(split)
    _check_masks(recipe, data)
    check_labels(recipe, data)
    return data


def _build(recipe: Recipe, data: Mapping[str, IncompleteData], built: dict[str, nn.Module]) -> nn.Module:
    """The model of a recipe after those of its prerequisites; ``built`` has each by its identity."""
    if recipe.identity in built:
        return built[recipe.identity]
    parts = {name: _build(prerequisite, data, built) for name, prerequisite in recipe.prerequisites.items()}
    images = data[recipe.identity]
    model = build_model(recipe.config, Sizes(images.shape, images.classes, attributes=images.attributes), parts)
    parameters = sum(weight.numel() for weight in model.parameters())
    if parameters > MOST_PARAMETERS:
        shape = "x".join(map(str, images.shape))
        raise LacunaError(
            f"A {type(model).__name__} for images of {shape} would have {parameters:,} parameters: "
            "choose a network made for such images, for instance density=dmfa_conv or an experiment."
        )
    built[recipe.identity] = model
    return model


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


def _check_masks(recipe: Recipe, data: IncompleteData) -> None:
    """Whether the mask scheme, and what is held out, hide anything of images of this size."""
    index = torch.arange(IMAGES)
    if recipe.config["mask"]["type"] != "masks.NoMask" and data.scheme(index, data.shape, seed=0, split="try").all():
        raise LacunaError(f"The mask {recipe.config['mask']} hides nothing of images {data.shape}: use mask=none.")
    component = recipe.config[recipe.component]
    if "hold_out" in component:
        scheme = hold_out_scheme(component["hold_out"])
        if scheme(index, data.shape, seed=0, split="try").all():
            raise LacunaError(
                f"{recipe.component}.hold_out hides nothing of images {data.shape}: there is nothing to learn from."
            )
