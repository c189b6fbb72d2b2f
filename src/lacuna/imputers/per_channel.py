"""What imputers share that fill an image from nothing but its own observed pixels, channel by channel."""

from __future__ import annotations

from abc import abstractmethod

import torch
from torch import Tensor

from lacuna.imputers.base import Imputer

BLANK = 0.5
"""Grey level of a plane that shows nothing: of all constants the one that can be wrong by the least."""

PIXELS = {"cpu": 2**17, "cuda": 2**21}
"""Pixels filled at once: on the CPU what stays in the cache, else what bounds the memory."""


class PlaneImputer(Imputer):
    """Fills each plane by itself: the pixels of an image, or of one channel where every channel has its own mask.

    An image whose channels are given the same mask one by one is filled as with that mask for all of them. A plane in
    which nothing is observed becomes :data:`BLANK`.
    """

    def _fill(self, observed: Tensor, mask: Tensor) -> Tensor:
        if mask.shape[1] == 1:
            values, seen = observed, mask[:, 0]
        else:
            values, seen = observed.flatten(0, 1)[:, None], mask.flatten(0, 1)
        at_once = max(1, PIXELS["cpu" if values.device.type == "cpu" else "cuda"] // max(1, seen[0].numel()))
        parts = [
            self._fill_planes(some, where)
            for some, where in zip(values.split(at_once), seen.split(at_once), strict=True)
        ]
        filled = torch.cat(parts)
        blank = ~seen.flatten(1).any(1)
        return filled.masked_fill(blank[:, None, None, None], BLANK).view(observed.shape)

    @abstractmethod
    def _fill_planes(self, values: Tensor, seen: Tensor) -> Tensor:
        """The planes (N,K,H,W) filled; ``values`` (N,K,H,W) are zero where ``seen`` (N,H,W) is False.

        Any finite values will do for a plane that shows nothing.
        """


def pick(values: Tensor, index: Tensor) -> Tensor:
    """(N,K,H,W) whose pixels are those of ``values`` (N,K,H,W) at the flat positions ``index`` (N,H,W), int64."""
    sources = index.flatten(1)[:, None].expand(-1, values.shape[1], -1)
    return values.flatten(2).gather(2, sources).view(values.shape)
