"""What a metric's name means: the quantity, its region and data range, and the images it was taken on."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from typing import Any

from lacuna import registry
from lacuna.errors import LacunaError
from lacuna.runs.budget import INFRASTRUCTURE, LIMITS, VALIDATION
from lacuna.runs.recipe import PLACES

QUANTITIES = {
    "accuracy": "fraction of images classified right",
    "loss": "cross entropy in nats per image",
    "nll": "negative log-likelihood in nats per image, of its hidden values",
    "nll_per_dim": "negative log-likelihood in nats per hidden value, of a density in [0, 1] (of a flow: a bound, of "
    "its grey levels spread evenly; bits_per_dim is that of the levels themselves)",
    "bits_per_dim": "bound of the negative log-likelihood of grey levels, in bits per hidden value",
    "mse": "mean squared error, pooled over hidden values, range [0, 1]",
    "rmse": "root mean squared error, pooled over hidden values, range [0, 1]",
    "sse": "sum of squared errors per image over its hidden values, range [0, 1]",
    "psnr": "peak signal-to-noise ratio in dB of the whole image with its holes filled, data range 1, mean over images",
    "ssim": "structural similarity, 7x7 uniform windows of the whole image with its holes filled, data range 1, "
    "mean over images",
    "ssim_range2": "structural similarity, 7x7 uniform windows of the whole image with its holes filled, data range 2 "
    "as published (old scikit-image's default; the values lie in [0, 1]), mean over images",
    "fid": "Fréchet distance between the features of true and made images",
    "scc": "accuracy on recovered test images over accuracy on the true ones, at most 1",
}
OF_TASK = {
    "impute": {"accuracy": "fraction of recovered images that a classifier of complete images gets right"},
    "generate": {
        "psnr": "peak signal-to-noise ratio in dB of the decoder's whole image, data range 1, mean over images",
        "ssim": "structural similarity, 7x7 uniform windows of the decoder's whole image, data range 1, "
        "mean over images",
        "ssim_range2": "structural similarity, 7x7 uniform windows of the decoder's whole image, data range 2 as "
        "published (old scikit-image's default; the values lie in [0, 1]), mean over images",
    },
}
"""Task -> quantities that mean something else in it."""
TIMES = {"seconds": "median", "mean": "mean", "sd": "standard deviation"}
"""What a measured layer's times end with -> what of them it is."""
IMAGES = {
    "test": "incomplete test images",
    "complete": "complete test images",
    "validation": "incomplete validation images",
    "train": "incomplete training images",
}
COMPLETE = "complete"
"""Prefix of metrics on test images without holes, whatever the mask of training."""


def phrase(metric: str, mask: str | None = None, task: str | None = None) -> str:
    """One phrase on a metric ``split/quantity``; the name itself where nothing is known of it.

    Args:
        metric: as in ``metrics.json``: ``test/accuracy``.
        mask: name of the mask scheme behind ``test`` and ``validation``; ``none`` hides nothing.
        task: whose metric it is.
    """
    split, _, quantity = metric.rpartition("/")
    layer, _, kind = quantity.rpartition("_")
    if layer and kind in TIMES:
        return f"{TIMES[kind]} of the seconds of a forward pass of {layer.replace('_', ', ')}"
    images = IMAGES.get(split, split)
    if mask == "none":
        images = images.replace("incomplete", "complete")
    meaning = OF_TASK.get(task or "", {}).get(quantity) or QUANTITIES.get(quantity, quantity)
    return ", ".join(part for part in (meaning, images) if part)


def mask_text(mask: Mapping[str, Any]) -> str:
    """A mask scheme with what it was told: ``square(fraction=0.5)``."""
    told = {key: value for key, value in mask.items() if key not in ("name", "type", "seed")}
    told |= {"seed": mask["seed"]} if mask.get("seed") else {}
    inside = ", ".join(f"{key}={value}" for key, value in told.items())
    return f"{mask['name']}({inside})" if inside else str(mask["name"])


def official_counts(data: Mapping[str, Any]) -> Mapping[str, int]:
    """Images per split of the published set behind a recipe's ``data``; empty where there is none."""
    left_out = (*LIMITS, *INFRASTRUCTURE, *PLACES, *VALIDATION, "fingerprint")
    return _official(json.dumps({key: value for key, value in data.items() if key not in left_out}, sort_keys=True))


@functools.cache
def _official(spec: str) -> Mapping[str, int]:
    try:
        source = registry.build("data", json.loads(spec))
    except LacunaError:  # a user's own data, or no data at all
        return {}
    counts: Mapping[str, int] = source.official_counts
    return counts
