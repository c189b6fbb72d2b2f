"""The Wasserstein auto-encoders of MisConv's appendix A.3 (Tolstikhin et al. 2018, with the adversarial penalty)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.func import functional_call

from lacuna.nets.checks import check_count, check_counts, check_stages, check_variant
from lacuna.nets.density_net import blocks, down, up


class WAE(nn.Module):
    """Encoder, decoder and latent discriminator. The encoder's first convolution is the stem and not included.

    Args:
        filters: channels of the stem's features; the stem is the convolution and the ReLU of the printed first conv32.
        size: (H', W') of the stem's features.
        shape: (C, H, W) of the decoded images; any H and W (decoded to a multiple of 2^depth, then cropped).
        latent: dimension of the code.
        stages: [filters, number of blocks] per stage of the encoder, each followed by downsampling. The decoder has
            them in reverse order, each preceded by upsampling.
        discriminator: widths of the discriminator's hidden layers.
        variant: ``paper`` (the lists in A.3: the encoder begins with batch normalisation of the stem's features, as
            behind every conv; all blocks of a decoder stage have its filters, and the last stage has one block more)
            or ``authors`` (their code: no normalisation of the stem's features; a plain convolution begins the encoder
            and is the last but one of the decoder; ReLU before the encoder's fully connected layer; the last block of a
            decoder stage has the next stage's filters). In both a ReLU follows the decoder's fully connected layer
            ("lin: followed by ReLU") but not a layer that ends a network, because codes and logits may be negative.

    Raises:
        LacunaError: a value is out of its range.

    Shape:
        features (B, filters, H', W') -> images (B, C, H, W) in [0, 1].
    """

    def __init__(
        self,
        filters: int,
        size: tuple[int, int],
        shape: tuple[int, int, int],
        latent: int = 20,
        stages: Sequence[Sequence[int]] = ((40, 1), (80, 1)),
        discriminator: Sequence[int] = (64, 64, 64, 64),
        variant: str = "paper",
    ) -> None:
        super().__init__()
        check_variant("net.variant", variant)
        check_count("net.latent", latent)
        check_stages("net.stages", stages)
        check_counts("net.discriminator", discriminator)
        self.latent = latent
        self.encoder = nn.Sequential(*_encoder(filters, size, latent, stages, variant))
        self.decoder = Decoder(shape, latent, stages, variant)
        self.discriminator = _discriminator([latent, *discriminator])

    def encode(self, features: Tensor) -> Tensor:
        """The code (B, latent); deterministic."""
        code: Tensor = self.encoder(features)
        return code

    def decode(self, code: Tensor) -> Tensor:
        """Images (B, C, H, W) in [0, 1] of codes (B, latent); a code from N(0, 1) yields a sample."""
        image: Tensor = self.decoder(code)
        return image

    def discriminate(self, code: Tensor, *, frozen: bool = False) -> Tensor:
        """Logits (B,) that a code was drawn from N(0, 1); the paper's last layer is their sigmoid.

        ``frozen``: gradients reach the code but not the discriminator's weights.
        """
        if not frozen:
            logits: Tensor = self.discriminator(code)
        else:
            weights = {name: weight.detach() for name, weight in self.discriminator.named_parameters()}
            logits = functional_call(self.discriminator, weights, (code,))
        return logits.squeeze(1)

    def forward(self, features: Tensor) -> Tensor:
        """The reconstruction (B, C, H, W)."""
        return self.decode(self.encode(features))


class Decoder(nn.Module):
    """(B, latent) -> (B, C, H, W) in [0, 1]; arguments as for :class:`WAE`."""

    def __init__(self, shape: tuple[int, int, int], latent: int, stages: Sequence[Sequence[int]], variant: str) -> None:
        super().__init__()
        channels, self.height, self.width = shape
        bottom = (stages[-1][0], *(_downsampled(side, len(stages)) for side in shape[1:]))
        flat = bottom[0] * bottom[1] * bottom[2]
        layers: list[nn.Module] = [nn.Linear(latent, flat), nn.ReLU(), nn.Unflatten(1, bottom)]
        width = bottom[0]
        if variant == "authors":
            narrower = [stages[0][0], *(filters for filters, _ in stages[:-1])]
            for (filters, count), after in zip(reversed(stages), reversed(narrower), strict=True):
                layers += [up(width, filters), *blocks(filters, filters, count - 1, 3), *blocks(filters, after, 1, 3)]
                width = after
            layers.append(nn.Conv2d(width, width, 3, padding=1))
        else:
            for number, (filters, count) in reversed(list(enumerate(stages))):
                layers += [up(width, width), *blocks(width, filters, count + (number == 0), 3)]
                width = filters
        self.layers = nn.Sequential(*layers, nn.Conv2d(width, channels, 3, padding=1))

    def forward(self, code: Tensor) -> Tensor:
        """Images (B, C, H, W) of codes (B, latent)."""
        return torch.sigmoid(self.layers(code)[..., : self.height, : self.width])


def _encoder(
    filters: int, size: tuple[int, int], latent: int, stages: Sequence[Sequence[int]], variant: str
) -> list[nn.Module]:
    layers: list[nn.Module] = []
    width = filters
    if variant == "authors":
        width = stages[0][0]
        layers.append(nn.Conv2d(filters, width, 3, padding=1))
    else:  # the rest of the block that begins with the stem's convolution and ReLU
        layers.append(nn.BatchNorm2d(filters))
    for after, count in stages:
        layers += [*blocks(width, after, count, 3), down(after, after)]
        width = after
    if variant == "authors":
        layers.append(nn.ReLU())
    height, breadth = (_downsampled(side, len(stages)) for side in size)
    return [*layers, nn.Flatten(), nn.Linear(width * height * breadth, latent)]


def _discriminator(widths: Sequence[int]) -> nn.Sequential:
    layers: list[nn.Module] = []
    for before, after in pairwise(widths):
        layers += [nn.Linear(before, after), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(widths[-1], 1))


def _downsampled(side: int, times: int) -> int:
    """The side of an image after ``times`` downsamplings by 2, each rounded up."""
    return math.ceil(side / (1 << times))
