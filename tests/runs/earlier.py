"""Runs of version 2, made from recipes of today: what :mod:`lacuna.runs.migration` must turn back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lacuna.runs.migration import EARLIER, KEYS, TYPES, identity
from lacuna.runs.recipe import Recipe

OLD_KEYS = {new: old for old, new in KEYS.items()}
OLD_TYPES = {new: old for old, new in TYPES.items()}


def recipe(today: Any) -> Any:
    """A recipe of today, or a part of one, in the words of version 2."""
    if isinstance(today, Mapping):
        found = {OLD_KEYS.get(key, key): recipe(value) for key, value in today.items()}
        if isinstance(found.get("type"), str):
            found["type"] = OLD_TYPES.get(found["type"], found["type"])
        return found | ({"version": EARLIER} if "version" in found else {})
    return [recipe(value) for value in today] if isinstance(today, list) else today


def name(today: Recipe) -> str:
    """The name that version 2 gave to a run."""
    return f"{today.group}-s{today.config['seed']}-{identity(recipe(today.config))}"


def record(today: Mapping[str, Any]) -> dict[str, Any]:
    """A file of the archive of version 2."""
    evaluation = {"mask": {"name": "noise", "rate": 0.9}, "split": "test", "metrics": {"accuracy": 0.5}, "images": 40}
    return {
        "format": 1,
        "name": name(Recipe(today)),
        "recipe": recipe(today),
        "metrics": {"test/accuracy": 0.125},
        "protocols": {},
        "data": {"name": "digits", "complete": True, "images": {"test": 500}},
        "attempts": [{"commit": "abc", "cpu": "A CPU", "threads": 1, "gpus": []}],
        "seconds": 5.0,
        "ended": None,
        "evaluations": {"noise-test-1a2b3c4d": evaluation},
    }
