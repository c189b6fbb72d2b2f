"""What a classifier's outputs are: one logit for each class, of which an image has one, or one for each attribute."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def cross_entropy(logits: Tensor, label: Tensor, reduction: str = "mean") -> Tensor:
    """In nats: of the class, or of the answers to all attributes, averaged over these.

    Args:
        logits: (B, K), one a class or one an attribute.
        label: int64 (B,), the class; or uint8 (B, K), 1 for every attribute the image has and else 0.
        reduction: over the images, ``mean`` or ``sum``.
    """
    if label.ndim == 1:
        return functional.cross_entropy(logits, label, reduction=reduction)
    total = functional.binary_cross_entropy_with_logits(logits, label.to(logits.dtype), reduction=reduction)
    return total if reduction == "mean" else total / label.shape[1]


def scores(attributes: int | None, device: torch.device | str = "cpu") -> ClassScores | AttributeScores:
    """What judges the answers to so many attributes, or where that is None the choice of a class."""
    return ClassScores(device) if attributes is None else AttributeScores(attributes, device)


class ClassScores:
    """Running ``accuracy`` (fraction of images) and ``loss`` (nats per image) of classes."""

    def __init__(self, device: torch.device | str = "cpu") -> None:
        self._sums = torch.zeros(2, dtype=torch.float64, device=device)
        self._images = 0

    def update(self, logits: Tensor, label: Tensor) -> None:
        """Add logits (B, K) of images of the classes ``label``, int64 (B,)."""
        right = (logits.argmax(1) == label).sum()
        self._sums += torch.stack([right, cross_entropy(logits, label, "sum")])
        self._images += len(label)

    def compute(self) -> dict[str, float]:
        """Of all images added."""
        right, loss = (self._sums / self._images).tolist()
        return {"accuracy": right, "loss": loss}


class AttributeScores:
    """Running scores of the answers to attributes; an image is said to have one where its logit is positive.

    ``accuracy``: fraction of right answers. ``balanced_accuracy``: for each attribute the mean of the fraction of right
    answers about images that have it and of that about images that do not (about one of the two, where there are no
    others), averaged over the attributes: guessing gets 1/2 however rare an attribute is. ``loss``: nats per answer.
    """

    def __init__(self, attributes: int, device: torch.device | str = "cpu") -> None:
        # of images that lack the attribute, and of those that have it: how many, and how many were answered right
        self._seen = torch.zeros(2, attributes, dtype=torch.float64, device=device)
        self._right = torch.zeros(2, attributes, dtype=torch.float64, device=device)
        self._loss = torch.zeros((), dtype=torch.float64, device=device)

    def update(self, logits: Tensor, label: Tensor) -> None:
        """Add logits (B, A) of images with the attributes ``label``, uint8 (B, A)."""
        has = label.bool()
        right = (logits > 0) == has
        self._seen += torch.stack([(~has).sum(0), has.sum(0)])
        self._right += torch.stack([(right & ~has).sum(0), (right & has).sum(0)])
        self._loss += cross_entropy(logits, label, "sum")

    def compute(self) -> dict[str, float]:
        """Of all images added."""
        images = self._seen.sum(0)
        recall = (self._right / self._seen).nanmean(0)
        return {
            "accuracy": float((self._right.sum(0) / images).mean()),
            "balanced_accuracy": float(recall.mean()),
            "loss": float(self._loss / images[0]),
        }
