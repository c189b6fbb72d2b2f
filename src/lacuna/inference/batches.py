"""Imputations of batches of 8-bit images by a trained model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from lacuna.data import hashing
from lacuna.errors import LacunaError
from lacuna.inference.trained_model import TrainedModel
from lacuna.tasks.common.models import Sizes


@dataclass(frozen=True)
class ImputedBatch:
    """Imputations of B images; observed values are those of the input.

    Args:
        images: the best imputation, uint8 (B,C,H,W).
        deviation: its standard deviation, float32 (B,1,H,W), in units of the range [0, 1]; None where not known.
        samples: n further imputations of each image, uint8 (n,B,C,H,W).
    """

    images: np.ndarray
    deviation: np.ndarray | None
    samples: np.ndarray


class BatchImputer:
    """Imputes batches of images.

    Args:
        model: what imputes.
        sizes: of the images it was trained on.
        device: where it is.
        samples: how many further imputations to draw of each image.
        seed: of the samples.
    """

    def __init__(self, model: TrainedModel, sizes: Sizes, device: torch.device, samples: int, seed: int) -> None:
        self.model, self.sizes, self.device, self.samples, self.seed = model, sizes, device, samples, seed

    def check(self, shape: tuple[int, ...], name: object) -> None:
        """Refuse images of another size than the model's.

        Args:
            shape: (C, H, W).
            name: of the image, for the message.

        Raises:
            LacunaError: the size is another one.
        """
        if shape != self.sizes.shape:
            given, trained = ("x".join(map(str, size)) for size in (shape, self.sizes.shape))
            raise LacunaError(
                f"{name} is {given} (channels, height, width), the model was trained on {trained}: resize the "
                "images, or train one on them."
            )

    @torch.no_grad()
    def __call__(self, images: np.ndarray, observed: np.ndarray, names: Sequence[object]) -> ImputedBatch:
        """Impute one batch.

        Args:
            images: uint8 (B,C,H,W); missing values may be anything.
            observed: bool (B,1,H,W) or (B,C,H,W), True = observed.
            names: of the images; they seed the samples, so that these do not depend on the rest of the batch.
        """
        mask, given = torch.from_numpy(observed).to(self.device), torch.from_numpy(images).to(self.device)
        imputations = self.model((given.float() / 255).masked_fill(~mask, 0), mask)
        deviation = imputations.deviation
        samples = np.empty((self.samples, *images.shape), np.uint8)
        if self.samples:
            for row, name in enumerate(names):
                noise = torch.Generator(self.device).manual_seed(hashing.key("impute", self.seed, str(name)))
                drawn = to_bytes(imputations.draw(row, self.samples, noise))
                samples[:, row] = np.where(observed[row], images[row], drawn)
        return ImputedBatch(
            np.where(observed, images, to_bytes(imputations.mean)),
            None if deviation is None else deviation.cpu().numpy(),
            samples,
        )


def to_bytes(image: torch.Tensor) -> np.ndarray:
    """[0, 1] to uint8; k / 255 becomes k exactly."""
    levels: np.ndarray = (image.clamp(0, 1) * 255).round().to(torch.uint8).cpu().numpy()
    return levels
