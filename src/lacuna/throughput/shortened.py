"""Recipes with few training images: enough to time steps on. Imports no torch."""

from __future__ import annotations

from typing import Any

from lacuna.runs.recipe import Recipe

IMAGES = 8192
"""Largest number of training images."""
STEPS = 4
"""Least number of steps per epoch: the first of each epoch is not timed."""
COSTLY = {"flow": 128, "density": 2048}
"""Largest number of images if a prerequisite imputes all of them before the first step."""


def shortened(recipe: Recipe, batch_size: int) -> dict[str, Any]:
    """The recipe's config with as few training images as the timing of steps needs: whole batches, at least four."""
    imputer = recipe.config.get("stem", {}).get("imputer", {})
    own = ["density"] if recipe.config.get("stem", {}).get("prerequisites") else []
    costly = [COSTLY[part] for part in (*imputer.get("prerequisites", ()), *own) if part in COSTLY]
    images = recipe.config["data"].get("train_images") or IMAGES
    steps = max(STEPS, min([images, IMAGES, *costly]) // batch_size)
    return {**recipe.config, "data": {**recipe.config["data"], "train_images": steps * batch_size}}
