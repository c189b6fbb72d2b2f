"""What every flow is: an invertible map of images that knows how it changes the volume; and what it may be told."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional


class Condition(NamedTuple):
    """Which values a conditional flow maps, and which it is told.

    A value is *observed* (passes unchanged, may be read), *hidden* (mapped and scored) or neither: truly missing
    (passes unchanged, is never read and stands at zero). So a flow can be trained on incomplete images: what is hidden
    is then hidden on purpose.

    Attributes:
        observed: (B,C,h,w) floating point, 1 = observed.
        hidden: (B,C,h,w), 1 = hidden; nowhere both.
        context: (B,E,h,w) what else every part may read at this resolution, or None.
    """

    observed: Tensor
    hidden: Tensor
    context: Tensor | None = None

    @property
    def present(self) -> Tensor:
        """(B,C,h,w), 1 where a value is not missing."""
        return self.observed + self.hidden

    def squeeze(self) -> Condition:
        """As :func:`torch.nn.functional.pixel_unshuffle` by 2: half the side, four times the channels."""
        return Condition(
            functional.pixel_unshuffle(self.observed, 2),
            functional.pixel_unshuffle(self.hidden, 2),
            None if self.context is None else functional.pixel_unshuffle(self.context, 2),
        )

    def coarse(self) -> Condition:
        """The next scale's: see :func:`diagonal`. The context keeps all of its values."""
        return Condition(
            diagonal(self.observed),
            diagonal(self.hidden),
            None if self.context is None else functional.pixel_unshuffle(self.context, 2),
        )

    @classmethod
    def nothing(cls, x: Tensor) -> Condition:
        """Everything is hidden: the flow is unconditional."""
        return cls(torch.zeros_like(x), torch.ones_like(x))


def diagonal(x: Tensor) -> Tensor:
    """The two diagonal pixels of every 2x2 cell as channels, (B,C,h,w) -> (B,2C,h/2,w/2)."""
    return torch.cat([x[..., 0::2, 0::2], x[..., 1::2, 1::2]], 1)


def with_diagonal(x: Tensor, coarse: Tensor) -> Tensor:
    """``x`` (B,C,h,w) with its :func:`diagonal` replaced by ``coarse`` (B,2C,h/2,w/2)."""
    first, last = coarse.chunk(2, 1)
    cells = torch.stack([first, x[..., 0::2, 1::2], x[..., 1::2, 0::2], last], 2)  # (B,C,4,h/2,w/2)
    return functional.pixel_shuffle(cells.flatten(1, 2), 2)


class Flow(nn.Module, ABC):
    """An invertible map x -> z of images. The inverse is exact up to rounding; observed values pass bit for bit."""

    @abstractmethod
    def forward(self, x: Tensor, condition: Condition | None = None) -> tuple[Tensor, Tensor]:
        """From data to latent.

        Args:
            x: (B,C,H,W), any real values, zero where missing.
            condition: what is hidden and what is told; None: everything is hidden, which an unconditional flow demands.

        Returns:
            z (B,C,H,W), and log|det dz/dx| over the hidden values (B,).
        """

    @abstractmethod
    def inverse(self, z: Tensor, condition: Condition | None = None) -> tuple[Tensor, Tensor]:
        """From latent to data: x (B,C,H,W), and log|det dx/dz| over the hidden values (B,); see :meth:`forward`."""
