"""A run that measures times, say: it has no data and trains nothing."""

from __future__ import annotations

import torch

from lacuna.errors import LacunaError
from lacuna.registry import build
from lacuna.runs.environment import hardware
from lacuna.runs.folder import RunFolder
from lacuna.runs.recipe import Recipe
from lacuna.runs.settings import Settings
from lacuna.tasks.measurement import Measurement
from lacuna.training.mirrors.run_mirrors import RunMirrors


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


def measure(recipe: Recipe, settings: Settings, folder: RunFolder, mirrors: RunMirrors) -> None:
    """Measure, draw, and store the metrics that mark the run as finished; then tell the mirrors."""
    measurement = open_measurement(recipe, settings)
    results = measurement.measure(folder.path)
    measurement.draw(folder.pictures)
    data = {**recipe.config["data"], "note": f"measured on {recipe.config['hardware']}"}
    folder.finish({"metrics": results, "data": data, "budget": recipe.config["budget"]})
    mirrors.conclude()
