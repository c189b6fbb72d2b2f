"""Affine couplings whose active set differs from image to image (ACFlow, Li et al. 2020, and its public code).

Some values are kept; a network that reads them maps the hidden ones among the rest by y = (x + t) exp(s). Observed
values are never mapped, so the log-determinant is the sum of s over the mapped ones.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable

import torch
from torch import Tensor, nn

from lacuna.flows.base import Condition, Flow

MakeNet = Callable[[int, int, int], nn.Module]
"""(input channels, output channels, width) -> a network that keeps the size of its images."""


class Coupling(Flow):
    """What the partitions share: s = alpha * tanh(a) + beta, with t and a from the network.

    Args:
        net: the network; its output is t and a, one after the other.
        alpha: its first value; at 0 a new coupling changes no volume.
    """

    def __init__(self, net: nn.Module, alpha: float) -> None:
        super().__init__()
        self.net = net
        self.alpha = nn.Parameter(torch.tensor(alpha))
        self.beta = nn.Parameter(torch.tensor(0.0))

    def forward(self, x: Tensor, condition: Condition | None = None) -> tuple[Tensor, Tensor]:
        """See :meth:`lacuna.flows.base.Flow.forward`."""
        part, shift, scale = self._affine(x, condition or Condition.nothing(x))
        return self._replaced(x, (part + shift) * scale.exp()), scale.flatten(1).sum(1)

    def inverse(self, z: Tensor, condition: Condition | None = None) -> tuple[Tensor, Tensor]:
        """See :meth:`lacuna.flows.base.Flow.inverse`."""
        part, shift, scale = self._affine(z, condition or Condition.nothing(z))
        return self._replaced(z, part * scale.neg().exp() - shift), -scale.flatten(1).sum(1)

    def _affine(self, x: Tensor, condition: Condition) -> tuple[Tensor, Tensor, Tensor]:
        """The part that is mapped, its shift and its log-scale; both are 0 where a value stays."""
        part, active, told = self._partition(x, condition)
        if condition.context is not None:
            told = torch.cat([told, condition.context], 1)
        # the exponential and the log-determinant stay in x's precision under autocasting
        shift, raw = self.net(told).to(x.dtype).chunk(2, 1)
        return part, shift * active, (self.alpha * raw.tanh() + self.beta) * active

    @abstractmethod
    def _partition(self, x: Tensor, condition: Condition) -> tuple[Tensor, Tensor, Tensor]:
        """The part of ``x`` in which something is mapped, where (1, else 0), and what the network reads."""

    @abstractmethod
    def _replaced(self, x: Tensor, part: Tensor) -> Tensor:
        """``x`` with that part replaced."""


class CheckerCoupling(Coupling):
    """Keeps the observed values and one colour of the checkerboard.

    Args:
        channels: of the images.
        width: of the network.
        parity: 0 or 1, of row + column of the pixels that are kept.
        make: makes the network.
        context: channels of the condition's context, 0 for none.
    """

    def __init__(self, channels: int, width: int, parity: int, make: MakeNet, context: int = 0) -> None:
        super().__init__(make(3 * channels + context, 2 * channels, width), alpha=0.0)
        self.parity = parity

    def _partition(self, x: Tensor, condition: Condition) -> tuple[Tensor, Tensor, Tensor]:
        board = checkerboard(x, self.parity)
        kept = condition.observed + condition.hidden * board
        told = x * kept
        return x, condition.hidden * (1 - board), torch.cat([told.relu(), told.neg().relu(), kept], 1)

    def _replaced(self, x: Tensor, part: Tensor) -> Tensor:
        return part


class ChannelCoupling(Coupling):
    """Keeps one half of the channels and the observed values of the other half.

    The network reads the kept half only: as published neither the mask nor, without a context, what the other half
    shows. With a context it is told which values of the kept half are missing.

    Args:
        channels: of the images, an even number.
        width: of the network.
        half: 0 or 1, the half that is mapped.
        make: makes the network.
        context: channels of the condition's context, 0 for none.
    """

    def __init__(self, channels: int, width: int, half: int, make: MakeNet, context: int = 0) -> None:
        each = channels // 2
        super().__init__(make(2 * each + (each + context if context else 0), 2 * each, width), alpha=1.0)
        self.mapped = half

    def _partition(self, x: Tensor, condition: Condition) -> tuple[Tensor, Tensor, Tensor]:
        halves = x.chunk(2, 1)
        kept = halves[1 - self.mapped]
        told = [kept.relu(), kept.neg().relu()]
        if condition.context is not None:
            told.append(condition.present.chunk(2, 1)[1 - self.mapped])
        return halves[self.mapped], condition.hidden.chunk(2, 1)[self.mapped], torch.cat(told, 1)

    def _replaced(self, x: Tensor, part: Tensor) -> Tensor:
        kept = x.chunk(2, 1)[1 - self.mapped]
        return torch.cat([part, kept] if self.mapped == 0 else [kept, part], 1)


def checkerboard(x: Tensor, parity: int) -> Tensor:
    """(H,W) of the type of ``x`` (B,C,H,W): 1 where row + column has that parity."""
    rows, columns = (torch.arange(n, device=x.device) for n in x.shape[-2:])
    return ((rows[:, None] + columns) % 2 == parity).to(x.dtype)
