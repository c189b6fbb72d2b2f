"""Names of runs for people: ``digits · square 25 % · MisConv · seed 0``. Nothing here imports torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lacuna.runs.budget import MEASURED
from lacuna.runs.recipe import WHOLE_BUDGETS, Recipe

SEPARATOR = " · "
METHODS = {
    "zero": "zero imputation",
    "mask": "zero imputation + mask channel",
    "mean": "mean imputation",
    "knn": "k-NN imputation",
    "mfa_mean": "density mean imputation",
    "density_mean": "density mean imputation",
    "partial": "partial convolution",
    "misconv": "MisConv",
    "acflow": "ACFlow",
    "gt": "complete images",
    "dmfa": "DMFA",
    "dmfa_authors": "DMFA (authors' code)",
    "smfa": "SMFA",
    "smfa_authors": "SMFA (authors' code)",
    "flow": "ACFlow",
    "mcflow": "MCFlow",
    "mcflow_conv": "MCFlow (convolutional)",
    "misgan": "MisGAN",
    "pbigan": "P-BiGAN",
    "prflow": "PRFlow",
    "prflow_tenth": "PRFlow (lambda/10)",
    "unet": "U-Net",
    "nearest": "nearest neighbour",
    "ring": "random neighbour of the nearest ring",
    "linear": "linear interpolation",
    "gaussian": "Gaussian",
    "wae": "WAE",
    "wae_authors": "WAE (authors' code)",
    "lenet": "LeNet",
    "resnet18": "ResNet-18",
}
"""``name`` of a stem, imputer, density, flow or net -> what people call it. Other names are shown as they are."""


def run_title(recipe: Recipe) -> str:
    """Data, mask scheme with its missing rate, method and seed of a run."""
    return f"{group_title(recipe)}{SEPARATOR}seed {recipe.config['seed']}"


def group_title(recipe: Recipe) -> str:
    """The title that all seeds of a run share. Like :attr:`Recipe.group`, in words."""
    config = recipe.config
    method = config["stem"] if "stem" in config else config[recipe.component]
    if recipe.measured:
        parts = [recipe.task, *(f"{key} {method[key]}" for key in MEASURED[recipe.task])]
    else:
        parts = [str(config["data"]["name"]), mask_title(config["mask"])]
        if method["name"] != "image":  # such a classifier is named after its net
            parts.append(_method(method["name"]))
        if recipe.task == "generate" or method["name"] == "image":
            parts.append(_method(config["net"]["name"]))
    if config["budget"] not in WHOLE_BUDGETS:
        parts.append(f"budget {config['budget']}")
    return SEPARATOR.join(part for part in parts if part)


def mask_title(mask: Mapping[str, Any]) -> str:
    """A mask scheme and the fraction of pixels it removes: ``square 25 %``. Empty if it removes none."""
    name = str(mask["name"])
    if name == "none":
        return ""
    rate = missing_rate(mask)
    return name if rate is None else f"{name} {100 * rate:.3g} %"


def missing_rate(mask: Mapping[str, Any]) -> float | None:
    """The fraction of missing pixels in [0, 1]; None if the scheme does not state it.

    The ``fraction`` of a square is that of its side, so its area is the square of it (on images of equal sides).
    """
    if "fraction" in mask:
        return float(mask["fraction"]) ** 2
    rate = mask.get("rate", mask.get("area"))
    return None if rate is None else float(rate)


def _method(name: str) -> str:
    return METHODS.get(name, name)
