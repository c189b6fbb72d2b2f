"""Metrics of a finished run on another mask or split."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lacuna import files
from lacuna.errors import LacunaError
from lacuna.runs.evaluation import evaluation_name
from lacuna.runs.folder import RunFolder
from lacuna.runs.recipe import PLACES, Recipe
from lacuna.runs.settings import Settings
from lacuna.tasks.common.models import Sizes, load_weights
from lacuna.tasks.common.precision import default_type
from lacuna.training.loading import make_task, open_data


def evaluate_run(
    folder: RunFolder, settings: Settings, split: str, mask: Mapping[str, Any] | None = None, path: str | None = None
) -> tuple[Path, dict[str, float]]:
    """Evaluate a finished run and store the metrics in its ``evaluations/``.

    Args:
        folder: of the run.
        settings: where the data lie and on what device to run.
        split: ``test`` or ``validation``.
        mask: config of a mask scheme; None: the run's own.
        path: where a user's own data are now, if they have moved.

    Returns:
        The file and the metrics.

    Raises:
        LacunaError: the run's files are damaged, or its data are not there.
    """
    recipe = _with_path(folder.recipe, path)
    with default_type(recipe.config):
        data = open_data(recipe, settings, mask)
        sizes = Sizes.of(files.read_json(folder.path / "model.json"))
        task = make_task(recipe, settings, data, runs=folder.path.parent, sizes=sizes)
        load_weights(folder.path / "model.safetensors", task.model, task.prerequisites, recipe.identity)
        task.to(data.device)
        images = data.test if split == "test" else data.validation
        metrics = task.evaluate(images)
    mask = mask or recipe.config["mask"]
    provenance = data.provenance
    file = folder.path / "evaluations" / f"{evaluation_name(mask, split)}.json"
    record = {
        "split": split,
        "mask": mask,
        "metrics": metrics,
        "images": len(images),
        "budget": recipe.config["budget"],
        "fingerprint": provenance.fingerprint,
        "complete": provenance.complete,
        "lossless": provenance.lossless,
    }
    files.write_json(file, record)
    return file, metrics


def _with_path(recipe: Recipe, path: str | None) -> Recipe:
    """The recipe with a user's own data at another place; its identity stays."""
    if not path:
        return recipe
    data = recipe.config["data"]
    if not set(PLACES) & set(data):
        raise LacunaError(f"data.path={path}: this run's data are {data['name']}, which data.root leads to.")
    return Recipe({**recipe.config, "data": {**data, "path": str(path)}})
