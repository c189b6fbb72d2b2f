"""Random images under the names of the real data sets. The time of a step does not depend on their content."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from lacuna.config.paths import CONFIGS
from lacuna.data.prepared import Arrays, Description, PreparedData, write
from lacuna.runs.budget import source_of
from lacuna.runs.recipe import Recipe

WITHOUT_NAME = ("arrays", "folder")
VALUES = 50_000_000
"""Largest number of pixel values of a training set; there are at most ``IMAGES`` images."""
IMAGES = 8192
STEPS = 4
"""Least number of steps per epoch: the first of each epoch is not timed."""
COSTLY = {"flow": 128, "density": 2048}
"""Largest number of images if a prerequisite imputes all of them before the first step."""


def write_random_images(root: Path) -> None:
    """Prepare every published data set from random images, unless it is prepared."""
    for path in sorted((CONFIGS / "data").glob("*.yaml")):
        if path.stem in WITHOUT_NAME:
            continue
        source = source_of(yaml.safe_load(path.read_text(encoding="utf-8")))
        folder = source.folder(root)
        if source.shape is None or PreparedData.exists(folder):
            continue
        rng = np.random.default_rng(0)
        train = min(IMAGES, VALUES // math.prod(source.shape))
        splits = {}
        for split, count in (("train", train), ("validation", 16), ("test", 16)):
            images = rng.integers(0, 256, (count, *source.shape), dtype=np.uint8)
            splits[split] = Arrays(images, _labels(source, count, rng))
        attributes = source.attributes if source.classes is None else None
        write(
            folder,
            Description(source.set_name, source.classes, "random numbers", complete=False, attributes=attributes),
            splits,
        )


def _labels(source: Any, count: int, rng: np.random.Generator) -> np.ndarray | None:
    if source.classes is not None:
        return np.arange(count) % int(source.classes)
    if source.attributes is not None:
        return rng.integers(0, 2, (count, source.attributes), dtype=np.uint8)
    return None


def shortened(recipe: Recipe, batch_size: int) -> dict[str, Any]:
    """The recipe's config with as few training images as the timing of steps needs: whole batches, at least four."""
    imputer = recipe.config.get("stem", {}).get("imputer", {})
    own = ["density"] if recipe.config.get("stem", {}).get("prerequisites") else []
    costly = [COSTLY[part] for part in (*imputer.get("prerequisites", ()), *own) if part in COSTLY]
    images = recipe.config["data"].get("train_images") or IMAGES
    steps = max(STEPS, min([images, IMAGES, *costly]) // batch_size)
    return {**recipe.config, "data": {**recipe.config["data"], "train_images": steps * batch_size}}
