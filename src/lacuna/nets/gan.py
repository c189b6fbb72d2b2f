"""Networks of MisGAN (Li et al. 2019), in part shared by P-BiGAN (Li and Marlin 2020): generators, critics, imputers.

Three kinds: ``mnist`` (28x28, as published), ``colour`` (square images of side 4 * 2^n with n widths; published for
64x64 CelebA with four) and ``dense`` (the published fully connected alternative, for any shape).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from lacuna.errors import LacunaError
from lacuna.nets.checks import check_count, check_counts

KINDS = ("mnist", "colour", "dense")
SEED_SIDE = 4
"""Side of the first feature map of a convolutional generator."""

Shape = tuple[int, int, int]


def check_kind(kind: str, shape: Shape, latent: int, widths: Sequence[int]) -> None:
    """Check that a kind of network fits the images.

    Raises:
        LacunaError: the kind is unknown, a size is not a whole number of at least 1, or the images have another size.
    """
    if kind not in KINDS:
        raise LacunaError(f"imputer.nets={kind!r} is none of {', '.join(KINDS)}.")
    check_count("imputer.latent", latent)
    check_counts("imputer.widths", widths)
    size = "x".join(map(str, shape[1:]))
    if kind == "mnist" and (shape[1:] != (28, 28) or len(widths) != 3):
        raise LacunaError(
            f"imputer.nets=mnist takes three imputer.widths and images of 28x28, not {len(widths)} and {size}: "
            "choose an imputer made for such images, or imputer.nets=dense."
        )
    side = SEED_SIDE * 2 ** len(widths)
    if kind == "colour" and shape[1:] != (side, side):
        raise LacunaError(
            f"imputer.nets=colour with {len(widths)} imputer.widths makes images of {side}x{side}, not {size}: "
            "give one width for each doubling of 4x4, or choose imputer.nets=dense."
        )


class Generator(nn.Module):
    """The generator: latent codes to images.

    Args:
        kind: ``mnist``, ``colour`` or ``dense``.
        shape: (C,H,W) of the images.
        latent: dimension of the codes.
        widths: as the critic's, from the image inwards; used in reverse order.

    Shape:
        codes (B,latent) -> logits (B,C,H,W), the sigmoid of which is an image.
    """

    def __init__(self, kind: str, shape: Shape, latent: int, widths: Sequence[int]) -> None:
        super().__init__()
        made = {"mnist": _mnist_generator, "colour": _colour_generator, "dense": _dense_generator}[kind]
        self.layers = nn.Sequential(*made(shape, latent, list(reversed(widths))))

    def forward(self, code: Tensor) -> Tensor:
        """Logits of images."""
        image: Tensor = self.layers(code)
        return image


def _mnist_generator(shape: Shape, latent: int, widths: Sequence[int]) -> list[nn.Module]:
    first, second, third = widths
    return [
        nn.Linear(latent, first * SEED_SIDE**2),
        nn.ReLU(),
        nn.Unflatten(1, (first, SEED_SIDE, SEED_SIDE)),
        nn.ConvTranspose2d(first, second, 5),
        nn.ReLU(),
        nn.ZeroPad2d((0, -1, 0, -1)),  # 8x8 is cut to 7x7
        nn.ConvTranspose2d(second, third, 5),
        nn.ReLU(),
        nn.ConvTranspose2d(third, shape[0], 8, stride=2),
    ]


def _colour_generator(shape: Shape, latent: int, widths: Sequence[int]) -> list[nn.Module]:
    features = widths[0] * SEED_SIDE**2
    layers: list[nn.Module] = [
        nn.Linear(latent, features, bias=False),
        nn.BatchNorm1d(features),
        nn.ReLU(),
        nn.Unflatten(1, (widths[0], SEED_SIDE, SEED_SIDE)),
    ]
    for before, after in pairwise(widths):
        up = nn.ConvTranspose2d(before, after, 5, stride=2, padding=2, output_padding=1, bias=False)
        layers += [up, nn.BatchNorm2d(after), nn.ReLU()]
    return [*layers, nn.ConvTranspose2d(widths[-1], shape[0], 5, stride=2, padding=2, output_padding=1)]


def _dense_generator(shape: Shape, latent: int, widths: Sequence[int]) -> list[nn.Module]:
    layers: list[nn.Module] = []
    for before, after in pairwise([latent, *widths]):
        layers += [nn.Linear(before, after), nn.ReLU()]
    return [*layers, nn.Linear(widths[-1], math.prod(shape)), nn.Unflatten(1, shape)]


def body(kind: str, shape: Shape, widths: Sequence[int]) -> tuple[nn.Sequential, int]:
    """The layers shared by critics and encoders, images (B,C,H,W) -> features (B,F), and F. No batch normalisation.

    ``colour``: instance normalisation in all layers but the first. The published final 4x4 convolution is a linear
    layer on these features.
    """
    layers: list[nn.Module] = []
    if kind == "dense":
        for before, after in pairwise([math.prod(shape), *widths]):
            layers += [nn.Linear(before, after), nn.ReLU()]
        return nn.Sequential(nn.Flatten(), *layers), widths[-1]
    for number, (before, after) in enumerate(pairwise([shape[0], *widths])):
        layers.append(nn.Conv2d(before, after, 5, stride=2, padding=2))
        if kind == "colour":
            norm = [nn.InstanceNorm2d(after, affine=True)] if number else []
            layers += [*norm, nn.LeakyReLU(0.2)]
        else:
            layers.append(nn.ReLU())
    return nn.Sequential(*layers, nn.Flatten()), widths[-1] * SEED_SIDE**2


class Critic(nn.Module):
    """A critic: images (B,C,H,W) -> scores (B,), any real values, no sigmoid."""

    def __init__(self, kind: str, shape: Shape, widths: Sequence[int]) -> None:
        super().__init__()
        self.body, features = body(kind, shape, widths)
        self.score = nn.Linear(features, 1)

    def forward(self, image: Tensor) -> Tensor:
        """Scores; larger means more like real images."""
        score: Tensor = self.score(self.body(image))
        return score.squeeze(1)


class DenseImputer(nn.Module):
    """MisGAN's imputer for MNIST: linear layers with ReLU, then a sigmoid; (B,C,H,W) -> (B,C,H,W) in [0, 1]."""

    def __init__(self, shape: Shape, widths: Sequence[int]) -> None:
        super().__init__()
        check_counts("imputer.imputer_widths", widths)
        layers: list[nn.Module] = []
        size = math.prod(shape)
        for before, after in pairwise([size, *widths]):
            layers += [nn.Linear(before, after), nn.ReLU()]
        self.layers = nn.Sequential(nn.Flatten(), *layers, nn.Linear(widths[-1], size), nn.Unflatten(1, shape))

    def forward(self, image: Tensor) -> Tensor:
        """The raw output (B,C,H,W), in which observed pixels are not put back."""
        return torch.sigmoid(self.layers(image))


