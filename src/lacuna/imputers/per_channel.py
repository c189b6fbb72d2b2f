"""Base class of imputers that use only the observed pixels of the same image (or channel, with a mask of its own).

Values are (N,K,H,W) and masks (N,H,W): N images with K channels that share a mask, or N single channels with masks of
their own (K = 1).
"""

from __future__ import annotations

from abc import abstractmethod

import torch
from torch import Tensor

from lacuna.imputers.base import Imputer

BLANK = 0.5
"""Value imputed where nothing is observed: of all constants it has the smallest maximal error."""

PIXELS = {"cpu": 2**17, "cuda": 2**21}
"""Pixels imputed at once: on the CPU so that they stay in the cache, on a GPU to bound the memory."""


class PerChannelImputer(Imputer):
    """Imputes images with a mask of their own, or every channel by itself where channels have masks of their own.

    Equal masks given channel by channel yield the same as one mask for all channels. Where no pixel of an image (or
    channel) is observed, all become :data:`BLANK`.
    """

    def _impute(self, observed: Tensor, mask: Tensor) -> Tensor:
        # On a GPU asking would cost more than it saves.
        if mask.shape[1] > 1 and mask.device.type == "cpu" and torch.equal(mask, mask[:, :1].expand_as(mask)):
            mask = mask[:, :1]
        if mask.shape[1] == 1:
            values, mask = observed, mask[:, 0]
        else:
            values, mask = observed.flatten(0, 1)[:, None], mask.flatten(0, 1)
        size = max(1, PIXELS["cpu" if values.device.type == "cpu" else "cuda"] // max(1, mask[0].numel()))
        parts = [
            self._impute_channels(some, where) for some, where in zip(values.split(size), mask.split(size), strict=True)
        ]
        imputed = torch.cat(parts)
        blank = ~mask.flatten(1).any(1)
        return imputed.masked_fill(blank[:, None, None, None], BLANK).view(observed.shape)

    @abstractmethod
    def _impute_channels(self, values: Tensor, mask: Tensor) -> Tensor:
        """The imputed values (N,K,H,W); ``values`` (N,K,H,W) are zero where ``mask`` (N,H,W) is False.

        Any finite values will do where a mask is False everywhere.
        """


def gather_pixels(values: Tensor, index: Tensor) -> Tensor:
    """(N,K,H,W) whose pixels are those of ``values`` (N,K,H,W) at the flat positions ``index`` (N,H,W), int64."""
    sources = index.flatten(1)[:, None].expand(-1, values.shape[1], -1)
    return values.flatten(2).gather(2, sources).view(values.shape)
