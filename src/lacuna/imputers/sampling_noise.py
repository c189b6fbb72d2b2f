"""Random numbers that are a function of the incomplete image, so that imputations do not depend on the batch.

Otherwise an imputer that draws noise would give other results for another order or size of batches. The numbers are
hashes (SplitMix64) of the observed values and the mask, in integer arithmetic, so that they are equal on all devices.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from lacuna.data.hashing import GOLDEN
from lacuna.data.masks import mix, signed

_BITS = 23  # (k + 0.5) / 2^23 and twice that less 1 are exact in float32


def image_keys(observed: Tensor, mask: Tensor) -> Tensor:
    """A key for each incomplete image, int64 (B,): a hash of its observed values (as float32) and its mask.

    Args:
        observed: (B,C,H,W) floating point; not read where ``mask`` is False.
        mask: (B,1,H,W) or (B,C,H,W) bool.
    """
    wide = mask.expand_as(observed)
    values = torch.where(wide, observed, 0).float().contiguous().view(torch.int32).long()
    words = (values * 2 + wide).flatten(1)
    place = torch.arange(1, words.shape[1] + 1, device=words.device) * signed(GOLDEN)
    return mix(mix(words) + place).sum(1)


def uniform(keys: Tensor, size: tuple[int, ...], draw: int = 0) -> Tensor:
    """Uniform float32 numbers in (0, 1), (B, *size), of images with these keys; ``draw`` counts draws, from 0."""
    count = math.prod(size)
    counter = torch.arange(draw * count + 1, (draw + 1) * count + 1, device=keys.device)
    bits = mix(mix(keys)[:, None] + counter * signed(GOLDEN)) & ((1 << _BITS) - 1)
    return ((bits.float() + 0.5) / (1 << _BITS)).view(len(keys), *size)


def normal(keys: Tensor, size: tuple[int, ...], draw: int = 0) -> Tensor:
    """Standard normal numbers; arguments as for :func:`uniform`."""
    return torch.erfinv(2 * uniform(keys, size, draw) - 1) * math.sqrt(2)
