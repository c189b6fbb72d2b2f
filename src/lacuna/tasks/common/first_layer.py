"""Inputs and outputs of a first layer for one test image as arrays, to compare runs (MisConv, figure 3)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from lacuna.data.incomplete import EvalBatch
from lacuna.files import replacing
from lacuna.layers.stem import Encoding, MisConvStem, Stem
from lacuna.mfa import MFA, widened


@torch.no_grad()
def first_layer(stem: Stem, batch: EvalBatch, encoding: Encoding, features: Tensor) -> dict[str, Tensor]:
    """Inputs and outputs of a first layer for the first image of a batch.

    Filters differ between runs, so outputs of two runs cannot be compared directly. MisConv's own filters are
    therefore also applied to the density's mean, as an ordinary convolution.

    Args:
        stem: a trained stem, in evaluation mode.
        batch: test images.
        encoding: of the batch, by the stem.
        features: (B,F,H',W'), output of the stem.

    Returns:
        ``truth``, ``observed`` (C,H,W), ``mask`` (1 or C,H,W), ``features`` (F,H',W'); with an imputation or density,
        ``filled`` (C,H,W), the image with imputed values; for MisConv, ``features_of_mean`` (F,H',W') =
        ReLU(conv(filled)). By Jensen's inequality the exact features are at least those, and equal where a window has
        no missing pixel.
    """
    observed, mask = batch.observed[:1], batch.mask[:1]
    found = {"truth": batch.truth[:1], "observed": observed, "mask": mask, "features": widened(features[:1])}
    if isinstance(encoding, MFA):  # "filled" is the name in files of earlier versions
        found["filled"] = torch.where(mask, observed, widened(encoding.expectation()[:1]))
    elif encoding is not None:
        found["filled"] = torch.where(mask, observed, widened(encoding[:1]))
    if isinstance(stem, MisConvStem):
        found["features_of_mean"] = nn.Conv2d.forward(stem.conv, found["filled"]).relu()
    return {name: part[0] for name, part in found.items()}


def write_first_layer(path: Path, stem: Stem, batch: EvalBatch, encoding: Encoding, features: Tensor) -> None:
    """Store :func:`first_layer` as a ``.npz`` file, atomically."""
    arrays = {name: part.cpu().numpy() for name, part in first_layer(stem, batch, encoding, features).items()}
    with replacing(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, **arrays)  # type: ignore[arg-type]
