"""What a budget makes of a configuration: fewer images, fewer epochs, lighter networks. Nothing here imports torch."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from lacuna import registry
from lacuna.errors import LacunaError
from lacuna.papers import CUT, PUBLISHED, label

LIMITS = ("train_images", "validation_images", "test_images")
VALIDATION = ("validation", "default_validation")
"""Keys of ``data`` that say how many training images are set aside."""
INFRASTRUCTURE = ("root", "download")
BUDGET_PIXELS = 32 * 32
MEASURED = {"timing": ("size", "missing_square", "batch")}
"""Tasks that measure something instead of training -> the keys of their part that tell runs apart, for people."""
WHOLE = {"max_epochs": None, "lr_factor": 1.0, "max_repeats": None, "compiled": True, "light": False}
"""A budget that leaves a task as it is."""


def budget_label(config: Mapping[str, Any], recipe: Mapping[str, Any]) -> str:
    """What a recipe's numbers may be called: the budget's name, but ``paper`` only where nothing differs from it.

    At ``budget=paper`` a recipe is ``cut`` where it has fewer images or less training than its configuration says,
    ``changed`` where something that the papers state is otherwise, and ``full`` where no paper says how it is done.
    """
    budget, task = config["budget"], recipe["task"]["name"]
    if budget["name"] != PUBLISHED:
        return str(budget["name"])
    limits = [] if task in MEASURED else [*map(config["data"].get, LIMITS), *map(budget.get, LIMITS)]
    as_it_is = all(WHOLE.get(key) == value for key, value in budget[task].items())
    whole = as_it_is and all(limit is None for limit in limits)
    return label(recipe) if whole else CUT


def budget_share(data: Mapping[str, Any]) -> float:
    """A budget counts images of 32x32 pixels; of larger ones there are fewer, by their area."""
    shape = source_of(data).shape
    return 1.0 if shape is None else min(1.0, BUDGET_PIXELS / (shape[1] * shape[2]))


def validation_images(data: Mapping[str, Any], budget: Mapping[str, Any]) -> int:
    """How many training images are set aside: ``data.validation``, or what the budget says where that is null.

    Raises:
        LacunaError: not a whole number of at least 0.
    """
    given = (data.get("validation"), budget.get("validation"), data.get("default_validation"))
    value = next((one for one in given if one is not None), 0)
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise LacunaError(f"data.validation={value} must be null or a whole number of at least 0.")
    return value


def source_of(data: Mapping[str, Any]) -> Any:
    """The source a ``data`` config describes."""
    arguments = {key: value for key, value in data.items() if key not in (*LIMITS, *INFRASTRUCTURE, *VALIDATION)}
    return registry.build("data", arguments)


def within(config: Mapping[str, Any], part: str, budget: Mapping[str, Any]) -> dict[str, Any]:
    """The part with its training (if it has one) cut to the budget; milestones keep their place in the whole.

    A light budget takes a part's lighter values where it has some (``light``).
    """
    spec = {key: value for key, value in config[part].items() if key not in ("light", "task")}
    if budget.get("light"):
        spec = merged(spec, config[part].get("light") or {})
    if "training" not in spec:
        return spec
    training = dict(spec["training"])
    epochs, lr = training["epochs"], training.get("lr", 1.0)
    if not (isinstance(epochs, int) and epochs >= 1 and isinstance(lr, (int, float)) and 0 < lr < math.inf):
        raise LacunaError(
            f"{part}.training.epochs={epochs} must be at least 1, and {part}.training.lr={lr} more than 0."
        )
    factor, most = budget["lr_factor"], budget["max_epochs"]
    share = min(1.0, most / epochs) if most is not None else 1.0
    if "lr" in training:  # EM has none
        training["lr"] = lr * factor
        training["lr_milestones"] = _milestones(part, training["lr_milestones"], share, factor)
    if training.get("mse_epochs"):
        training["mse_epochs"] = max(1, round(training["mse_epochs"] * share))
    training["epochs"] = max(1, round(epochs * share))
    return {**spec, "training": training}


def _milestones(part: str, milestones: Any, share: float, factor: float) -> list[list[float]]:
    try:
        return [[round(epoch * share), rate * factor] for epoch, rate in milestones]
    except (TypeError, ValueError) as error:
        raise LacunaError(f"{part}.training.lr_milestones needs [epoch, rate] pairs, as in [[10,1e-4]].") from error


def merged(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    """``one`` with the values of ``other``, mapping by mapping; ``null`` leaves a key out."""
    found = {key: value for key, value in one.items() if other.get(key, value) is not None or value is None}
    for key, value in other.items():
        before = found.get(key)
        if value is None:
            continue
        found[key] = merged(before, value) if isinstance(before, Mapping) and isinstance(value, Mapping) else value
    return found
