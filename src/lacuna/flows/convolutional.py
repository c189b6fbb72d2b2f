"""A convolutional multi-scale RealNVP (Dinh et al. 2017), our alternative to MCFlow's fully connected flow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from lacuna.errors import LacunaError
from lacuna.flows.base import Condition
from lacuna.flows.multiscale import MultiScale, check_sides
from lacuna.flows.normal import NormalFlow
from lacuna.nets.checks import check_counts
from lacuna.registry import build

COUPLINGS = {"type": "coupling_net.CouplingNet", "blocks": 2}


class ConvolutionalRealNVP(NormalFlow):
    """Checkerboard and channel couplings with convolutions; the latent image has the shape of the image.

    The published, fully connected flow has 453 million weights for 3x32x32 values and makes no use of neighbourhood;
    this one has a few million. Its log-scales are not bounded, so train it with ``imputer.training.noise`` above 0:
    else the density grows without bound at pixels that are always the same.

    Args:
        shape: (C, H, W) of the images; both sides multiples of 2^(scales - 1).
        scales: number of scales. width: of the networks at the finest scale, doubled at each coarser one.
        net: spec of the networks (``nets/coupling_net.py``).

    Raises:
        LacunaError: a size is no whole number of at least 1, or the sides cannot be halved so often.
    """

    def __init__(
        self, shape: Sequence[int], scales: int = 3, width: int = 32, net: Mapping[str, Any] | None = None
    ) -> None:
        super().__init__()
        check_counts("flow.shape", shape)
        channels, height, width_ = shape
        check_sides((height, width_), scales, pads=False)
        spec = net or COUPLINGS

        def make(in_channels: int, out_channels: int, width: int) -> nn.Module:
            made: nn.Module = build("net", spec, in_channels=in_channels, out_channels=out_channels, width=width)
            return made

        self.layout = MultiScale(channels, scales, width, make)

    def forward(self, x: Tensor, condition: Condition | None = None) -> tuple[Tensor, Tensor]:
        """See :meth:`lacuna.flows.base.Flow.forward`; ``condition`` must be None."""
        _refuse(condition)
        found: tuple[Tensor, Tensor] = self.layout(x)
        return found

    def inverse(self, z: Tensor, condition: Condition | None = None) -> tuple[Tensor, Tensor]:
        """See :meth:`lacuna.flows.base.Flow.inverse`; ``condition`` must be None."""
        _refuse(condition)
        return self.layout.inverse(z)


def _refuse(condition: Condition | None) -> None:
    if condition is not None:
        raise LacunaError("The convolutional RealNVP takes no condition: it transforms whole images.")
