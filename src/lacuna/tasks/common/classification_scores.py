"""Loss and metrics of a classifier with one logit per class, or one per binary attribute."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def cross_entropy(logits: Tensor, label: Tensor, reduction: str = "mean") -> Tensor:
    """Cross entropy in nats per image; for attributes the binary cross entropy, averaged over the attributes.

    Args:
        logits: (B, K), one per class or per attribute.
        label: int64 (B,), the class; or uint8 (B, K), 1 for every attribute that the image has, else 0.
        reduction: over the images, ``mean`` or ``sum``.
    """
    if label.ndim == 1:
        return functional.cross_entropy(logits, label, reduction=reduction)
    total = functional.binary_cross_entropy_with_logits(logits, label.to(logits.dtype), reduction=reduction)
    return total if reduction == "mean" else total / label.shape[1]


def scores(attributes: int | None, device: torch.device | str = "cpu") -> ClassScores | AttributeScores:
    """The metrics of ``attributes`` binary attributes; if that is None, those of classes."""
    return ClassScores(device) if attributes is None else AttributeScores(attributes, device)


class ClassScores:
    """Running ``accuracy`` (fraction of images) and ``loss`` (nats per image) of classes."""

    def __init__(self, device: torch.device | str = "cpu") -> None:
        self._sums = torch.zeros(2, dtype=torch.float64, device=device)
        self._images = 0

    def update(self, logits: Tensor, label: Tensor) -> None:
        """Add logits (B, K) of images with classes ``label``, int64 (B,)."""
        right = (logits.argmax(1) == label).sum()
        self._sums += torch.stack([right, cross_entropy(logits, label, "sum")])
        self._images += len(label)

    def compute(self) -> dict[str, float]:
        """The metrics of all images added."""
        right, loss = (self._sums / self._images).tolist()
        return {"accuracy": right, "loss": loss}


class AttributeScores:
    """Running metrics of binary attributes; an attribute is predicted where its logit is positive.

    ``accuracy``: fraction of correct predictions. ``balanced_accuracy``: the accuracies on images with and without an
    attribute, averaged over the two (if both occur) and over the attributes; guessing gives 1/2, however rare an
    attribute is. ``loss``: nats per prediction.
    """

    def __init__(self, attributes: int, device: torch.device | str = "cpu") -> None:
        # of images without (0) and with (1) the attribute: their number and that of correct predictions
        self._count = torch.zeros(2, attributes, dtype=torch.float64, device=device)
        self._right = torch.zeros(2, attributes, dtype=torch.float64, device=device)
        self._loss = torch.zeros((), dtype=torch.float64, device=device)

    def update(self, logits: Tensor, label: Tensor) -> None:
        """Add logits (B, A) of images with attributes ``label``, uint8 (B, A)."""
        has = label.bool()
        right = (logits > 0) == has
        self._count += torch.stack([(~has).sum(0), has.sum(0)])
        self._right += torch.stack([(right & ~has).sum(0), (right & has).sum(0)])
        self._loss += cross_entropy(logits, label, "sum")

    def compute(self) -> dict[str, float]:
        """The metrics of all images added."""
        images = self._count.sum(0)
        recall = (self._right / self._count).nanmean(0)
        return {
            "accuracy": float((self._right.sum(0) / images).mean()),
            "balanced_accuracy": float(recall.mean()),
            "loss": float(self._loss / images[0]),
        }
