"""Stems: how an incomplete image enters a CNN.

A stem has a frozen model that turns (observed, mask) into an encoding (an imputation, a density, or None) and a
trained first layer. The first layer always ends in ReLU, so that the rows of a table differ in one thing only. The
encoding of a training image never changes, so it can be cached (``tasks/common/encoding_cache.py``).
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from lacuna.densities.base import Density
from lacuna.errors import LacunaError
from lacuna.imputers.base import Imputer
from lacuna.layers.misconv import MisConv2d
from lacuna.layers.partial import PartialConv2d
from lacuna.mfa import MFA

Encoding = Tensor | MFA | None
Size = int | tuple[int, int]


class Stem(nn.Module, ABC):
    """(observed, mask) -> features (B, filters, H', W') >= 0.

    Arguments of most stems: ``channels`` C of the image; ``filters``, ``kernel_size``, ``padding``,
    ``stride`` of the first layer.

    Args:
        frozen: the imputer or density that computes the encoding; None if there is none.
    """

    def __init__(self, frozen: nn.Module | None = None) -> None:
        super().__init__()
        self.frozen = frozen

    def freeze(self) -> None:
        """Exclude the imputer or density from training, permanently."""
        if self.frozen is not None:
            self.frozen.requires_grad_(False).eval()

    @property
    def cacheable(self) -> bool:
        """Whether caching the encodings of training images saves time."""
        return self.frozen is not None and any(True for _ in (*self.frozen.parameters(), *self.frozen.buffers()))

    def train(self, mode: bool = True) -> Stem:
        """As usual, except that the frozen model stays in evaluation mode."""
        super().train(mode)
        if self.frozen is not None:
            self.frozen.eval()
        return self

    def encode(self, observed: Tensor, mask: Tensor) -> Encoding:
        """The encoding of images, without gradient; ``observed`` (B,C,H,W) is zero where ``mask`` is False."""
        return None

    @abstractmethod
    def forward(self, observed: Tensor, mask: Tensor, encoding: Encoding = None) -> Tensor:
        """Features of images; ``encoding`` as :meth:`encode` returns it (computed here if None)."""


class ImputeStem(Stem):
    """Imputation, then ReLU(conv(image)); with any imputer: zero, k-NN, the density's mean, ACFlow."""

    def __init__(
        self,
        channels: int,
        imputer: Imputer,
        filters: int = 32,
        kernel_size: Size = 3,
        padding: Size = 1,
        stride: Size = 1,
    ) -> None:
        super().__init__(imputer)
        self.conv = nn.Conv2d(channels, filters, kernel_size, stride, padding)

    @property
    def cacheable(self) -> bool:
        """See :attr:`Stem.cacheable`."""
        assert isinstance(self.frozen, Imputer)
        return not self.frozen.cheap

    @torch.no_grad()
    def encode(self, observed: Tensor, mask: Tensor) -> Tensor:
        """The imputed image (B,C,H,W)."""
        assert isinstance(self.frozen, Imputer)
        return self.frozen.impute(observed, mask)

    def forward(self, observed: Tensor, mask: Tensor, encoding: Encoding = None) -> Tensor:
        """ReLU(conv(imputed image))."""
        image = self.encode(observed, mask) if encoding is None else encoding
        assert isinstance(image, Tensor)
        features: Tensor = self.conv(image).relu()
        return features


class ImageStem(Stem):
    """The image with zeros at missing pixels: for networks that have their own first layer, such as feature nets."""

    def __init__(self) -> None:
        super().__init__()

    def forward(self, observed: Tensor, mask: Tensor, encoding: Encoding = None) -> Tensor:
        """The image (B,C,H,W)."""
        return observed


class MaskStem(Stem):
    """ReLU(conv([image with zeros, mask])): the mask is a further input of the network.

    ``mask_channels`` is 1, for masks shared by the channels, or C; a shared mask is then repeated.
    """

    def __init__(
        self,
        channels: int,
        mask_channels: int = 1,
        filters: int = 32,
        kernel_size: Size = 3,
        padding: Size = 1,
        stride: Size = 1,
    ) -> None:
        super().__init__()
        self.mask_channels = mask_channels
        self.conv = nn.Conv2d(channels + mask_channels, filters, kernel_size, stride, padding)

    def forward(self, observed: Tensor, mask: Tensor, encoding: Encoding = None) -> Tensor:
        """ReLU(conv(observed and mask)).

        Raises:
            LacunaError: a mask per channel, but the stem was built for shared masks.
        """
        if mask.shape[1] not in (1, self.mask_channels):
            raise LacunaError(
                "This stem=mask was trained with one mask for all channels and cannot take a mask per channel: "
                "choose a shared mask (mask.per_channel=false), or train it with mask.per_channel=true."
            )
        flags = mask.expand(-1, self.mask_channels, -1, -1).to(observed.dtype)
        features: Tensor = self.conv(torch.cat([observed, flags], 1)).relu()
        return features


class PartialStem(Stem):
    """ReLU(partial convolution); ``relu=False`` is the MisConv authors' version, without ReLU."""

    def __init__(
        self,
        channels: int,
        filters: int = 32,
        kernel_size: Size = 3,
        padding: Size = 1,
        relu: bool = True,
        stride: Size = 1,
    ) -> None:
        super().__init__()
        self.conv = PartialConv2d(channels, filters, kernel_size, stride, padding)
        self.relu = relu

    def forward(self, observed: Tensor, mask: Tensor, encoding: Encoding = None) -> Tensor:
        """ReLU(partial_conv(observed, mask))."""
        features: Tensor = self.conv(observed, mask)
        return features.relu() if self.relu else features


class MisConvStem(Stem):
    """E[ReLU(conv(Z))] over the density of the missing pixels."""

    def __init__(
        self,
        channels: int,
        density: Density,
        filters: int = 32,
        kernel_size: Size = 3,
        padding: Size = 1,
        formula: str = "exact",
        stride: Size = 1,
    ) -> None:
        super().__init__(density)
        self.conv = MisConv2d(channels, filters, kernel_size, stride, padding, formula=formula)

    @property
    def cacheable(self) -> bool:
        """See :attr:`Stem.cacheable`; ``authors`` needs densities that are not pinned, which the cache cannot store."""
        return super().cacheable and self.conv.formula != "authors"

    @torch.no_grad()
    def encode(self, observed: Tensor, mask: Tensor) -> MFA:
        """The density, pinned to the observed pixels (not pinned if ``formula='authors'``)."""
        assert isinstance(self.frozen, Density)
        mfa: MFA = self.frozen(observed, mask)
        return mfa if self.conv.formula == "authors" else mfa.pin(observed, mask)

    def forward(self, observed: Tensor, mask: Tensor, encoding: Encoding = None) -> Tensor:
        """The expected activation."""
        mfa = self.encode(observed, mask) if encoding is None else encoding
        assert isinstance(mfa, MFA)
        features: Tensor = self.conv(mfa, observed, mask)
        return features
