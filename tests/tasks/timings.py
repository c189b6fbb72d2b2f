"""Small measurements of times."""

from __future__ import annotations

from lacuna.runs.recipe import Recipe
from lacuna.runs.resolve import resolve
from tests.runs.real import config

SMALL = ("experiment=timing", "trainer.accelerator=cpu", "timing.size=12", "timing.missing_square=5", "timing.batch=3")


def made(*words: str) -> Recipe:
    return resolve(config(*SMALL, *words), "0123456789ab")
