"""The training steps that a plan of runs is made of: runs whose steps cost the same are one kind. Imports no torch."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from lacuna.runs.budget import source_of
from lacuna.runs.protocol import official_counts
from lacuna.runs.recipe import FEATURES, Recipe
from lacuna.runs.steps import training, training_images

NOT_OF_A_STEP = ("epochs", "mse_epochs", "lr", "lr_milestones")
"""Settings of a training that change how many steps there are or where they lead, but not what one costs."""


@dataclass
class Kind:
    """Runs whose steps cost the same.

    Args:
        key: equal for recipes of one kind.
        name: for people.
        recipe: of one of the runs.
        steps: of every run, at the published numbers of images.
        images: training images of a run.
    """

    key: str
    name: str
    recipe: Recipe
    steps: list[int] = field(default_factory=list)
    images: int = 0

    @property
    def runs(self) -> int:
        """How many runs are of this kind."""
        return len(self.steps)

    @property
    def weight(self) -> float:
        """Values that all its steps see: says which kinds may cost most before anything is measured."""
        return sum(self.steps) * values_of_a_step(self.recipe)


def kinds_of(recipes: Iterable[Recipe]) -> tuple[list[Kind], int]:
    """The kinds of some runs, what may cost most first, and how many of the runs take no steps."""
    found: dict[str, Kind] = {}
    others = 0
    for recipe in recipes:
        steps = steps_of(recipe)
        if not steps:
            others += 1
            continue
        key = kind_key(recipe)
        if key not in found:
            found[key] = Kind(key, _name(recipe, key, found), recipe, images=train_images(recipe))
        found[key].steps.append(steps)
    return sorted(found.values(), key=lambda kind: -kind.weight), others


def steps_of(recipe: Recipe) -> int:
    """Optimiser steps (of EM: batches) of a run on the published set; 0 where nothing is trained in steps."""
    if recipe.measured or not recipe.training:
        return 0
    found = training(recipe, official_counts(recipe.config["data"]))
    return found.epochs * (found.batches or 1)


def batch_size(recipe: Recipe) -> int:
    """Images a step."""
    return int(recipe.training.get("batch_size", 1))


def values_of_a_step(recipe: Recipe) -> int:
    """Pixel values of its images."""
    return batch_size(recipe) * math.prod(_source(recipe).shape or (1, 1, 1))


def train_images(recipe: Recipe) -> int:
    """Training images of the published set, without those set aside, and no more than the recipe takes."""
    data = recipe.config["data"]
    return max(1, training_images(data, official_counts(data)) or 1)


def _source(recipe: Recipe) -> Any:
    return source_of({key: value for key, value in recipe.config["data"].items() if key != "fingerprint"})


def kind_key(recipe: Recipe) -> str:
    """12 hexadecimal digits, equal for recipes whose steps cost the same."""
    text = json.dumps(_of_a_step(recipe), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _of_a_step(recipe: Recipe) -> dict[str, Any]:
    config = recipe.config
    made = dict(config[recipe.component])
    training = {key: value for key, value in recipe.training.items() if key not in NOT_OF_A_STEP}
    needs = {part: _of_a_step(needed) for part, needed in recipe.prerequisites.items() if part != FEATURES}
    return {
        "task": config["task"],
        "data": config["data"]["name"],
        "made": {**made, "training": training},
        "stem": config.get("stem"),
        "precision": config["precision"],
        "prerequisites": needs,
    }


def _name(recipe: Recipe, key: str, known: Mapping[str, Kind]) -> str:
    config = recipe.config
    method = config["stem"]["name"] if "stem" in config else config[recipe.component]["name"]
    net = config["net"]["name"] if "stem" in config else ""
    name = " ".join(word for word in (config["data"]["name"], recipe.task, method, net) if word)
    taken = any(kind.name == name for kind in known.values())
    return f"{name} {key[:4]}" if taken else name
