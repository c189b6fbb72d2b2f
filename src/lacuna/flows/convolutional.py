"""A convolutional multi-scale RealNVP (Dinh et al. 2017) as the flow of MCFlow, whose own is fully connected."""

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

    The published, fully connected flow of 3x32x32 values has 453 million weights and knows no neighbours; this one has
    a few million at most. Its scales have no bound, so that images should come with noise
    (``imputer.training.noise``): else the density of pixels that are always the same grows without end.

    Args:
        shape: (C, H, W) of the images; both sides multiples of 2^(scales - 1).
        scales: how many. width: of the networks at the finest one, doubled with each coarser one.
        net: spec of the networks (``nets/coupling_net.py``).

    Raises:
        LacunaError: a size that is none, or sides that cannot be halved so often.
    """

    def __init__(
        self, shape: Sequence[int], scales: int = 3, width: int = 32, net: Mapping[str, Any] | None = None
    ) -> None:
        super().__init__()
        check_counts("flow.shape", shape)
        channels, height, width_ = shape
        check_sides((height, width_), scales, pads=False)
        spec = net or COUPLINGS

        def make(before: int, after: int, inside: int) -> nn.Module:
            made: nn.Module = build("net", spec, before=before, after=after, width=inside)
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
        raise LacunaError("The convolutional RealNVP knows no condition: it maps whole images.")
