"""What a budget changes in a config: fewer images, fewer epochs, smaller networks. Nothing here imports torch."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from lacuna import registry
from lacuna.config.training_options import LIMIT, chosen, without_defaults
from lacuna.errors import LacunaError
from lacuna.papers import CHANGED, CUT, PUBLISHED, label

LIMITS = ("train_images", "validation_images", "test_images")
VALIDATION = ("validation", "default_validation")
"""Keys of ``data`` for the number of training images that are set aside for validation."""
INFRASTRUCTURE = ("root", "download")
"""Keys of ``data`` that do not decide the numbers of a run."""
BUDGET_PIXELS = 32 * 32
"""Size of the images that a budget counts."""
MEASURED = {"timing": ("size", "missing_square", "batch")}
"""Tasks that measure something and train nothing -> the keys of their config that are part of a run's name."""
WHOLE = {"max_epochs": None, "lr_factor": 1.0, "max_repeats": None, "compiled": True, "light": False}
"""A budget that changes nothing of a task."""


def budget_label(config: Mapping[str, Any], recipe: Mapping[str, Any]) -> str:
    """The budget label of a recipe: the budget's name, but ``paper`` only where the recipe is as in the paper.

    At ``budget=paper`` the label is ``cut`` with fewer images or less training than the config has, ``changed`` where a
    setting differs from the paper's or an option of training is used, which no paper does, and ``full`` where no paper
    prints the settings.

    Args:
        config: the resolved config.
        recipe: with the component that it trains.
    """
    budget, task = config["budget"], recipe["task"]["name"]
    if budget["name"] != PUBLISHED:
        return str(budget["name"])
    limits = [] if task in MEASURED else [*map(config["data"].get, LIMITS), *map(budget.get, LIMITS)]
    unchanged = all(WHOLE.get(key) == value for key, value in budget[task].items())
    options = _options(recipe)
    if not (unchanged and all(limit is None for limit in limits)) or LIMIT in options:
        return CUT
    found = label(recipe)
    return CHANGED if options and found == PUBLISHED else found


def _options(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """The options of training that a recipe uses; prerequisites have their own labels."""
    specs = [part["training"] for part in recipe.values() if isinstance(part, Mapping) and "training" in part]
    return {name: value for spec in specs for name, value in chosen(spec).items()}


def budget_share(data: Mapping[str, Any]) -> float:
    """The share of a budget's number of images: 1 up to 32x32 pixels, less for larger images, by their area."""
    shape = source_of(data).shape
    return 1.0 if shape is None else min(1.0, BUDGET_PIXELS / (shape[1] * shape[2]))


def validation_images(data: Mapping[str, Any], budget: Mapping[str, Any]) -> int:
    """Number of validation images: ``data.validation``, or the budget's where that is null, or the data set's default.

    Raises:
        LacunaError: it is no whole number of at least 0.
    """
    given = (data.get("validation"), budget.get("validation"), data.get("default_validation"))
    value = next((one for one in given if one is not None), 0)
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise LacunaError(f"data.validation={value} must be null or a whole number of at least 0.")
    return value


def source_of(data: Mapping[str, Any]) -> Any:
    """The source of a ``data`` config."""
    arguments = {key: value for key, value in data.items() if key not in (*LIMITS, *INFRASTRUCTURE, *VALIDATION)}
    return registry.build("data", arguments)


def within(config: Mapping[str, Any], component: str, budget: Mapping[str, Any]) -> dict[str, Any]:
    """A component with its training, if it has one, reduced to the budget.

    Milestones keep their place relative to the number of epochs. Where the budget is ``light``, the values in the
    component's ``light`` replace others.

    Args:
        config: the resolved config.
        component: key of the component.
        budget: of its task.

    Raises:
        LacunaError: epochs, learning rate or milestones are out of range.
    """
    spec = {key: value for key, value in config[component].items() if key not in ("light", "task")}
    if budget.get("light"):
        spec = merged(spec, config[component].get("light") or {})
    if "training" not in spec:
        return spec
    training = dict(spec["training"])
    epochs, lr = training["epochs"], training.get("lr", 1.0)
    if not (isinstance(epochs, int) and epochs >= 1 and isinstance(lr, (int, float)) and 0 < lr < math.inf):
        raise LacunaError(
            f"{component}.training.epochs={epochs} must be at least 1, and {component}.training.lr={lr} more than 0."
        )
    factor, most = budget["lr_factor"], budget["max_epochs"]
    share = min(1.0, most / epochs) if most is not None else 1.0
    if "lr" in training:  # EM has none
        training["lr"] = lr * factor
        training["lr_milestones"] = _milestones(component, training["lr_milestones"], share, factor)
        training = without_defaults(component, training)
        if "warmup" in training:
            training["warmup"] *= share
    if training.get("mse_epochs"):
        training["mse_epochs"] = max(1, round(training["mse_epochs"] * share))
    training["epochs"] = max(1, round(epochs * share))
    return {**spec, "training": training}


def _milestones(component: str, milestones: Any, share: float, factor: float) -> list[list[float]]:
    try:
        return [[round(epoch * share), rate * factor] for epoch, rate in milestones]
    except (TypeError, ValueError) as error:
        raise LacunaError(
            f"{component}.training.lr_milestones needs [epoch, rate] pairs, as in [[10,1e-4]]."
        ) from error


def merged(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    """``one`` updated with the values of ``other``, recursively; a null in ``other`` removes the key."""
    found = {key: value for key, value in one.items() if other.get(key, value) is not None or value is None}
    for key, value in other.items():
        before = found.get(key)
        if value is None:
            continue
        found[key] = merged(before, value) if isinstance(before, Mapping) and isinstance(value, Mapping) else value
    return found
