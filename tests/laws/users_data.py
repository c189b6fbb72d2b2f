"""A user's own images, and the sources that configs name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from lacuna import registry
from lacuna.data.sources.base import Source
from lacuna.runs.budget import LIMITS, VALIDATION


def source_of(data: dict[str, Any]) -> Source:
    not_arguments = (*LIMITS, *VALIDATION, "root", "download")
    source: Source = registry.build("data", {k: v for k, v in data.items() if k not in not_arguments})
    return source


def write_own(place: Path) -> dict[str, str]:
    """What a user has: a file of arrays and a folder of pictures, 12x12 in colour, three classes."""
    rng = np.random.default_rng(1)
    images = rng.random((60, 12, 12, 3), np.float32)
    images[:, :4, 2:5] = np.nan
    np.savez(place / "arrays.npz", images=images, labels=np.arange(60) % 3)
    for i in range(60):
        picture = rng.integers(0, 256, (12, 12, 4), dtype=np.uint8)
        picture[..., 3] = 255
        picture[:4, 2:5, 3] = 0  # transparent: missing
        path = place / "folder" / f"class {i % 3}" / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture).save(path)
    return {"arrays": f"data.path={place / 'arrays.npz'}", "folder": f"data.path={place / 'folder'}"}


def own_words(name: str, own: dict[str, str]) -> list[str]:
    word = own.get(name.split("_")[0])
    return [word] if word else []
