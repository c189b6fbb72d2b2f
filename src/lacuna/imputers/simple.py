"""The two simplest baselines: zero imputation, and the mean image."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from lacuna.errors import LacunaError
from lacuna.imputers.base import Imputer, unit_scale

# Images summed at once, so that a large uint8 set is never converted to float as a whole.
CHUNK = 4096


class Zero(Imputer):
    """Zero imputation: missing pixels become 0 (black)."""

    cheap: ClassVar[bool] = True

    def _impute(self, observed: Tensor, mask: Tensor) -> Tensor:
        return observed


class Mean(Imputer):
    """Imputes the mean of the training images at each pixel, over those in which it is observed.

    A pixel observed in no training image gets the mean of all observed values. Sums are float64.

    Args:
        donors: number of training images to average; ``None`` = all.

    Raises:
        LacunaError: ``donors`` is below 1.
    """

    needs_fit: ClassVar[bool] = True
    mean: Tensor

    def __init__(self, donors: int | None = None) -> None:
        super().__init__()
        if donors is not None and donors < 1:
            raise LacunaError(f"imputer.donors={donors} must be at least 1, or null for all training images.")
        self.donors = donors
        self.register_buffer("mean", torch.empty(0))

    def _fit(self, observed: Tensor, mask: Tensor) -> None:
        self.mean = observed_mean(observed, mask).to(self.mean.device)

    def _impute(self, observed: Tensor, mask: Tensor) -> Tensor:
        check_image_shape(self, self.mean.shape, observed)
        return self.mean.to(observed.dtype).expand_as(observed)


def observed_mean(images: Tensor, mask: Tensor) -> Tensor:
    """(C,H,W) float32 mean of the observed values (N,C,H,W), pixel by pixel; the pooled mean where none is observed.

    Raises:
        LacunaError: no pixel of any image is observed.
    """
    total = torch.zeros(images.shape[1:], dtype=torch.float64, device=images.device)
    count = torch.zeros_like(total)
    for start in range(0, len(images), CHUNK):
        part, where = images[start : start + CHUNK], mask[start : start + CHUNK]
        total += torch.where(where, unit_scale(part), 0.0).sum(0, dtype=torch.float64)
        count += where.sum(0)
    count_all = count.sum()
    if not bool(count_all > 0):
        raise LacunaError("No pixel of any training image is observed: there is nothing to average.")
    return torch.where(count > 0, total / count.clamp(min=1), total.sum() / count_all).float()


def check_image_shape(imputer: Imputer, fitted: torch.Size, images: Tensor) -> None:
    """Raise :class:`LacunaError` unless images (B,C,H,W) have the shape (C,H,W) the imputer was fitted on."""
    if images.shape[1:] != fitted:
        raise LacunaError(
            f"{type(imputer).__name__} was fitted on images {tuple(fitted)} and cannot impute images "
            f"{tuple(images.shape[1:])}: fit it on images of the same size."
        )
