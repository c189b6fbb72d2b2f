"""RealNVP on flattened images with fully connected networks: the flow of MCFlow and PRFlow.

Sources: Richardson et al. 2020 (MCFlow) and its public code; Bernal, arXiv 2104.01482, section 4 ("six affine coupling
layers").
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from lacuna.errors import LacunaError
from lacuna.flows.base import Condition, Flow
from lacuna.flows.normal import NormalFlow
from lacuna.nets.checks import check_count, check_counts
from lacuna.nets.dense_net import DenseNet


class MaskedCoupling(Flow):
    """Keeps one half of the values, fixed at random, which decide how the others are mapped: y = x exp(s) + t.

    s lies within -1 and 1 (tanh), so that a coupling changes no volume by more than exp(D/2).

    Args:
        kept: (D,) bool, the half that stays, of the flattened image.
        widths: of the hidden layers of the two networks, of s and of t.
    """

    mask: Tensor

    def __init__(self, mask: Tensor, widths: Sequence[int]) -> None:
        super().__init__()
        self.register_buffer("mask", mask)
        self.scale = DenseNet(len(mask), len(mask), widths, bounded=True)
        self.shift = DenseNet(len(mask), len(mask), widths)

    def forward(self, x: Tensor, condition: Condition | None = None) -> tuple[Tensor, Tensor]:
        """See :meth:`lacuna.flows.base.Flow.forward`."""
        flat, scale, shift = self._affine(x, condition)
        return torch.where(self.mask, flat, flat * scale.exp() + shift).view(x.shape), scale.sum(1)

    def inverse(self, z: Tensor, condition: Condition | None = None) -> tuple[Tensor, Tensor]:
        """See :meth:`lacuna.flows.base.Flow.inverse`."""
        flat, scale, shift = self._affine(z, condition)
        return torch.where(self.mask, flat, (flat - shift) * scale.neg().exp()).view(z.shape), -scale.sum(1)

    def _affine(self, x: Tensor, condition: Condition | None) -> tuple[Tensor, Tensor, Tensor]:
        """The flat image (B,D), log-scales and shifts; these are 0 where a value is kept."""
        if condition is not None:
            raise LacunaError("RealNVP knows no condition: it maps whole images.")
        flat = x.reshape(len(x), -1)
        told = torch.where(self.mask, flat, 0)
        # the exponential and the log-determinant stay in x's precision under autocasting
        scale, shift = self.scale(told).to(x.dtype), self.shift(told).to(x.dtype)
        return flat, torch.where(self.mask, 0, scale), torch.where(self.mask, 0, shift)


class RealNVP(NormalFlow):
    """Couplings in pairs: a random half, then the other one; to a standard normal distribution.

    As published: six couplings, three hidden layers as wide as the image (29.5 million parameters for MNIST, 453 for
    3x32x32), no dequantisation and no logit, so that the density of images has but one bound,
    -log p >= D (log(2 pi)/2 - couplings/2), which is -2.08 D for six.

    Args:
        shape: (C, H, W) of the images.
        couplings: how many, an even number.
        widths: of the hidden layers of the networks; None = three as wide as the image.

    Raises:
        LacunaError: a size that is none.
    """

    def __init__(self, shape: Sequence[int], couplings: int = 6, widths: Sequence[int] | None = None) -> None:
        super().__init__()
        check_counts("flow.shape", shape)
        check_count("flow.couplings", couplings)
        if couplings % 2:
            raise LacunaError(f"flow.couplings={couplings} must be an even number: they come in pairs.")
        self.size = math.prod(shape)
        if self.size < 2:
            raise LacunaError("RealNVP needs images of at least two values: one half decides on the other.")
        widths = [self.size] * 3 if widths is None else widths
        check_counts("flow.widths", widths)
        self.couplings = nn.ModuleList()
        for _ in range(couplings // 2):
            half = random_coupling_mask(self.size)
            self.couplings.extend([MaskedCoupling(half, widths), MaskedCoupling(~half, widths)])

    def forward(self, x: Tensor, condition: Condition | None = None) -> tuple[Tensor, Tensor]:
        """See :meth:`lacuna.flows.base.Flow.forward`; ``condition`` must be None."""
        log_det = x.new_zeros(len(x))
        for coupling in self.couplings:
            x, change = coupling(x, condition)
            log_det = log_det + change
        return x, log_det

    def inverse(self, z: Tensor, condition: Condition | None = None) -> tuple[Tensor, Tensor]:
        """See :meth:`lacuna.flows.base.Flow.inverse`; ``condition`` must be None."""
        log_det = z.new_zeros(len(z))
        for coupling in reversed(self.couplings):
            assert isinstance(coupling, Flow)
            z, change = coupling.inverse(z, condition)
            log_det = log_det + change
        return z, log_det

    @property
    def floor(self) -> float:
        """What -log p can never fall below: a value is scaled by e at most, in every second coupling."""
        return self.size * 0.5 * (math.log(2 * math.pi) - len(self.couplings))


def random_coupling_mask(size: int) -> Tensor:
    """(size,) bool of which size // 2, rounded down, are False; as published drawn by coins until one kind is used up.

    So a short tail is all of one kind. From torch's global generator, like the weights.
    """
    coins = torch.randint(2, (size,)).bool()
    falses, trues = (~coins).cumsum(0), coins.cumsum(0)
    coins = coins | (falses > size // 2)
    return coins & (trues <= size - size // 2)
