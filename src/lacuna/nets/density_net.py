"""Networks that predict the raw parameters of a mixture of factor analysers (MisConv, appendix A.1).

Each returns :class:`RawParameters`; ``densities/dmfa.py`` maps them into their ranges. The input is the image and the
mask: C channels with zeros at missing pixels, and C channels with 1 = observed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from lacuna.errors import LacunaError
from lacuna.nets.checks import check_counts, check_kernel, check_stage, check_stages, check_variant


class RawParameters(NamedTuple):
    """Unbounded network outputs: logits (B,K), mean, noise (B,K,C,H,W), factors (B,K,L,C,H,W)."""

    logits: Tensor
    mean: Tensor
    factors: Tensor
    noise: Tensor


def network_input(observed: Tensor, mask: Tensor) -> Tensor:
    """(B, 2C, H, W): the image, whose missing pixels must be zero, and the mask of each channel."""
    return torch.cat([observed, mask.expand_as(observed).to(observed.dtype)], 1)


class LinearHeads(nn.Module):
    """The network for MNIST: convolutions with ReLU, then one fully connected layer for each parameter.

    Args:
        shape: (C, H, W) of the images.
        components: K. factors: L, number of factor loadings a component.
        filters: output channels of the convolutions.
        kernels: their (odd) sizes; 5, 5, 5, 3 as in the authors' code, as the paper gives none.

    Raises:
        LacunaError: a value is out of its range.
    """

    def __init__(
        self,
        shape: tuple[int, int, int],
        components: int,
        factors: int,
        filters: Sequence[int] = (16, 32, 64, 32),
        kernels: Sequence[int] = (5, 5, 5, 3),
    ) -> None:
        super().__init__()
        check_counts("density.net.filters", filters)
        check_counts("density.net.kernels", kernels)
        for number, size in enumerate(kernels):
            check_kernel(f"density.net.kernels[{number}]", size)
        if len(filters) != len(kernels):
            raise LacunaError(
                f"density.net.filters={list(filters)} and density.net.kernels={list(kernels)} must be of the same "
                "length: one kernel size for each layer."
            )
        self.shape, self.k, self.rank = shape, components, factors
        channels = [2 * shape[0], *filters]
        layers: list[nn.Module] = []
        for in_channels, out_channels, kernel in zip(channels[:-1], channels[1:], kernels, strict=True):
            layers += [nn.Conv2d(in_channels, out_channels, kernel, padding=kernel // 2), nn.ReLU()]
        self.extractor = nn.Sequential(*layers, nn.Flatten())
        values = shape[0] * shape[1] * shape[2]
        width = filters[-1] * shape[1] * shape[2]
        self.mean = nn.Linear(width, components * values)
        self.factors = nn.Linear(width, components * factors * values) if factors else None
        self.noise = nn.Linear(width, components * values)
        self.logits = nn.Linear(width, components) if components > 1 else None

    def forward(self, observed: Tensor, mask: Tensor) -> RawParameters:
        """Raw parameters of images (B,C,H,W), zero where missing, and masks (B,1|C,H,W)."""
        h = self.extractor(network_input(observed, mask))
        image = (self.k, *self.shape)
        return RawParameters(
            h.new_zeros(len(h), 1) if self.logits is None else self.logits(h),
            self.mean(h).unflatten(1, image),
            _factors(self.factors, h, (self.k, self.rank, *self.shape)),
            self.noise(h).unflatten(1, image),
        )


def _factors(head: nn.Module | None, features: Tensor, shape: tuple[int, ...]) -> Tensor:
    """(B, K, L, C, H, W) from the head of the factors, which is None for L = 0."""
    return features.new_zeros(len(features), *shape) if head is None else head(features).reshape(-1, *shape)


def conv_block(in_channels: int, out_channels: int, kernel: int, dropout: float = 0.0) -> nn.Sequential:
    """The paper's "conv_n": convolution, ReLU, batch normalisation and, if ``dropout`` > 0, dropout."""
    layers: list[nn.Module] = [
        nn.Conv2d(in_channels, out_channels, kernel, padding=kernel // 2),
        nn.ReLU(),
        nn.BatchNorm2d(out_channels),
    ]
    return nn.Sequential(*layers, nn.Dropout(dropout)) if dropout else nn.Sequential(*layers)


def down(in_channels: int, out_channels: int) -> nn.Conv2d:
    """Downsampling by 2: a strided convolution without activation."""
    return nn.Conv2d(in_channels, out_channels, 3, stride=2, padding=1)


def up(in_channels: int, out_channels: int) -> nn.ConvTranspose2d:
    """Upsampling by 2: a strided transposed convolution without activation."""
    return nn.ConvTranspose2d(in_channels, out_channels, 3, stride=2, padding=1, output_padding=1)


def blocks(in_channels: int, out_channels: int, count: int, kernel: int) -> list[nn.Module]:
    """``count`` convolution blocks; the first changes the number of channels."""
    return [conv_block(in_channels if i == 0 else out_channels, out_channels, kernel) for i in range(count)]


class FullyConvolutional(nn.Module):
    """The network for SVHN, CIFAR-10 and CelebA: an encoder and decoder of convolution blocks, then three heads.

    Args:
        shape: (C, H, W); any H and W (padded inside to a multiple of 2^depth).
        components: K. factors: L, number of factor loadings a component.
        encoder, middle, decoder: [filters, number of blocks] per stage. Downsampling follows every encoder stage,
            upsampling precedes every decoder stage.
        kernel: size of the blocks' kernels; 5 as in the authors' code, as the paper gives none.
        variant: ``paper`` (appendix A.1) or ``authors`` (a plain convolution at both ends, the strided layers
            inside the 128-filter stage, a factor head without ReLU and with 5x5, a one-layer noise head).

    Raises:
        LacunaError: a value is out of its range.
    """

    def __init__(
        self,
        shape: tuple[int, int, int],
        components: int,
        factors: int,
        encoder: Sequence[Sequence[int]] = ((32, 2), (64, 2)),
        middle: Sequence[int] = (128, 4),
        decoder: Sequence[Sequence[int]] = ((64, 2), (32, 2)),
        kernel: int = 5,
        variant: str = "paper",
    ) -> None:
        super().__init__()
        check_variant("density.net.variant", variant)
        check_stages("density.net.encoder", encoder)
        check_stage("density.net.middle", middle)
        check_stages("density.net.decoder", decoder)
        check_kernel("density.net.kernel", kernel)
        if variant == "paper" and len(encoder) != len(decoder):
            raise LacunaError(
                f"density.net.encoder={list(encoder)} and density.net.decoder={list(decoder)} must be of the same "
                "length: the decoder must undo the encoder's downsampling."
            )
        self.shape, self.k, self.rank = shape, components, factors
        channels = shape[0]
        if variant == "authors":
            layers, self.depth, width = self._authors(2 * channels, encoder, middle, kernel)
        else:
            layers, self.depth, width = self._paper(2 * channels, encoder, middle, decoder, kernel)
        self.backbone = nn.Sequential(*layers)
        self.mean = self._head(width, components * channels)
        self.factors: nn.Module | None = None
        if variant == "authors":
            if factors:
                self.factors = nn.Sequential(
                    nn.Conv2d(width, 16, 5, padding=2),
                    nn.BatchNorm2d(16),
                    nn.Conv2d(16, components * factors * channels, 3, padding=1),
                )
            self.noise: nn.Module = nn.Conv2d(width, components * channels, 3, padding=1)
        else:
            if factors:
                self.factors = self._head(width, components * factors * channels)
            self.noise = self._head(width, components * channels)
        self.logits = nn.Linear(width, components) if components > 1 else None

    @staticmethod
    def _head(width: int, out: int) -> nn.Sequential:
        return nn.Sequential(conv_block(width, 16, 3), nn.Conv2d(16, out, 3, padding=1))

    @staticmethod
    def _paper(
        channels: int,
        encoder: Sequence[Sequence[int]],
        middle: Sequence[int],
        decoder: Sequence[Sequence[int]],
        kernel: int,
    ) -> tuple[list[nn.Module], int, int]:
        layers: list[nn.Module] = []
        width = channels
        for filters, count in encoder:
            layers += [*blocks(width, filters, count, kernel), down(filters, filters)]
            width = filters
        layers += blocks(width, middle[0], middle[1], kernel)
        width = middle[0]
        for filters, count in decoder:
            layers += [up(width, width), *blocks(width, filters, count, kernel)]
            width = filters
        return layers, len(encoder), width

    @staticmethod
    def _authors(
        channels: int, encoder: Sequence[Sequence[int]], middle: Sequence[int], kernel: int
    ) -> tuple[list[nn.Module], int, int]:
        stages = [int(filters) for filters, _ in encoder] + [int(middle[0])]
        count = int(encoder[0][1])
        layers: list[nn.Module] = [nn.Conv2d(channels, stages[0], 3, padding=1)]
        width = stages[0]
        for filters in stages:
            layers += [*blocks(width, filters, count, kernel), down(filters, filters)]
            width = filters
        for filters in [*reversed(stages[:-1]), stages[0]]:
            last = blocks(width, filters, 1, kernel) if count else []
            layers += [up(width, width), *blocks(width, width, count - 1, kernel), *last]
            width = filters
        layers.append(nn.Conv2d(width, width, 3, padding=1))
        return layers, len(stages), width

    def forward(self, observed: Tensor, mask: Tensor) -> RawParameters:
        """Raw parameters of images (B,C,H,W), zero where missing, and masks (B,1|C,H,W)."""
        height, width = observed.shape[2:]
        unit = 2**self.depth
        x = functional.pad(network_input(observed, mask), (0, -width % unit, 0, -height % unit))
        h = self.backbone(x)[..., :height, :width]
        c = self.shape[0]
        return RawParameters(
            h.new_zeros(len(h), 1) if self.logits is None else self.logits(h.mean((2, 3))),
            self.mean(h).unflatten(1, (self.k, c)),
            _factors(self.factors, h, (self.k, self.rank, c, height, width)),
            self.noise(h).unflatten(1, (self.k, c)),
        )
