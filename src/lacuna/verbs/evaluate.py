"""The verb ``evaluate``: a finished run on another mask or split."""

from __future__ import annotations

from typing import Any

from lacuna.drawing.text_table import text_table
from lacuna.errors import LacunaError
from lacuna.runs import environment
from lacuna.runs.folder import RunFolder
from lacuna.runs.outside import reading
from lacuna.runs.settings import Settings

SPLITS = ("test", "validation")


def main(config: dict[str, Any]) -> int:
    """Evaluate a run, print the metrics and store them in the run's ``evaluations/``.

    Args:
        config: the composed configuration.

    Raises:
        LacunaError: a mistake the user can mend.
    """
    if not config["run"]:
        raise LacunaError("run is empty: say which run to evaluate, for instance run=digits-square-misconv-s0.")
    if config["split"] not in SPLITS:
        raise LacunaError(f"split={config['split']} is none of {', '.join(SPLITS)}.")
    folder = RunFolder.find(config["output"], str(config["run"]))
    if not folder.finished:
        raise LacunaError(f"{folder.path} is not finished: run its train command again to finish it.")
    environment.check_threads(config["trainer"]["threads"])
    settings = Settings.of(config)
    # torch is imported only now, so that mistakes in the configuration are found at once
    with environment.quick_imports():
        from lacuna.inference.evaluation import evaluate_run

    environment.set_up(config["trainer"]["threads"])
    with reading(folder, settings.plugins, "plugins=[{}]"):
        mask, path = config.get("mask"), config["data"].get("path")
        file, metrics = evaluate_run(folder, settings, config["split"], mask, path)
    print(text_table([{"metric": metric, "value": f"{value:.4f}"} for metric, value in metrics.items()]))
    print(f"stored in {file}")
    return 0
