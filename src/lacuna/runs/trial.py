"""``trainer.fast_dev_run=N``: the same run with N steps of every training, on few images. Imports no torch."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from lacuna.config.training_options import LIMIT
from lacuna.errors import LacunaError
from lacuna.runs.budget import MEASURED
from lacuna.runs.resolve import resolve

KEY = "fast_dev_run"
EVALUATED = 24
"""Images of each split that are evaluated."""
FEWEST = 64
"""Training images, at least."""


def trial_steps(config: Mapping[str, Any]) -> int:
    """Steps of a trial; 0: it is none.

    Raises:
        LacunaError: the value is neither true, false, null nor a whole number.
    """
    value = config["trainer"].get(KEY)
    if value is None or value is False:
        return 0
    if not isinstance(value, int) or value < 1:
        raise LacunaError(f"trainer.{KEY}={value} must be true, false or a number of steps of at least 1.")
    return int(value)


def trial_config(config: Mapping[str, Any], fingerprint: str, output: Path | str) -> dict[str, Any]:
    """The config of a trial: its limits are part of its recipes, so that it is never taken for the run it tries.

    Args:
        config: the resolved config.
        fingerprint: of the prepared data.
        output: folder of the trial's runs.

    Raises:
        LacunaError: the task has no phases to try, or as for :func:`lacuna.runs.resolve.resolve`.
    """
    if config["task"]["name"] in MEASURED:
        raise LacunaError(f"trainer.{KEY} tries a training, and task={config['task']['name']} measures: leave it out.")
    steps = trial_steps(config)
    recipes = resolve(dict(config), fingerprint).graph()
    largest = max(int(recipe.training.get("batch_size", 1)) for recipe in recipes)
    found = copy.deepcopy(dict(config))
    for training in _trainings(found):
        if "epochs" in training:
            training["epochs"] = 1
        if LIMIT in training:
            training[LIMIT] = min(steps, training[LIMIT] or steps)
            training["warmup"] = min(training["warmup"], 0.5)
    data = found["data"]
    for name, most in (
        ("train_images", max(FEWEST, steps * largest)),
        ("validation_images", EVALUATED),
        ("test_images", EVALUATED),
    ):
        data[name] = most if data.get(name) is None else min(most, data[name])
    trainer = {key: value for key, value in found["trainer"].items() if key != KEY}
    return {**found, "output": str(output), "trainer": trainer, "logger": {"name": "disk"}}


def _trainings(config: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Every ``training`` of a config, also of a feature net and of light variants."""
    for key, value in config.items():
        if isinstance(value, dict):
            if key == "training":
                yield value
            else:
                yield from _trainings(value)
