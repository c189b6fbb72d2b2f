"""The multi-scale layout of RealNVP (Dinh et al. 2017) as in ACFlow's code: the latent image has the image's shape."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from lacuna.errors import LacunaError
from lacuna.flows.base import Condition, Flow, diagonal, with_diagonal
from lacuna.flows.coupling import ChannelCoupling, CheckerCoupling, MakeNet
from lacuna.nets.checks import check_count


class MultiScale(Flow):
    """Per scale three checkerboard couplings and three channel couplings on 2x2 cells; the cells' diagonals go on.

    The two diagonal pixels of every cell are the input of the next coarser scale, which has twice the channels and
    twice the width. The other two are latent values already and stay in their places. The coarsest scale has four
    checkerboard couplings only.

    Args:
        channels: of the images.
        scales: number of scales; the sides of the images must be multiples of 2^(scales - 1).
        width: of the networks at the finest scale.
        make: builds a network.
        context: channels of the condition's context, 0 for none.
    """

    def __init__(self, channels: int, scales: int, width: int, make: MakeNet, context: int = 0) -> None:
        super().__init__()
        check_count("flow.scales", scales)
        check_count("flow.width", width)
        self.checkerboards = nn.ModuleList(
            CheckerCoupling(channels, width, parity, make, context)
            for parity in ((0, 1, 0, 1) if scales == 1 else (0, 1, 0))
        )
        self.channels = nn.ModuleList()
        self.coarse: MultiScale | None = None
        if scales > 1:
            self.channels.extend(
                ChannelCoupling(4 * channels, 2 * width, half, make, 4 * context) for half in (1, 0, 1)
            )
            self.coarse = MultiScale(2 * channels, scales - 1, 2 * width, make, 4 * context)

    def forward(self, x: Tensor, condition: Condition | None = None) -> tuple[Tensor, Tensor]:
        """See :meth:`lacuna.flows.base.Flow.forward`."""
        condition = condition or Condition.unconditional(x)
        x, log_det = _through(self.checkerboards, x, condition)
        if self.coarse is None:
            return x, log_det
        cells, more = _through(self.channels, functional.pixel_unshuffle(x, 2), condition.squeeze())
        x = functional.pixel_shuffle(cells, 2)
        z, most = self.coarse(diagonal(x), condition.coarse())
        return with_diagonal(x, z), log_det + more + most

    def inverse(self, z: Tensor, condition: Condition | None = None) -> tuple[Tensor, Tensor]:
        """See :meth:`lacuna.flows.base.Flow.inverse`."""
        condition = condition or Condition.unconditional(z)
        log_det = z.new_zeros(len(z))
        if self.coarse is not None:
            x, most = self.coarse.inverse(diagonal(z), condition.coarse())
            cells, more = _back(self.channels, functional.pixel_unshuffle(with_diagonal(z, x), 2), condition.squeeze())
            z, log_det = functional.pixel_shuffle(cells, 2), most + more
        x, last = _back(self.checkerboards, z, condition)
        return x, log_det + last


def check_sides(sides: tuple[int, int], scales: int, *, pads: bool = True) -> None:
    """Check that the sides of the images can be halved often enough for the scales.

    Args:
        sides: of the images. scales: of the flow. pads: whether the flow can pad images (``flow.pad``).

    Raises:
        LacunaError: they cannot (the message says which sides can), or ``scales`` is no whole number of at least 1.
    """
    check_count("flow.scales", scales)
    step = 2 ** (scales - 1)
    if any(side % step for side in sides):
        advice = "pad them on each side with flow.pad, or use fewer scales" if pads else "use fewer scales"
        raise LacunaError(
            f"flow.scales={scales} needs images whose sides are multiples of {step}, not "
            f"{sides[0]}x{sides[1]}: {advice}."
        )


def _through(couplings: nn.ModuleList, x: Tensor, condition: Condition) -> tuple[Tensor, Tensor]:
    """Apply all couplings in order."""
    log_det = x.new_zeros(len(x))
    for coupling in couplings:
        x, change = coupling(x, condition)
        log_det = log_det + change
    return x, log_det


def _back(couplings: nn.ModuleList, z: Tensor, condition: Condition) -> tuple[Tensor, Tensor]:
    """Apply the inverses of all couplings in reverse order."""
    log_det = torch.zeros(len(z), dtype=z.dtype, device=z.device)
    for coupling in reversed(couplings):
        assert isinstance(coupling, Flow)
        z, change = coupling.inverse(z, condition)
        log_det = log_det + change
    return z, log_det
