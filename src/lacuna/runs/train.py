"""The verb ``train``: one recipe, and whatever it needs first."""

from __future__ import annotations

from typing import Any

from lacuna.errors import LacunaError
from lacuna.report.table import text_table
from lacuna.runs.recipe import prepare_data, resolve


def main(config: dict[str, Any]) -> int:
    """Train what the composed configuration says, and print its metrics."""
    recipe = resolve(config, prepare_data(config))
    # torch is imported only now: mistakes in the configuration or the data are found at once
    import torch

    from lacuna.runs.environment import tune_malloc
    from lacuna.runs.run import Settings, execute

    tune_malloc()
    threads = config["trainer"]["threads"]
    if threads is not None:
        if not isinstance(threads, int) or threads < 1:
            raise LacunaError(f"trainer.threads={threads} must be null or a whole number of at least 1.")
        torch.set_num_threads(threads)
    folder = execute(recipe, Settings.of(config))
    print(text_table([{"metric": name, "value": f"{value:.4f}"} for name, value in folder.metrics["metrics"].items()]))
    print(f"everything about this run: {folder.path}")
    return 0
