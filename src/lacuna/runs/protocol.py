"""What the name of a metric means: the quantity, its region and data range, and the images it is taken on."""

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
    "accuracy": "fraction of images classified correctly",
    "loss": "cross entropy in nats per image",
    "nll": "negative log-likelihood in nats per image, of its target values",
    "nll_per_dim": "negative log-likelihood in nats per target value, of a density in [0, 1] (of a flow: a bound, with "
    "uniform dequantisation; bits_per_dim is that of the grey levels)",
    "bits_per_dim": "bound of the negative log-likelihood of grey levels, in bits per target value",
    "mse": "mean squared error, pooled over target values, range [0, 1]",
    "rmse": "root mean squared error, pooled over target values, range [0, 1]",
    "sse": "sum of squared errors per image over its target values, range [0, 1]",
    "psnr": "peak signal-to-noise ratio in dB of the completed image, data range 1, mean over images",
    "ssim": "structural similarity, 7x7 uniform windows of the completed image, data range 1, mean over images",
    "ssim_range2": "structural similarity, 7x7 uniform windows of the completed image, data range 2 "
    "as published (old scikit-image's default; the values lie in [0, 1]), mean over images",
    "fid": "Fréchet distance between the features of true images and of generated or imputed ones",
    "scc": "accuracy on imputed test images divided by accuracy on the true ones, at most 1",
}
OF_TASK = {
    "impute": {"accuracy": "fraction of imputed images that a classifier of complete images classifies correctly"},
    "generate": {
        "psnr": "peak signal-to-noise ratio in dB of the decoder's whole image, data range 1, mean over images",
        "ssim": "structural similarity, 7x7 uniform windows of the decoder's whole image, data range 1, "
        "mean over images",
        "ssim_range2": "structural similarity, 7x7 uniform windows of the decoder's whole image, data range 2 as "
        "published (old scikit-image's default; the values lie in [0, 1]), mean over images",
    },
}
"""Task -> quantities with another meaning in it."""
TIMES = {"seconds": "median", "mean": "mean", "sd": "standard deviation"}
"""Endings of the names of a layer's times -> the statistic."""
IMAGES = {
    "test": "incomplete test images",
    "complete": "complete test images",
    "validation": "incomplete validation images",
    "train": "incomplete training images",
}
COMPLETE = "complete"
"""Prefix of metrics on complete test images, whatever the mask of training is."""


def phrase(metric: str, mask: str | None = None, task: str | None = None) -> str:
    """One phrase for a metric ``split/quantity``; its name where it has none.

    Args:
        metric: as in ``metrics.json``: ``test/accuracy``.
        mask: name of the mask scheme of ``test`` and ``validation``; images are complete with ``none``.
        task: of the run.
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
    """A mask scheme with its arguments: ``square(fraction=0.5)``."""
    arguments = {key: value for key, value in mask.items() if key not in ("name", "type", "seed")}
    arguments |= {"seed": mask["seed"]} if mask.get("seed") else {}
    inside = ", ".join(f"{key}={value}" for key, value in arguments.items())
    return f"{mask['name']}({inside})" if inside else str(mask["name"])


def official_counts(data: Mapping[str, Any]) -> Mapping[str, int]:
    """Images per split of the published set behind a recipe's ``data``; empty where there is none."""
    ignored_keys = (*LIMITS, *INFRASTRUCTURE, *PLACES, *VALIDATION, "fingerprint")
    return _official(json.dumps({key: value for key, value in data.items() if key not in ignored_keys}, sort_keys=True))


@functools.cache
def _official(spec: str) -> Mapping[str, int]:
    try:
        source = registry.build("data", json.loads(spec))
    except LacunaError:  # a user's own data, or no data at all
        return {}
    counts: Mapping[str, int] = source.official_counts
    return counts
