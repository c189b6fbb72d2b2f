"""The latent map H of MCFlow (Richardson et al. 2020; Bernal, arXiv 2104.01482, section 4), and our variants.

All are (B,C,H,W) -> (B,C,H,W). With ``residual`` (ours) the output is the input plus the network's output, which is
initially 0, so that the first reconstruction is the current imputation. As published the first reconstruction is the
image of latent values near zero.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from lacuna.nets.checks import check_counts
from lacuna.nets.coupling_net import CouplingNet
from lacuna.nets.dense_net import DenseNet


class DenseLatent(nn.Module):
    """A fully connected latent map, as published.

    Args:
        shape: (C, H, W).
        widths: of the hidden layers; None = four as wide as the image (MCFlow's code).
        residual: whether the input is added to the output.

    Raises:
        LacunaError: a size is not a whole number of at least 1.
    """

    def __init__(self, shape: Sequence[int], widths: Sequence[int] | None = None, residual: bool = False) -> None:
        super().__init__()
        check_counts("imputer.shape", shape)
        size = math.prod(shape)
        self.net = DenseNet(size, size, [size] * 4 if widths is None else widths)
        self.residual = residual
        if residual:
            last = self.net.layers[-1]
            assert isinstance(last, nn.Linear)
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)

    def forward(self, z: Tensor) -> Tensor:
        """Mapped latent values (B,C,H,W)."""
        mapped: Tensor = self.net(z.flatten(1)).to(z.dtype).view(z.shape)
        return z + mapped if self.residual else mapped


class ConvolutionalLatent(nn.Module):
    """A convolutional latent map (ours), for flows whose latent values keep their places in the image.

    Args:
        shape: (C, H, W).
        width: channels inside. blocks: number of residual blocks (``nets/coupling_net.py``).
        residual: whether the input is added to the output.

    Raises:
        LacunaError: a size is not a whole number of at least 1.
    """

    def __init__(self, shape: Sequence[int], width: int = 32, blocks: int = 4, residual: bool = True) -> None:
        super().__init__()
        check_counts("imputer.shape", shape)
        self.net = CouplingNet(shape[0], shape[0], width, blocks)
        self.residual = residual
        if residual:
            assert self.net.head.gain is not None
            with torch.no_grad():
                self.net.head.gain.zero_()

    def forward(self, z: Tensor) -> Tensor:
        """Mapped latent values (B,C,H,W)."""
        mapped: Tensor = self.net(z).to(z.dtype)
        return z + mapped if self.residual else mapped
