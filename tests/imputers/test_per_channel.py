"""Imputers within an image: one mask for all channels, or the same mask given channel by channel."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from lacuna.imputers.harmonic import Harmonic
from lacuna.imputers.linear import Linear
from lacuna.imputers.nearest import Nearest, RingNearest
from lacuna.imputers.per_channel import PerChannelImputer


@pytest.mark.parametrize("new", [Nearest, RingNearest, Linear, Harmonic])
def test_equal_masks_channel_by_channel(new: Callable[[], PerChannelImputer]) -> None:
    """Whether all images of the batch have equal masks in all channels, or one has not: the others do not change."""
    generator = torch.Generator().manual_seed(2)
    images = torch.rand(5, 3, 9, 7, generator=generator, dtype=torch.float64)
    mask = torch.rand(5, 1, 9, 7, generator=generator) > 0.7
    expected = new().impute(images, mask)
    each = mask.repeat(1, 3, 1, 1)
    assert torch.equal(new().impute(images, each), expected)
    each[4, 1] = ~each[4, 1]
    assert torch.equal(new().impute(images, each)[:4], expected[:4])
