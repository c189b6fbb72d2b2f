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
from lacuna.throughput.shortened import IMAGES

WITHOUT_NAME = ("arrays", "folder")
VALUES = 50_000_000
"""Largest number of pixel values of a training set; there are at most ``IMAGES`` images."""


def write_random_images(root: Path) -> None:
    """Prepare every published data set from random images, unless it is prepared."""
    for path in sorted((CONFIGS.main / "data").glob("*.yaml")):
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
