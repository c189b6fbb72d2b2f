"""The imputed training set: order of images, observed pixels, and checkpoints."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from lacuna.data.incomplete import IncompleteImages
from lacuna.data.masks import Bernoulli
from lacuna.data.prepared import Arrays
from lacuna.tasks.mcflow.imputed_set import ImputedSet

CHOSEN = np.array([1, 4, 5, 8, 11, 12, 19])


def images() -> IncompleteImages:
    """Seven of twenty images, so that positions in the set differ from positions in the data."""
    pixels = np.random.default_rng(0).integers(0, 256, (20, 3, 4, 5), dtype=np.uint8)
    return IncompleteImages(Arrays(pixels, None, None), Bernoulli(0.6), seed=0, split="train", index=CHOSEN)


def half(observed: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    return torch.full_like(observed, 0.5)


@pytest.mark.parametrize("batch_size", [2, 7, 100])
def test_every_image_is_refined_on_its_own(batch_size: int) -> None:
    data = images()
    kept = ImputedSet(data, 1e9, batch_size)
    assert not kept.initialised
    kept.initialise(half)
    # an image's mean observed value tells whose it is
    kept.update(lambda x, observed, mask: x * 0 + observed.sum((1, 2, 3), keepdim=True) / 100)
    batch = data.batch([6, 0, 3])
    assert batch.index.tolist() == [19, 1, 8]
    found, own = kept(batch), batch.observed.sum((1, 2, 3), keepdim=True) / 100
    expected = torch.where(batch.mask, batch.observed, own.half().float())
    assert found.dtype == torch.float32 and torch.equal(found, expected)


def test_observed_pixels_are_read_from_the_data() -> None:
    data = images()
    kept = ImputedSet(data, 1e9, 3)
    kept.initialise(half)
    seen = []
    kept.update(lambda x, observed, mask: (seen.append((x, observed, mask)), x * 0 + 9)[1])
    assert all(torch.equal(x, torch.where(mask, observed, 0.5)) for x, observed, mask in seen)
    batch = data.batch(torch.arange(7))
    assert torch.equal(kept(batch), torch.where(batch.mask, batch.observed, 9.0))


def test_a_checkpoint_holds_the_imputations() -> None:
    data = images()
    kept, other = ImputedSet(data, 1e9, 3), ImputedSet(data, 0, 3)
    other.load_training_state(kept.training_state())
    assert not other.initialised
    kept.initialise(lambda observed, mask: torch.rand_like(observed))
    other.load_training_state(kept.training_state())
    batch = data.batch([2, 1])
    assert torch.equal(kept(batch), other(batch))
    assert kept.bytes == 7 * 3 * 4 * 5 * 2 and not list(kept.state_dict())