class UNet(nn.Module):
    """MisGAN's imputer for colour images, a pix2pix U-Net: (B,C,H,W) -> (B,C,H,W) in [0, 1].

    Args:
        channels: C.
        side: H = W, divisible by 2^len(widths).
        widths: channels after each downsampling.

    Raises:
        LacunaError: the side is not divisible so often.
    """

    def __init__(self, channels: int, side: int, widths: Sequence[int]) -> None:
        super().__init__()
        check_counts("imputer.imputer_widths", widths)
        if side % 2 ** len(widths):
            raise LacunaError(
                f"imputer.imputer_widths={list(widths)} downsamples images {len(widths)} times by 2, which a side of "
                f"{side} does not allow: give fewer widths."
            )
        last = len(widths) - 1
        self.down, self.up = nn.ModuleList(), nn.ModuleList()
        for level, (outer, inner) in enumerate(pairwise([channels, *widths])):
            normed = 0 < level < last
            down = nn.Conv2d(outer, inner, 4, stride=2, padding=1, bias=False)
            self.down.append(nn.Sequential(down, *([nn.BatchNorm2d(inner)] if normed else [])))
            joined = inner if level == last else 2 * inner
            up = nn.ConvTranspose2d(joined, outer, 4, stride=2, padding=1, bias=level == 0)
            self.up.append(nn.Sequential(nn.ReLU(), up, *([nn.BatchNorm2d(outer)] if level else [])))

    def forward(self, image: Tensor) -> Tensor:
        """The raw output (B,C,H,W), in which observed pixels are not put back."""
        skips: list[Tensor] = []
        features = image
        for level, down in enumerate(self.down):
            if level:  # as published, skip connections carry activated features (in-place activation)
                features = nn.functional.leaky_relu(features, 0.2)
                skips.append(features)
            features = down(features)
        for level in range(len(self.up) - 1, -1, -1):
            features = self.up[level](features)
            if level:
                features = torch.cat([skips[level - 1], features], 1)
        return torch.sigmoid(features)
