"""The verb ``train``: one recipe, and whatever it needs first."""

from __future__ import annotations

from typing import Any

from lacuna.report.table import text_table
from lacuna.runs.recipe import prepare_data, resolve


def main(config: dict[str, Any]) -> int:
    """Train what the composed configuration says, and print its metrics."""
    recipe = resolve(config, prepare_data(config))
    # torch is imported only now: mistakes in the configuration or the data are found at once
    from lacuna.runs.environment import set_up
    from lacuna.runs.run import execute
    from lacuna.runs.settings import Settings

    set_up(config["trainer"]["threads"])
    folder = execute(recipe, Settings.of(config))
    print(text_table([{"metric": name, "value": f"{value:.4f}"} for name, value in folder.metrics["metrics"].items()]))
    print(f"everything about this run: {folder.path}")
    return 0
