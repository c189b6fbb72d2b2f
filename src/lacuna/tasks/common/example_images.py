"""Imputations of some test images, as numbers, to show runs side by side (PRFlow, figures 2-5; a table's page)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from torch import Tensor

from lacuna.data.incomplete import EvalBatch
from lacuna.files import replacing

EXAMPLES = 24
"""Number of test images, the first ones of the set, whose imputations a run stores."""
FILE = "imputations.npz"


def write_example_images(folder: Path, batch: EvalBatch, imputed: Tensor, deviation: Tensor | None = None) -> None:
    """Store truth and imputations (N,C,H,W) as float16 in [0, 1], mask and truth mask (bool), atomically.

    Half precision is off by at most 2⁻¹² there, less than a quarter of a grey level.

    Args:
        folder: of the pictures.
        batch: test images.
        imputed: (N,C,H,W), their imputations.
        deviation: (N,1,H,W), the density's standard deviation at every pixel (0 where observed), if there is a density.
    """
    arrays = {  # "recovered" and "known" are the names in files of earlier versions
        "truth": batch.truth.half().cpu().numpy(),
        "recovered": imputed.half().cpu().numpy(),
        "mask": batch.mask.cpu().numpy(),
        "known": batch.truth_mask.cpu().numpy(),
    }
    if deviation is not None:
        arrays["deviation"] = deviation.half().cpu().numpy()
    with replacing(folder / FILE) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, allow_pickle=False, **arrays)
