"""Affine couplings whose set of transformed values differs from image to image (ACFlow, Li et al. 2020, public code).

A coupling keeps some values. A network reads these and transforms the target values among the others:
y = (x + t) exp(s). Observed values are never transformed, so the log-determinant is the sum of s over the transformed
ones.
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
    """An affine coupling without its partition: s = alpha * tanh(a) + beta, with t and a from the network.

    Args:
        net: the network; the channels of its output are t, then a.
        alpha: its initial value; with 0 a new coupling preserves volume.
    """

    def __init__(self, net: nn.Module, alpha: float) -> None:
        super().__init__()
        self.net = net
        self.alpha = nn.Parameter(torch.tensor(alpha))
        self.beta = nn.Parameter(torch.tensor(0.0))

    def forward(self, x: Tensor, condition: Condition | None = None) -> tuple[Tensor, Tensor]:
        """See :meth:`lacuna.flows.base.Flow.forward`."""
        part, shift, scale = self._affine(x, condition or Condition.unconditional(x))
        return self._replaced(x, (part + shift) * scale.exp()), scale.flatten(1).sum(1)

    def inverse(self, z: Tensor, condition: Condition | None = None) -> tuple[Tensor, Tensor]:
        """See :meth:`lacuna.flows.base.Flow.inverse`."""
        part, shift, scale = self._affine(z, condition or Condition.unconditional(z))
        return self._replaced(z, part * scale.neg().exp() - shift), -scale.flatten(1).sum(1)

    def _affine(self, x: Tensor, condition: Condition) -> tuple[Tensor, Tensor, Tensor]:
        """The part of x with transformed values, its shift and its log-scale; both are 0 where a value stays."""
        part, active, inputs = self._partition(x, condition)
        if condition.context is not None:
            inputs = torch.cat([inputs, condition.context], 1)
        # the exponential and the log-determinant stay in x's precision under autocasting
        shift, raw = self.net(inputs).to(x.dtype).chunk(2, 1)
        return part, shift * active, (self.alpha * raw.tanh() + self.beta) * active

    @abstractmethod
    def _partition(self, x: Tensor, condition: Condition) -> tuple[Tensor, Tensor, Tensor]:
        """The part of ``x`` with transformed values, where these are (1, else 0), and the network's input."""

    @abstractmethod
    def _replaced(self, x: Tensor, part: Tensor) -> Tensor:
        """``x`` with that part replaced by ``part``."""


class CheckerCoupling(Coupling):
    """Keeps the observed values and the values on one colour of the checkerboard.

    Args:
        channels: of the images.
        width: of the network.
        parity: 0 or 1, that of row + column of the kept pixels.
        make: builds the network.
        context: channels of the condition's context, 0 for none.
    """

    def __init__(self, channels: int, width: int, parity: int, make: MakeNet, context: int = 0) -> None:
        super().__init__(make(3 * channels + context, 2 * channels, width), alpha=0.0)
        self.parity = parity

    def _partition(self, x: Tensor, condition: Condition) -> tuple[Tensor, Tensor, Tensor]:
        board = checkerboard(x, self.parity)
        kept = condition.observed + condition.target * board
        visible = x * kept
        return x, condition.target * (1 - board), torch.cat([visible.relu(), visible.neg().relu(), kept], 1)

    def _replaced(self, x: Tensor, part: Tensor) -> Tensor:
        return part


class ChannelCoupling(Coupling):
    """Keeps one half of the channels and the observed values of the other half.

    The network reads the kept half only. As published it gets no mask and, without a context, no observed values of the
    other half. With a context its input also says which values of the kept half are not missing.

    Args:
        channels: of the images, an even number.
        width: of the network.
        half: 0 or 1, the half that is transformed.
        make: builds the network.
        context: channels of the condition's context, 0 for none.
    """

    def __init__(self, channels: int, width: int, half: int, make: MakeNet, context: int = 0) -> None:
        each = channels // 2
        super().__init__(make(2 * each + (each + context if context else 0), 2 * each, width), alpha=1.0)
        self.transformed = half

    def _partition(self, x: Tensor, condition: Condition) -> tuple[Tensor, Tensor, Tensor]:
        parts = x.chunk(2, 1)
        kept = parts[1 - self.transformed]
        inputs = [kept.relu(), kept.neg().relu()]
        if condition.context is not None:
            inputs.append(condition.present.chunk(2, 1)[1 - self.transformed])
        return parts[self.transformed], condition.target.chunk(2, 1)[self.transformed], torch.cat(inputs, 1)

    def _replaced(self, x: Tensor, part: Tensor) -> Tensor:
        kept = x.chunk(2, 1)[1 - self.transformed]
        return torch.cat([part, kept] if self.transformed == 0 else [kept, part], 1)


def checkerboard(x: Tensor, parity: int) -> Tensor:
    """(H,W) of the type of ``x`` (B,C,H,W): 1 where row + column has that parity."""
    rows, columns = (torch.arange(n, device=x.device) for n in x.shape[-2:])
    return ((rows[:, None] + columns) % 2 == parity).to(x.dtype)
