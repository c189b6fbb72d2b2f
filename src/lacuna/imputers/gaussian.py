"""Imputation by a Gaussian with a full covariance, estimated from incomplete images: the best linear predictor."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from lacuna.densities.em_algebra import exact_products
from lacuna.errors import LacunaError
from lacuna.imputers.base import Imputer, unit_scale
from lacuna.imputers.simple import check_image_shape, observed_mean

RIDGES = (1e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1)
"""Candidate ridges: variances of values in [0, 1]."""
VALIDATION = 256
"""Training images on which the ridge is chosen: it has the smallest error at held-out observed values."""
SHARE = 0.2  # fraction of the observed values that is held out for this
LARGEST = 2**15
"""Values of the largest images: their covariance takes 8 GB, and its eigenvectors as much again."""
CHUNK = 2048
ENTRIES = {"cpu": 2**22, "cuda": 2**28}
"""Covariance entries held in memory at once."""


class Gaussian(Imputer):
    """Imputes the conditional mean of a Gaussian fitted to the observed values of the training images.

    The mean of a value is over the images in which it is observed, the covariance of a pair over the images in which
    both are. Such a matrix can have negative eigenvalues: they are set to 0, and ``ridge`` is added to all eigenvalues.

    Args:
        donors: number of training images; ``None`` = all.
        ridge: variance added to every value; ``None`` = the one of :data:`RIDGES` with the smallest squared error at
            held-out values of some training images.

    Raises:
        LacunaError: a value is out of its range.
    """

    needs_fit: ClassVar[bool] = True
    mean: Tensor
    covariance: Tensor

    def __init__(self, donors: int | None = None, ridge: float | None = None) -> None:
        super().__init__()
        if donors is not None and donors < 1:
            raise LacunaError(f"imputer.donors={donors} must be at least 1, or null for all training images.")
        if ridge is not None and not ridge > 0:
            raise LacunaError(f"imputer.ridge={ridge} must be positive, or null to let the training images decide.")
        self.donors, self.ridge = donors, ridge
        self.register_buffer("mean", torch.empty(0))
        self.register_buffer("covariance", torch.empty(0, dtype=torch.float64))

    def _fit(self, observed: Tensor, mask: Tensor) -> None:
        values = observed[0].numel()
        if values > LARGEST:
            raise LacunaError(
                f"imputer=gaussian takes images of at most {LARGEST} values, and these have {values}, whose "
                f"covariance would take {values**2 // 2**27} GB: use smaller images, or imputer=linear."
            )
        mean = observed_mean(observed, mask)
        levels, vectors = torch.linalg.eigh(pair_covariance(observed, mask, mean))
        spread = (vectors * levels.clamp(min=0)) @ vectors.T
        eye = torch.eye(len(spread), dtype=spread.dtype, device=spread.device)
        ridge = self._best_ridge(observed, mask, mean, spread, eye) if self.ridge is None else self.ridge
        self.mean = mean.to(self.mean.device)
        self.covariance = (spread + ridge * eye).to(self.covariance.device)

    def _best_ridge(self, observed: Tensor, mask: Tensor, mean: Tensor, spread: Tensor, eye: Tensor) -> float:
        """The ridge with the smallest squared error at held-out observed values of a few images."""
        images = unit_scale(observed[:VALIDATION])
        mask = mask[:VALIDATION]
        held_out = torch.rand(mask.shape, generator=torch.Generator().manual_seed(0)).to(mask.device) < SHARE
        kept, target = mask & ~held_out, (mask & held_out).expand_as(images)
        errors = []
        for ridge in RIDGES:
            filled = conditional_mean(torch.where(kept, images, 0.0), kept, mean, spread + ridge * eye)
            errors.append(torch.where(target, filled - images, 0.0).square().sum())
        return RIDGES[int(torch.stack(errors).argmin())]

    def _impute(self, observed: Tensor, mask: Tensor) -> Tensor:
        check_image_shape(self, self.mean.shape, observed)
        return conditional_mean(observed, mask, self.mean, self.covariance)


def pair_covariance(images: Tensor, mask: Tensor, mean: Tensor) -> Tensor:
    """(D,D) float64 covariance of each pair of values, over the images (N,C,H,W) in which both are observed; else 0."""
    size = mean.numel()
    products = torch.zeros(size, size, dtype=torch.float64, device=images.device)
    count = torch.zeros_like(products)
    for start in range(0, len(images), CHUNK):
        part, where = unit_scale(images[start : start + CHUNK]), mask[start : start + CHUNK]
        centred = torch.where(where, part - mean, 0.0).flatten(1)
        observed = where.expand_as(part).flatten(1).float()
        with exact_products(centred):
            products += centred.T @ centred
            count += observed.T @ observed
    return products / count.clamp(min=1)


def conditional_mean(observed: Tensor, mask: Tensor, mean: Tensor, covariance: Tensor) -> Tensor:
    """E[image | observed values] (B,C,H,W) of the Gaussian with ``mean`` (C,H,W) and ``covariance`` (D,D), float64."""
    where = mask.expand_as(observed).flatten(1)
    centred = torch.where(where, observed.flatten(1).double() - mean.flatten().double(), 0.0)
    count = where.sum(1)
    most = int(count.max())
    if most == 0:
        return mean.to(observed.dtype).expand_as(observed)
    order = where.byte().sort(dim=1, descending=True, stable=True).indices[:, :most]
    at_once = max(1, ENTRIES["cpu" if observed.device.type == "cpu" else "cuda"] // most**2)
    filled = torch.empty_like(centred)
    for start in range(0, len(centred), at_once):
        part = slice(start, start + at_once)
        which = order[part]
        there = torch.arange(most, device=which.device) < count[part, None]
        both = there[:, :, None] & there[:, None, :]
        eye = torch.eye(most, dtype=covariance.dtype, device=which.device)
        inner = torch.where(both, covariance[which[:, :, None], which[:, None, :]], eye)
        values = torch.where(there, centred[part].gather(1, which), 0.0)[..., None]
        solved = torch.cholesky_solve(values, torch.linalg.cholesky(inner))[..., 0]
        weights = torch.zeros_like(centred[part]).scatter(1, which, torch.where(there, solved, 0.0))
        filled[part] = weights @ covariance
    return (filled + mean.flatten()).to(observed.dtype).view(observed.shape)
