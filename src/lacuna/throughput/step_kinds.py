"""Kinds of training steps of a plan: runs whose steps take equally long are one kind. Imports no torch."""

from __future__ import annotations

import functools
import hashlib
import json
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lacuna.runs.budget import source_of
from lacuna.runs.protocol import official_counts
from lacuna.runs.recipe import FEATURES, Recipe
from lacuna.runs.steps import stored_counts, training, training_images

Counts = Callable[[Mapping[str, Any]], Mapping[str, int]]
"""Images per stored split of a recipe's ``data``; empty where not known."""

NOT_OF_A_STEP = ("epochs", "mse_epochs", "lr", "lr_milestones", "schedule", "warmup", "weight_decay", "limit_batches")
"""Settings of a training that do not change the time of a step."""


@dataclass
class Kind:
    """Runs whose steps take equally long.

    Args:
        key: equal for recipes of one kind.
        name: for people.
        recipe: of one of the runs.
        steps: number of steps of every run.
        images: largest number of training images of a run.
    """

    key: str
    name: str
    recipe: Recipe
    steps: list[int] = field(default_factory=list)
    images: int = 0

    @property
    def runs(self) -> int:
        """Number of runs of this kind."""
        return len(self.steps)

    @property
    def weight(self) -> float:
        """Pixel values in all its steps: an estimate of the cost before anything is measured."""
        return sum(self.steps) * values_of_a_step(self.recipe)


def kinds_of(recipes: Iterable[Recipe], counts: Counts = official_counts) -> tuple[list[Kind], int]:
    """The kinds of some runs, those of the largest weight first, and the number of runs without steps."""
    found: dict[str, Kind] = {}
    others = 0
    for recipe in recipes:
        steps = steps_of(recipe, counts)
        if not steps:
            others += 1
            continue
        key = kind_key(recipe)
        if key not in found:
            found[key] = Kind(key, _name(recipe, key, found), recipe)
        found[key].images = max(found[key].images, train_images(recipe, counts))
        found[key].steps.append(steps)
    return sorted(found.values(), key=lambda kind: -kind.weight), others


def steps_of(recipe: Recipe, counts: Counts = official_counts) -> int:
    """Optimiser steps (of EM: batches) of a run, by default on the published set; 0 if it has none."""
    if recipe.measured or not recipe.training:
        return 0
    found = training(recipe, counts(recipe.config["data"]))
    return found.epochs * (found.batches or 1)


def stored_in(root: Path | str) -> Counts:
    """Images per split of data as prepared in a folder, or else as published; looked up once for each set."""

    @functools.cache
    def stored(text: str) -> Mapping[str, int]:
        return stored_counts(json.loads(text), root)

    return lambda data: stored(json.dumps(data, sort_keys=True))


def batch_size(recipe: Recipe) -> int:
    """Images per step."""
    return int(recipe.training.get("batch_size", 1))


def values_of_a_step(recipe: Recipe) -> int:
    """Pixel values of a batch."""
    return batch_size(recipe) * math.prod(_source(recipe).shape or (1, 1, 1))


def train_images(recipe: Recipe, counts: Counts = official_counts) -> int:
    """Number of training images of a recipe, by default on the published set, without validation images."""
    data = recipe.config["data"]
    return max(1, training_images(data, counts(data)) or 1)


def _source(recipe: Recipe) -> Any:
    return source_of({key: value for key, value in recipe.config["data"].items() if key != "fingerprint"})


def kind_key(recipe: Recipe) -> str:
    """12 hexadecimal digits, equal for recipes whose steps take equally long."""
    text = json.dumps(_step_settings(recipe), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _step_settings(recipe: Recipe) -> dict[str, Any]:
    config = recipe.config
    component = dict(config[recipe.component])
    training = {key: value for key, value in recipe.training.items() if key not in NOT_OF_A_STEP}
    needs = {part: _step_settings(needed) for part, needed in recipe.prerequisites.items() if part != FEATURES}
    return {
        "task": config["task"],
        "data": _data(config["data"]),
        "made": {**component, "training": training},
        "stem": config.get("stem"),
        "precision": config["precision"],
        "prerequisites": needs,
        **{key: config[key] for key in ("plugins",) if key in config},
    }


def _data(data: Mapping[str, Any]) -> str:
    """The name of a published set; a user's images are known by their fingerprint: their sizes differ."""
    return str(data["name"] if official_counts(data) else data.get("fingerprint"))


def _name(recipe: Recipe, key: str, known: Mapping[str, Kind]) -> str:
    config = recipe.config
    method = config["stem"]["name"] if "stem" in config else config[recipe.component]["name"]
    net = config["net"]["name"] if "stem" in config else ""
    name = " ".join(word for word in (config["data"]["name"], recipe.task, method, net) if word)
    taken = any(kind.name == name for kind in known.values())
    return f"{name} {key[:4]}" if taken else name
