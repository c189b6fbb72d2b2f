"""Imputations of 8-bit images: observed values stay, samples depend on the image's name only, sizes are checked."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import Tensor

from lacuna.errors import LacunaError
from lacuna.inference.batches import BYTES, BatchImputer
from lacuna.tasks.common.models import Sizes

SIZES = Sizes((1, 4, 4))
RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (3, 1, 4, 4), dtype=np.uint8)
OBSERVED = RNG.random((3, 1, 4, 4)) < 0.5


@dataclass(frozen=True)
class Uniform:
    """Says 0.5 everywhere, also where it should say what was observed."""

    mean: Tensor
    deviation: Tensor | None

    def draw(self, row: int, n: int, noise: torch.Generator) -> Tensor:
        return torch.rand(n, *self.mean.shape[1:], generator=noise)


def model(observed: Tensor, mask: Tensor) -> Uniform:
    assert not observed[~mask].any()
    return Uniform(torch.full_like(observed, 0.5), torch.ones_like(observed))


def imputer(samples: int = 2) -> BatchImputer:
    return BatchImputer(model, SIZES, torch.device("cpu"), samples, seed=0)


def test_observed_values_stay_and_missing_ones_are_imputed() -> None:
    found = imputer()(IMAGES, OBSERVED, "abc")
    assert (found.images[OBSERVED] == IMAGES[OBSERVED]).all() and (found.images[~OBSERVED] == 128).all()
    assert found.samples.shape == (2, 3, 1, 4, 4) and found.samples.dtype == np.uint8
    for sample in found.samples:
        assert (sample[OBSERVED] == IMAGES[OBSERVED]).all()
    assert (found.samples[0] != found.samples[1]).any()


def test_samples_depend_on_the_name_and_not_on_the_batch() -> None:
    together = imputer()(IMAGES, OBSERVED, "abc")
    alone = imputer()(IMAGES[1:2], OBSERVED[1:2], "b")
    assert (alone.samples[:, 0] == together.samples[:, 1]).all()
    assert (imputer()(IMAGES[1:2], OBSERVED[1:2], "d").samples != alone.samples).any()
    assert imputer(0)(IMAGES, OBSERVED, "abc").samples.shape == (0, 3, 1, 4, 4)


def test_images_of_another_size_are_refused() -> None:
    imputer().check((1, 4, 4), "a.png")
    with pytest.raises(LacunaError, match=r"a\.png is 3x4x4 .* trained on 1x4x4"):
        imputer().check((3, 4, 4), "a.png")


def test_every_grey_level_survives() -> None:
    levels = np.arange(256, dtype=np.uint8)
    assert (BYTES.back(BYTES.unit(levels)) == levels).all()
