"""Made-up measurements, and the recipes that they belong to."""

from __future__ import annotations

from typing import Any

from lacuna.runs.recipe import Recipe
from lacuna.runs.resolve import resolve
from tests.runs.real import config

GIB = 2**30


def made(*words: str) -> Recipe:
    """The recipe of ``train.py words``, whose data need not be here."""
    return resolve(config(*words), "none")


def row(ms: float, memory: float = 1.0, **times: float) -> dict[str, Any]:
    """A measurement: ms per step alone, GiB of a run, and ms with so many runs at a time (``n2=...``)."""
    found = {"name": "made up", "batch_size": 24, "ms": ms, "begin_seconds": 2.0, "images": 6000, "bytes": 1}
    together = {int(name.removeprefix("n")): value for name, value in times.items()}
    return {**found, "process": int(memory * GIB), "memory": int(memory * GIB), "side_by_side": together}
