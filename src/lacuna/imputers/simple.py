"""The two imputations everything else has to beat: zero, and the mean image."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from lacuna.errors import LacunaError
from lacuna.imputers.base import Imputer, unit_scale

# Images summed at a time, so that a large uint8 set is never converted to float as a whole.
CHUNK = 4096


class Zero(Imputer):
    """Black in every hole."""

    free: ClassVar[bool] = True

    def _fill(self, observed: Tensor, mask: Tensor) -> Tensor:
        return observed


class Mean(Imputer):
    """The mean of what the training images show at that pixel.

    A pixel that no training image shows gets the mean of all observed values. The sums are kept in float64.

    Args:
        donors: how many training images to average; ``None`` = all.
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

    def _fill(self, observed: Tensor, mask: Tensor) -> Tensor:
        check_image_shape(self, self.mean.shape, observed)
        return self.mean.to(observed.dtype).expand_as(observed)


def observed_mean(images: Tensor, mask: Tensor) -> Tensor:
    """(C,H,W) float32 mean of the observed values (N,C,H,W), pixel by pixel; the pooled mean where there is none.

    Raises:
        LacunaError: no pixel at all is observed.
    """
    total = torch.zeros(images.shape[1:], dtype=torch.float64, device=images.device)
    count = torch.zeros_like(total)
    for start in range(0, len(images), CHUNK):
        part, seen = images[start : start + CHUNK], mask[start : start + CHUNK]
        total += torch.where(seen, unit_scale(part), 0.0).sum(0, dtype=torch.float64)
        count += seen.sum(0)
    everything = count.sum()
    if not bool(everything > 0):
        raise LacunaError("The training images have no observed pixel at all: there is nothing to average.")
    return torch.where(count > 0, total / count.clamp(min=1), total.sum() / everything).float()


def check_image_shape(imputer: Imputer, fitted: torch.Size, images: Tensor) -> None:
    """Raise :class:`LacunaError` unless images (B,C,H,W) have the shape (C,H,W) the imputer was fitted on."""
    if images.shape[1:] != fitted:
        raise LacunaError(
            f"{type(imputer).__name__} was fitted on images {tuple(fitted)} and cannot fill images "
            f"{tuple(images.shape[1:])}: fit it on images of the same size."
        )
