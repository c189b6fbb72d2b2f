"""Semantic Consistency Criterion, SCC (PRFlow, section 4).

    min(1, accuracy on imputed images / accuracy on the true images)

of one classifier that was trained on complete images and is the same for every method.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from lacuna.errors import LacunaError
from lacuna.metrics.features import LEVELS
from lacuna.mfa import full_precision


@dataclass(frozen=True)
class Consistency:
    """Accuracies of a classifier on imputed ("recovered") and on true images.

    Attributes:
        recovered, true: fraction of correctly classified images.
        images: number of images of each kind.
    """

    recovered: float
    true: float
    images: int

    @property
    def value(self) -> float | None:
        """SCC; None if no true image is classified correctly."""
        return min(1.0, self.recovered / self.true) if self.true > 0 else None


class SemanticConsistency:
    """SCC of images that are added in batches, counted on the device.

    Imputed images are first clamped to [0, 1] and rounded to 256 grey levels, as if saved.

    Args:
        classify: complete images (B, C, H, W) in [0, 1] -> logits (B, classes); it is called in float32.
    """

    def __init__(self, classify: Callable[[Tensor], Tensor]) -> None:
        self.classify = classify
        self._right: Tensor | None = None
        self._images = 0

    @torch.no_grad()
    def update(self, recovered: Tensor, truth: Tensor, label: Tensor) -> None:
        """Add imputed images and the true ones, (B, C, H, W) each, with their classes (B,)."""
        saved = (recovered.to(torch.get_default_dtype()).clamp(0, 1) * LEVELS).round() / LEVELS
        with full_precision(truth):
            right = torch.stack([(self.classify(x).argmax(1) == label).sum() for x in (saved, truth)])
        self._right = right if self._right is None else self._right + right
        self._images += len(label)

    def compute(self) -> Consistency:
        """The accuracies on all images added.

        Raises:
            LacunaError: no image was added.
        """
        if self._right is None or not self._images:
            raise LacunaError("No images were given to SCC: the data set to evaluate is empty.")
        recovered, true = (self._right.double() / self._images).tolist()
        return Consistency(recovered, true, self._images)
