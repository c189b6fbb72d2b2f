"""Imputations of batches of images of one size, in the images' own type."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from lacuna.data import hashing
from lacuna.data.sources.depth import Scale
from lacuna.errors import LacunaError
from lacuna.inference.trained_model import TrainedModel
from lacuna.tasks.common.models import Sizes

BYTES = Scale(np.dtype(np.uint8), 0, 255)


@dataclass(frozen=True)
class ImputedBatch:
    """Imputations of B images; observed values are those of the input.

    Args:
        images: the best imputation (B,C,H,W), of the input's type.
        deviation: its standard deviation, float32 (B,1,H,W), in units of the range; None where not known.
        samples: n further imputations of each image (n,B,C,H,W), of the input's type.
    """

    images: np.ndarray
    deviation: np.ndarray | None
    samples: np.ndarray


class BatchImputer:
    """Imputes batches of images.

    Args:
        model: what imputes.
        sizes: of the images it was trained on; None: it takes any size.
        device: where it is.
        samples: how many further imputations to draw of each image.
        seed: of the samples.
    """

    def __init__(self, model: TrainedModel, sizes: Sizes | None, device: torch.device, samples: int, seed: int) -> None:
        self.model, self.sizes, self.device, self.samples, self.seed = model, sizes, device, samples, seed

    def check(self, shape: tuple[int, ...], name: object) -> None:
        """Refuse images of another size than the model's.

        Args:
            shape: (C, H, W).
            name: of the image, for the message.

        Raises:
            LacunaError: the size is another one.
        """
        if self.sizes is not None and shape != self.sizes.shape:
            given, trained = ("x".join(map(str, size)) for size in (shape, self.sizes.shape))
            raise LacunaError(
                f"{name} is {given} (channels, height, width), the model was trained on {trained}: resize the "
                "images, or train one on them."
            )

    @torch.no_grad()
    def __call__(
        self, images: np.ndarray, observed: np.ndarray, names: Sequence[object], scale: Scale = BYTES
    ) -> ImputedBatch:
        """Impute one batch.

        Args:
            images: (B,C,H,W) of the scale's type; missing values may be anything.
            observed: bool (B,1,H,W) or (B,C,H,W), True = observed.
            names: of the images; they seed the samples, so that these do not depend on the rest of the batch.
            scale: of the values.
        """
        mask, given = torch.from_numpy(observed).to(self.device), torch.from_numpy(scale.unit(images)).to(self.device)
        if self.sizes is not None:  # what is trained computes in float32
            given = given.float()
        imputations = self.model(given.masked_fill(~mask, 0).clamp(0, 1), mask)
        deviation = imputations.deviation
        samples = np.empty((self.samples, *images.shape), images.dtype)
        if self.samples:
            for row, name in enumerate(names):
                noise = torch.Generator(self.device).manual_seed(hashing.key("impute", self.seed, str(name)))
                drawn = scale.back(imputations.draw(row, self.samples, noise).cpu().numpy())
                samples[:, row] = np.where(observed[row], images[row], drawn)
        return ImputedBatch(
            np.where(observed, images, scale.back(imputations.mean.cpu().numpy())),
            None if deviation is None else deviation.cpu().numpy(),
            samples,
        )
