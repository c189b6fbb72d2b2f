"""A run that measures times, say: it has no data and trains nothing."""

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
from lacuna.training.loggers import WandbRunLogger


def open_measurement(recipe: Recipe, settings: Settings) -> Measurement:
    """The measurement of a recipe.

    Raises:
        LacunaError: the recipe names other hardware, or torch cannot use it.
    """
    accelerator = settings.option("accelerator", "auto")
    here, required = hardware(accelerator), recipe.config["hardware"]
    if here != required:
        raise LacunaError(f"{recipe.name} is to be measured on {required}, and this is {here}: start it there.")
    on_gpu = here != hardware("cpu")
    if on_gpu and not torch.cuda.is_available():
        raise LacunaError(f"torch cannot use the {here} of this machine: set trainer.accelerator=cpu.")
    device = torch.device("cuda" if on_gpu else "cpu")
    measurement: Measurement = build("task", recipe.config["task"], config=recipe.config, device=device)
    return measurement


def measure(recipe: Recipe, settings: Settings, folder: RunFolder, wandb_loggers: Sequence[WandbRunLogger]) -> None:
    """Measure, draw, and store the metrics that mark the run as finished; then log them to W&B and close it."""
    exit_code = 1
    try:
        measurement = open_measurement(recipe, settings)
        results = measurement.measure(folder.path)
        pictures = measurement.draw(folder.pictures)
        data = {**recipe.config["data"], "note": f"measured on {recipe.config['hardware']}"}
        folder.finish({"metrics": results, "data": data, "budget": recipe.config["budget"]})
        for logger in wandb_loggers:
            for name, picture in pictures.items():
                logger.log_images(name, picture)
            logger.log_summary(results)
        exit_code = 0
    finally:
        for logger in wandb_loggers:
            logger.close(exit_code)
