"""Inception-ResNet-v1, the network of FaceNet, in the layout of its published PyTorch weights.

Szegedy et al., "Inception-v4, Inception-ResNet and the impact of residual connections on learning" (2016); Schroff et
al., "FaceNet" (2015). Layers and names are those of facenet-pytorch (T. Esler, MIT licence), so that its weight files
can be read without that package, which requires a torch older than 2.3.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

DIMENSIONS = 512

Kernel = int | tuple[int, int]


class BasicConv2d(nn.Module):
    """Convolution without bias, batch normalisation, ReLU; no padding, or (``padded``) half the kernel."""

    def __init__(
        self, in_channels: int, out_channels: int, kernel: Kernel, stride: int = 1, *, padded: bool = False
    ) -> None:
        super().__init__()
        sides = (kernel, kernel) if isinstance(kernel, int) else kernel
        padding = (sides[0] // 2, sides[1] // 2) if padded else 0
        self.conv = nn.Conv2d(in_channels, out_channels, kernel, stride, padding, bias=False)
        self.bn = nn.BatchNorm2d(out_channels, eps=1e-3)

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_channels, H, W) -> (B, out_channels, H', W'), >= 0."""
        out: Tensor = self.bn(self.conv(x)).relu()
        return out


def _branch(in_channels: int, *layers: tuple[int, Kernel], stride: int = 1) -> nn.Sequential:
    """A sequence of padded convolutions (filters, kernel); with a stride above 1 the last has it, and no padding."""
    made = []
    for number, (out_channels, kernel) in enumerate(layers, 1):
        shrinks = stride > 1 and number == len(layers)
        made.append(BasicConv2d(in_channels, out_channels, kernel, stride if shrinks else 1, padded=not shrinks))
        in_channels = out_channels
    return nn.Sequential(*made)


class Parallel(nn.Module):
    """Branches with the same input, whose outputs are concatenated by channels; named branch0, branch1, ..."""

    def __init__(self, *branches: nn.Module) -> None:
        super().__init__()
        self.names = [f"branch{number}" for number in range(len(branches))]
        for name, branch in zip(self.names, branches, strict=True):
            self.add_module(name, branch)

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_channels, H, W) -> (B, sum of the branches' channels, H', W')."""
        return torch.cat([self.get_submodule(name)(x) for name in self.names], 1)


class Residual(Parallel):
    """Adds to its input the branches' output, after a 1x1 convolution and multiplied by ``scale``; then ReLU."""

    def __init__(self, channels: int, joined: int, scale: float, *branches: nn.Module, relu: bool = True) -> None:
        super().__init__(*branches)
        self.scale, self.relu = scale, relu
        self.conv2d = nn.Conv2d(joined, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, channels, H, W) -> the same shape."""
        out: Tensor = self.conv2d(super().forward(x)) * self.scale + x
        return out.relu() if self.relu else out


def block35() -> Residual:
    """Block of 256 channels; at 35x35 positions in Szegedy et al., at 17x17 here."""
    branches = (BasicConv2d(256, 32, 1), _branch(256, (32, 1), (32, 3)), _branch(256, (32, 1), (32, 3), (32, 3)))
    return Residual(256, 96, 0.17, *branches)


def block17() -> Residual:
    """Block of 896 channels."""
    return Residual(896, 256, 0.10, BasicConv2d(896, 128, 1), _branch(896, (128, 1), (128, (1, 7)), (128, (7, 1))))


def block8(scale: float = 0.20, *, relu: bool = True) -> Residual:
    """Block of 1792 channels."""
    branches = (BasicConv2d(1792, 192, 1), _branch(1792, (192, 1), (192, (1, 3)), (192, (3, 1))))
    return Residual(1792, 384, scale, *branches, relu=relu)


def mixed_6a() -> Parallel:
    """Downsampling block: 256 -> 896 channels, half the side."""
    narrow = _branch(256, (192, 1), (192, 3), (256, 3), stride=2)
    return Parallel(BasicConv2d(256, 384, 3, 2), narrow, nn.MaxPool2d(3, 2))


def mixed_7a() -> Parallel:
    """Downsampling block: 896 -> 1792 channels, half the side."""
    short = [_branch(896, (256, 1), (filters, 3), stride=2) for filters in (384, 256)]
    return Parallel(*short, _branch(896, (256, 1), (256, 3), (256, 3), stride=2), nn.MaxPool2d(3, 2))


class InceptionResNetV1(nn.Module):
    """Embeddings of faces. Its input is 160x160 pixels in about [-1, 1]: (255 x - 127.5) / 128 for x in [0, 1].

    Shape:
        (B, 3, H, W), sides of at least 75 -> (B, 512), each of norm 1.
    """

    def __init__(self) -> None:
        super().__init__()
        self.conv2d_1a = BasicConv2d(3, 32, 3, 2)
        self.conv2d_2a = BasicConv2d(32, 32, 3)
        self.conv2d_2b = BasicConv2d(32, 64, 3, padded=True)
        self.maxpool_3a = nn.MaxPool2d(3, 2)
        self.conv2d_3b = BasicConv2d(64, 80, 1)
        self.conv2d_4a = BasicConv2d(80, 192, 3)
        self.conv2d_4b = BasicConv2d(192, 256, 3, 2)
        self.repeat_1 = nn.Sequential(*[block35() for _ in range(5)])
        self.mixed_6a = mixed_6a()
        self.repeat_2 = nn.Sequential(*[block17() for _ in range(10)])
        self.mixed_7a = mixed_7a()
        self.repeat_3 = nn.Sequential(*[block8() for _ in range(5)])
        self.block8 = block8(1.0, relu=False)
        self.last_linear = nn.Linear(1792, DIMENSIONS, bias=False)
        self.last_bn = nn.BatchNorm1d(DIMENSIONS, eps=1e-3)

    def forward(self, x: Tensor) -> Tensor:
        """The embeddings (B, 512), of norm 1."""
        x = self.maxpool_3a(self.conv2d_2b(self.conv2d_2a(self.conv2d_1a(x))))
        x = self.conv2d_4b(self.conv2d_4a(self.conv2d_3b(x)))
        x = self.repeat_2(self.mixed_6a(self.repeat_1(x)))
        x = self.block8(self.repeat_3(self.mixed_7a(x)))
        return functional.normalize(self.last_bn(self.last_linear(x.mean((2, 3)))))
