"""The verb ``train``: one run, and its prerequisites before it."""

from __future__ import annotations

import sys
from typing import Any

from lacuna.drawing.text_table import text_table
from lacuna.runs.archive_record import Archive
from lacuna.runs.folder import RunFolder, outdated_notice
from lacuna.runs.prepare import prepare_data
from lacuna.runs.recipe import Recipe
from lacuna.runs.resolve import resolve


def main(config: dict[str, Any]) -> int:
    """Train what the configuration names, and print its metrics.

    Args:
        config: the composed configuration.

    Raises:
        LacunaError: a mistake the user can mend.
    """
    recipe = resolve(config, prepare_data(config))
    if notice := outdated_notice(config["output"]):
        print(notice, file=sys.stderr, flush=True)
    _print_archived(recipe, config)
    # torch is imported only now, so that mistakes in the configuration or the data are found at once
    from lacuna.runs.environment import set_up
    from lacuna.runs.settings import Settings
    from lacuna.training.run import execute

    set_up(config["trainer"]["threads"])
    folder = execute(recipe, Settings.of(config))
    print(text_table([{"metric": name, "value": f"{value:.4f}"} for name, value in folder.metrics["metrics"].items()]))
    print(f"run folder: {folder.path}")
    return 0


def _print_archived(recipe: Recipe, config: dict[str, Any]) -> None:
    """Print a line where the archive has the metrics: the run is trained all the same, for its model."""
    archived = Archive(config["results"], config["output"]).get(recipe)
    if archived is not None and not RunFolder.of(config["output"], recipe).finished:
        print(f"the metrics of this run are archived in {archived.file}; it is trained for its model", flush=True)
