"""The networks of P-BiGAN (Li and Marlin 2020): the encoder q(z | x, m) and the critic of pairs (image, code)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from lacuna.nets.checks import check_count
from lacuna.nets.gan import Shape, body
from lacuna.nets.iaf import IAFStep

JOINED = 64
"""Width of the layers in which the critic joins image and code."""


class Encoder(nn.Module):
    """Samples a code of an incomplete image. As published, missing pixels are 0 and the mask is no input.

    Args:
        kind, shape, widths: as for :func:`lacuna.nets.gan.body`.
        latent: dimension of the codes.
        steps: number of steps of inverse autoregressive flow.
        hidden: width of the steps' networks.

    Raises:
        LacunaError: a size is not a whole number of at least 1.

    Shape:
        images (B,C,H,W), noise (B,latent) from N(0, 1) -> codes (B,latent).
    """

    def __init__(
        self, kind: str, shape: Shape, latent: int, widths: Sequence[int], steps: int = 2, hidden: int = 256
    ) -> None:
        super().__init__()
        check_count("imputer.iaf_steps", steps)
        self.body, features = body(kind, shape, widths)
        width = 3 * latent
        # colour: as published a 4x4 convolution to ``latent`` features, here a linear layer, comes first
        bottleneck = [nn.Linear(features, latent)] if kind == "colour" else []
        first = nn.Linear(latent if bottleneck else features, width)
        self.head = nn.Sequential(*bottleneck, first, nn.LayerNorm(width), nn.LeakyReLU(0.2), nn.Linear(width, width))
        self.flow = nn.ModuleList(IAFStep(latent, latent, hidden) for _ in range(steps))

    def forward(self, image: Tensor, noise: Tensor) -> Tensor:
        """The codes (B,latent) of images (B,C,H,W) and noise (B,latent)."""
        mean, scale, context = self.head(self.body(image)).chunk(3, 1)
        z: Tensor = mean + softplus(scale) * noise
        for number, step in enumerate(self.flow):
            z = step(z.flip(1) if number else z, context)
        return z


class PairCritic(nn.Module):
    """The critic of pairs: images (B,C,H,W), codes (B,latent) -> scores (B,).

    Arguments as for :class:`Encoder`.
    """

    def __init__(self, kind: str, shape: Shape, latent: int, widths: Sequence[int]) -> None:
        super().__init__()
        self.body, features = body(kind, shape, widths)
        bottleneck = [nn.Linear(features, 2 * JOINED)] if kind == "colour" else []
        self.image = nn.Sequential(*bottleneck, nn.Linear(2 * JOINED if bottleneck else features, JOINED))
        self.code = nn.Sequential(
            nn.Linear(latent, JOINED), nn.LayerNorm(JOINED), nn.LeakyReLU(0.2), nn.Linear(JOINED, JOINED)
        )
        self.joint = nn.Sequential(
            nn.Linear(2 * JOINED, JOINED), nn.LayerNorm(JOINED), nn.LeakyReLU(0.2), nn.Linear(JOINED, 1)
        )

    def forward(self, image: Tensor, code: Tensor) -> Tensor:
        """Scores; larger means more like a real image and its code."""
        score: Tensor = self.joint(torch.cat([self.image(self.body(image)), self.code(code)], 1))
        return score.squeeze(1)
