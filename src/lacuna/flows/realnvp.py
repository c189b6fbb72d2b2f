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
    """An affine coupling with a fixed coupling mask: the kept half of the values decides s, t in y = x exp(s) + t.

    s lies between -1 and 1 (tanh), so that a coupling changes the volume by a factor of at most exp(D/2).

    Args:
        mask: (D,) bool, the coupling mask: True = kept, of the flattened image.
        widths: of the hidden layers of the two networks, one for s and one for t.
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
            raise LacunaError("RealNVP takes no condition: it transforms whole images.")
        flat = x.reshape(len(x), -1)
        kept = torch.where(self.mask, flat, 0)
        # the exponential and the log-determinant stay in x's precision under autocasting
        scale, shift = self.scale(kept).to(x.dtype), self.shift(kept).to(x.dtype)
        return flat, torch.where(self.mask, 0, scale), torch.where(self.mask, 0, shift)


class RealNVP(NormalFlow):
    """Couplings in pairs, with a random coupling mask and its complement, to a standard normal distribution.

    As published: six couplings, three hidden layers as wide as the image (29.5 million parameters for MNIST, 453
    million for 3x32x32), no dequantisation and no logit. The density is bounded by the couplings alone:
    -log p >= D (log(2 pi)/2 - couplings/2), which is -2.08 D for six.

    Args:
        shape: (C, H, W) of the images.
        couplings: their number, even.
        widths: of the hidden layers of the networks; None = three as wide as the image.

    Raises:
        LacunaError: a size is no whole number of at least 1, ``couplings`` is odd, or the image has a single value.
    """

    def __init__(self, shape: Sequence[int], couplings: int = 6, widths: Sequence[int] | None = None) -> None:
        super().__init__()
        check_counts("flow.shape", shape)
        check_count("flow.couplings", couplings)
        if couplings % 2:
            raise LacunaError(f"flow.couplings={couplings} must be an even number: couplings come in pairs.")
        self.size = math.prod(shape)
        if self.size < 2:
            raise LacunaError("RealNVP needs images of at least two values: one half transforms the other.")
        widths = [self.size] * 3 if widths is None else widths
        check_counts("flow.widths", widths)
        self.couplings = nn.ModuleList()
        for _ in range(couplings // 2):
            mask = random_coupling_mask(self.size)
            self.couplings.extend([MaskedCoupling(mask, widths), MaskedCoupling(~mask, widths)])

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
    def nll_bound(self) -> float:
        """Lower bound of -log p of any image: every second coupling scales a value, by e at most."""
        return self.size * 0.5 * (math.log(2 * math.pi) - len(self.couplings))


def random_coupling_mask(size: int) -> Tensor:
    """A random coupling mask, (size,) bool, of which size // 2 are False.

    As published it is drawn by coin flips until one kind is used up, so that a short tail is all of one kind. Drawn
    from torch's global generator, like the weights.
    """
    coins = torch.randint(2, (size,)).bool()
    falses, trues = (~coins).cumsum(0), coins.cumsum(0)
    coins = coins | (falses > size // 2)
    return coins & (trues <= size - size // 2)
