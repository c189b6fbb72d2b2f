"""The network inside ACFlow's couplings: a weight-normalised residual network with skip connections to the output.

Source: the public code of ACFlow (Li et al. 2020), which adopts it from RealNVP (Dinh et al. 2017).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from lacuna.nets.checks import check_count


class UnitConv2d(nn.Module):
    """A weight-normalised convolution whose filters have norm 1 or a learned norm; zero padding, same size.

    It differs from torch's ``weight_norm``, which always learns the norms.

    Args:
        in_channels, out_channels: numbers of channels.
        kernel: odd size.
        gain: whether each filter has a learned norm, initially kernel * sqrt(1/6).
    """

    one: Tensor

    def __init__(self, in_channels: int, out_channels: int, kernel: int, gain: bool = False) -> None:
        super().__init__()
        bound = math.sqrt(2 / in_channels)  # as published; only directions matter
        self.direction = nn.Parameter(torch.empty(out_channels, in_channels, kernel, kernel).uniform_(-bound, bound))
        self.gain = nn.Parameter(torch.full((out_channels, 1, 1, 1), kernel * math.sqrt(1 / 6))) if gain else None
        self.register_buffer("one", torch.ones(out_channels, 1, 1, 1), persistent=False)
        self.bias = nn.Parameter(torch.zeros(out_channels))
        self.padding = kernel // 2

    def weight(self) -> Tensor:
        """The normalised weight (out_channels, in_channels, kernel, kernel)."""
        # the kernel behind torch's weight_norm: 3 to 6 times as fast as separate tensor operations
        return torch._weight_norm(self.direction, self.one if self.gain is None else self.gain, 0)

    def forward(self, x: Tensor) -> Tensor:
        """(B,in_channels,H,W) -> (B,out_channels,H,W)."""
        return functional.conv2d(x, self.weight(), self.bias, padding=self.padding)


class Block(nn.Module):
    """h + [relu, 1x1, relu, 3x3, relu, 1x1](h); only the last convolution has gains."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = UnitConv2d(width, width, 1)
        self.second = UnitConv2d(width, width, 3)
        self.third = UnitConv2d(width, width, 1, gain=True)

    def forward(self, h: Tensor) -> Tensor:
        """(B,width,H,W) -> (B,width,H,W)."""
        r = self.first(h.relu()).relu_()
        r = self.second(r).relu_()
        out: Tensor = h + self.third(r)
        return out


class CouplingNet(nn.Module):
    """A 3x3 convolution, residual blocks, and a 1x1 convolution of the sum of the outputs of each (through 1x1).

    Args:
        in_channels, out_channels: numbers of channels.
        width: channels inside.
        blocks: number of residual blocks.

    Raises:
        LacunaError: a size is not a whole number of at least 1.
    """

    def __init__(self, in_channels: int, out_channels: int, width: int, blocks: int) -> None:
        super().__init__()
        check_count("flow.width", width)
        check_count("flow.net.blocks", blocks)
        self.stem = UnitConv2d(in_channels, width, 3)
        self.blocks = nn.ModuleList(Block(width) for _ in range(blocks))
        self.skips = nn.ModuleList(UnitConv2d(width, width, 1, gain=True) for _ in range(blocks + 1))
        self.head = UnitConv2d(width, out_channels, 1, gain=True)

    def forward(self, x: Tensor) -> Tensor:
        """(B,in_channels,H,W) -> (B,out_channels,H,W)."""
        h = self.stem(x)
        total = self.skips[0](h)
        for block, skip in zip(self.blocks, self.skips[1:], strict=True):
            h = block(h)
            total = total + skip(h)
        out: Tensor = self.head(total.relu())
        return out
