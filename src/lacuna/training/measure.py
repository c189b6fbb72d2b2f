"""A run that measures: from its recipe to its metrics, without data, training or anything to resume."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from lacuna.errors import LacunaError
from lacuna.registry import build
from lacuna.runs.environment import hardware
from lacuna.runs.folder import RunFolder
from lacuna.runs.recipe import Recipe
from lacuna.runs.settings import Settings
from lacuna.tasks.measurement import Measurement
from lacuna.training.loggers import WandbMirror


def open_measurement(recipe: Recipe, settings: Settings) -> Measurement:
    """What a recipe measures, ready to begin.

    Raises:
        LacunaError: it is to be measured on another machine, or cannot be measured at all.
    """
    accelerator = settings.option("accelerator", "auto")
    here, wanted = hardware(accelerator), recipe.config["hardware"]
    if here != wanted:
        raise LacunaError(f"{recipe.name} is to be measured on {wanted}, and this is {here}: start it there.")
    on_gpu = here != hardware("cpu")
    if on_gpu and not torch.cuda.is_available():
        raise LacunaError(f"torch cannot use the {here} of this machine: set trainer.accelerator=cpu.")
    device = torch.device("cuda" if on_gpu else "cpu")
    measurement: Measurement = build("task", recipe.config["task"], config=recipe.config, device=device)
    return measurement


def measure(recipe: Recipe, settings: Settings, folder: RunFolder, mirrors: Sequence[WandbMirror]) -> None:
    """Measure, draw, and store the metrics that mark the run as done; then tell the mirrors and close them."""
    exit_code = 1
    try:
        measurement = open_measurement(recipe, settings)
        results = measurement.measure(folder.path)
        pictures = measurement.draw(folder.pictures)
        data = {**recipe.config["data"], "note": f"measured on {recipe.config['hardware']}"}
        folder.finish({"metrics": results, "data": data, "budget": recipe.config["budget"]})
        for mirror in mirrors:
            for name, picture in pictures.items():
                mirror.log_images(name, picture)
            mirror.log_summary(results)
        exit_code = 0
    finally:
        for mirror in mirrors:
            mirror.close(exit_code)
