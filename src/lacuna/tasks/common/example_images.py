"""Imputations of some test images as arrays, to compare runs in figures (PRFlow, figures 2-5)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from torch import Tensor

from lacuna.data.incomplete import EvalBatch
from lacuna.files import replacing

EXAMPLES = 24
"""Number of test images, the first ones of the set, whose imputations a run stores."""
FILE = "imputations.npz"


def write_example_images(folder: Path, batch: EvalBatch, imputed: Tensor) -> None:
    """Store truth and imputations (N,C,H,W) as float16 in [0, 1], mask and truth mask (bool), atomically.

    The rounding error of half precision is at most 2⁻¹², less than a quarter of a grey level.
    """
    arrays = {  # "recovered" and "known" are the names in files of earlier versions
        "truth": batch.truth.half().cpu().numpy(),
        "recovered": imputed.half().cpu().numpy(),
        "mask": batch.mask.cpu().numpy(),
        "known": batch.truth_mask.cpu().numpy(),
    }
    with replacing(folder / FILE) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, allow_pickle=False, **arrays)
