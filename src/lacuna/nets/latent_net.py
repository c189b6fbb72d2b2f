"""MCFlow's network H between latent values (Richardson et al. 2020; Bernal, arXiv 2104.01482, section 4), and ours.

All are (B,C,H,W) -> (B,C,H,W). ``residual``, ours, adds what the network says to its input, at first nothing: then the
first guess is the current imputation; as published it is the image of latent values near zero.
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
    """Fully connected, as published.

    Args:
        shape: (C, H, W).
        widths: of the hidden layers; None = four as wide as the image (MCFlow's code).
        residual: whether to add to the input.

    Raises:
        LacunaError: a size that is not a whole number of at least 1.
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
        """Latent values moved towards likely ones."""
        moved: Tensor = self.net(z.flatten(1)).to(z.dtype).view(z.shape)
        return z + moved if self.residual else moved


class ConvolutionalLatent(nn.Module):
    """Convolutional, for flows whose latent image has the places of the image.

    Args:
        shape: (C, H, W).
        width: channels inside. blocks: residual blocks (``nets/coupling_net.py``).
        residual: whether to add to the input.

    Raises:
        LacunaError: a size that is not a whole number of at least 1.
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
        """Latent values moved towards likely ones."""
        moved: Tensor = self.net(z).to(z.dtype)
        return z + moved if self.residual else moved
