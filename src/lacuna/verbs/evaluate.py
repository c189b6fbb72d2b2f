"""The verb ``evaluate``: a finished run on another mask or split."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from lacuna import files
from lacuna.drawing.text_table import text_table
from lacuna.errors import LacunaError
from lacuna.runs.folder import RunFolder
from lacuna.runs.recipe import PLACES, Recipe

SPLITS = ("test", "validation")


def main(config: dict[str, Any]) -> int:
    """Evaluate, print the metrics and keep them in the run's ``evaluations/``."""
    if not config["run"]:
        raise LacunaError("run is empty: say which run to evaluate, for instance run=digits-square-misconv-s0.")
    if config["split"] not in SPLITS:
        raise LacunaError(f"split={config['split']} is none of {', '.join(SPLITS)}.")
    folder = RunFolder.find(config["output"], str(config["run"]))
    if not folder.finished:
        raise LacunaError(f"{folder.path} is not finished: run its train command again to finish it.")
    from lacuna.runs.environment import set_up
    from lacuna.runs.settings import Settings
    from lacuna.tasks.common.models import Sizes, load_weights
    from lacuna.training.loading import make_task, open_data

    set_up(config["trainer"]["threads"])
    settings = Settings.of(config)
    recipe = _moved(folder.recipe, config["data"].get("path"))
    data = open_data(recipe, settings, config.get("mask"))
    provenance = data.provenance
    sizes = Sizes.of(files.read_json(folder.path / "model.json"))
    task = make_task(recipe, settings, data, runs=folder.path.parent, sizes=sizes)
    load_weights(folder.path / "model.safetensors", task.model, task.prerequisites, recipe.identity)
    task.to(data.device)
    images = data.test if config["split"] == "test" else data.validation
    metrics = task.evaluate(images)
    mask = config.get("mask") or recipe.config["mask"]
    about = {"split": config["split"], "mask": mask}
    digest = hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()[:8]
    name = f"{mask['name']}-{config['split']}-{digest}"
    record = {
        **about,
        "metrics": metrics,
        "images": len(images),
        "budget": recipe.config["budget"],
        "fingerprint": provenance.fingerprint,
        "complete": provenance.complete,
        "lossless": provenance.lossless,
    }
    files.write_json(folder.path / "evaluations" / f"{name}.json", record)
    print(text_table([{"metric": metric, "value": f"{value:.4f}"} for metric, value in metrics.items()]))
    print(f"kept in {folder.path / 'evaluations' / name}.json")
    return 0


def _moved(recipe: Recipe, path: str | None) -> Recipe:
    """The recipe with a user's own data at another place; its identity, and that of what it needs, stay."""
    if not path:
        return recipe
    data = recipe.config["data"]
    if not set(PLACES) & set(data):
        raise LacunaError(f"data.path={path}: this run's data are {data['name']}, which data.root leads to.")
    return Recipe({**recipe.config, "data": {**data, "path": str(path)}})
