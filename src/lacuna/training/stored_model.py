"""The trained model of a finished run. Needs neither its data nor its task, so Lightning is not imported."""

from __future__ import annotations

from torch import nn

from lacuna import files
from lacuna.errors import LacunaError
from lacuna.runs.folder import RunFolder
from lacuna.runs.recipe import Recipe
from lacuna.tasks.common.models import Sizes, build_model, load_weights


def load(folder: RunFolder) -> nn.Module:
    """The model of a finished run, in evaluation mode: a density, flow, imputer, classifier or auto-encoder.

    Raises:
        LacunaError: the run is not finished, or its files are damaged.
    """
    if not folder.finished:
        raise LacunaError(f"{folder.path} is not finished: run its train command again to finish it.")
    recipe = folder.recipe
    refuse_measurement(recipe)
    sizes = Sizes.of(files.read_json(folder.path / "model.json"))
    runs = folder.path.parent
    parts = {name: load(RunFolder(runs / nested.name)) for name, nested in recipe.prerequisites.items()}
    model = build_model(recipe.config, sizes, parts)
    load_weights(folder.path / "model.safetensors", model, parts, recipe.identity)
    return model.requires_grad_(False).eval()


def refuse_measurement(recipe: Recipe) -> None:
    """Raise a LacunaError if a run measures step times on random data: it has no images and no model."""
    if recipe.measured:
        raise LacunaError(f"run={recipe.name} is a measurement: it has no data and no model; choose another run.")
