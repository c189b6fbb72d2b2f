"""Fréchet distance between the features of two sets of images, FID (Heusel et al. 2017).

    |mean_1 - mean_2|² + tr(C_1) + tr(C_2) - 2 tr (C_1 C_2)^½

with the means and the sample covariances (divisor n - 1, as published) of the features. Everything is float64. With
C = F Fᵀ, the last trace is the sum of the singular values of F_1ᵀ F_2. Unlike a matrix square root of C_1 C_2, and
unlike the roots of its eigenvalues, this keeps its accuracy for singular covariances: up to rounding, the distance is
symmetric and zero from a set to itself (``scripts/bench/fid.py`` measures it). F has as many columns as the covariance
has ranks, so that sets with fewer images than features take less time.
"""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from lacuna.data.incomplete import EvalBatch, IncompleteImages
from lacuna.data.prepared import Provenance
from lacuna.errors import LacunaError
from lacuna.files import replacing
from lacuna.metrics.features import Features
from lacuna.metrics.moments import Moments, covariance_factor

VERSION = 2
"""To be increased when the computation of statistics changes, so that cached ones are not used."""


@dataclass(frozen=True, eq=False)
class Statistics:
    """Feature statistics of a set of images, as FID uses them.

    Attributes:
        mean: (d,) float64, on the CPU.
        covariance: (d, d) float64, on the CPU; divisor n - 1.
        n: number of images.
        features: protocol of the feature net (:attr:`lacuna.metrics.features.Features.protocol`).
        images: a description of the images.
    """

    mean: Tensor
    covariance: Tensor
    n: int
    features: str
    images: str

    @classmethod
    def of(cls, moments: Moments, features: Features, images: str) -> Statistics:
        """The statistics of the features accumulated in ``moments``."""
        mean, covariance = moments.compute()
        return cls(mean.cpu(), covariance.cpu(), moments.n, features.protocol, images)

    @cached_property
    def finite(self) -> bool:
        """Whether every image had finite features."""
        return bool(self.mean.isfinite().all() and self.covariance.isfinite().all())

    @cached_property
    def factor(self) -> Tensor:
        """F (d, r) with F Fᵀ = covariance of rank r; see :func:`~lacuna.metrics.moments.covariance_factor`."""
        return covariance_factor(self.covariance)


def frechet_distance(one: Statistics, other: Statistics) -> float:
    """FID of two sets of images; >= 0, symmetric; NaN if any feature is not finite.

    Raises:
        LacunaError: the statistics are of different feature nets.
    """
    if one.features != other.features or one.mean.shape != other.mean.shape:
        raise LacunaError(
            f"Features of different nets cannot be compared: those of {one.images} are by {one.features}, "
            f"those of {other.images} by {other.features}."
        )
    if not (one.finite and other.finite):
        return float("nan")
    cross = torch.linalg.svdvals(one.factor.T @ other.factor).sum()
    means = (one.mean - other.mean).square().sum()
    distance = means + one.covariance.trace() + other.covariance.trace() - 2 * cross
    return max(float(distance), 0.0)


@dataclass(frozen=True)
class Score:
    """A metric's value and the protocol by which it was computed."""

    value: float
    protocol: str


class FID:
    """FID between images that are added in batches and a reference set.

    Args:
        features: the feature net.
        reference: statistics of the reference set, by the same net.
        images: a description of the added images.
    """

    def __init__(self, features: Features, reference: Statistics, images: str = "generated") -> None:
        self.features, self.reference, self.images = features, reference, images
        self.moments = Moments()

    def update(self, images: Tensor) -> None:
        """Add a batch (B, C, H, W) in [0, 1]."""
        self.moments.update(self.features(images))

    def compute(self) -> Score:
        """The distance, with its protocol. Warns if a covariance is singular for lack of images.

        Raises:
            LacunaError: fewer than two images were given, or the reference is by another net.
        """
        evaluated = Statistics.of(self.moments, self.features, self.images)
        for found in (evaluated, self.reference):
            if found.n <= len(found.mean):
                warnings.warn(
                    f"FID of {found.n} images ({found.images}) in {len(found.mean)} features: the covariance is "
                    "singular and the distance says little; use more images or a smaller feature net.",
                    stacklevel=2,
                )
        value = frechet_distance(evaluated, self.reference)
        return Score(value, _protocol(evaluated, self.reference))

    def reset(self) -> None:
        """Forget all batches; the reference is kept."""
        self.moments = Moments()


def _protocol(evaluated: Statistics, reference: Statistics) -> str:
    """Everything that is needed to compare the number with another one."""
    return (
        f"FID, n={evaluated.n} {evaluated.images} against n={reference.n} {reference.images}; "
        f"{evaluated.features}, {len(evaluated.mean)} features, covariance / (n - 1)"
    )


def statistics(features: Features, batches: Iterable[Tensor], images: str) -> Statistics:
    """Statistics of batches of images (B, C, H, W) in [0, 1]; ``images`` describes them."""
    moments = Moments()
    for batch in batches:
        moments.update(features(batch))
    return Statistics.of(moments, features, images)


def reference_statistics(
    features: Features,
    images: IncompleteImages,
    provenance: Provenance,
    *,
    cache: Path | None = None,
    batch_size: int = 250,
) -> Statistics:
    """Statistics of the truth of a set (its masks have no effect), computed once and stored in ``cache``.

    The cache key consists of the content of the data set, the positions of the images in it, and everything that
    determines their features. A damaged file is computed again. Statistics of a feature net that is a function are
    not stored, since a change of the function cannot be detected.

    Args:
        images: a set with truth, such as ``data.complete("test")``.
        provenance: of the data of the set.
        cache: folder; None: nothing is stored.
        batch_size: images per step.

    Raises:
        LacunaError: the set has no truth, or pixels of the data themselves are missing.
    """
    words = f"{provenance.name}/{images.split}"
    about = {
        "version": str(VERSION),
        "data": provenance.fingerprint,
        "images": words,
        "positions": hashlib.sha256(images.index.cpu().numpy().tobytes()).hexdigest(),
        "n": str(len(images)),
        "features": features.protocol,
    }
    key = hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()[:16]
    path = cache / f"fid-{key}.safetensors" if cache is not None and features.digest else None
    found = None if path is None else _read(path, about)
    if found is None:
        found = statistics(features, _truths(images, batch_size), words)
        if path is not None and found.finite:
            with replacing(path) as temporary:
                save_file({"mean": found.mean, "covariance": found.covariance}, temporary, about)
    return found


def _read(path: Path, about: dict[str, str]) -> Statistics | None:
    """Statistics stored by an earlier call, or None if the file is absent, damaged or of something else."""
    with suppress(OSError, SafetensorError), safe_open(path, framework="pt") as file:
        if file.metadata() == about:
            mean, covariance = file.get_tensor("mean"), file.get_tensor("covariance")
            return Statistics(mean, covariance, int(about["n"]), about["features"], about["images"])
    return None


def _truths(images: IncompleteImages, size: int) -> Iterable[Tensor]:
    for start in range(0, len(images), size):
        batch = images.batch(torch.arange(start, min(start + size, len(images)), device=images.device))
        if not isinstance(batch, EvalBatch):
            raise LacunaError("FID needs images with truth: use data.complete(split), not training batches.")
        if not bool(batch.truth_mask.all()):
            raise LacunaError("FID needs complete reference images, but pixels of this data set are missing.")
        yield batch.truth
