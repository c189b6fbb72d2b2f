"""The interface of flows, invertible maps of images with known log-determinant, and their condition."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional


class Condition(NamedTuple):
    """Which values a conditional flow transforms (target) and which it is conditioned on (observed).

    Observed values pass unchanged and may be read. Target values are transformed and their density is modelled. A value
    that is neither is missing: it is zero, passes unchanged and is never read. A flow can therefore be trained on
    incomplete images, with observed values that are held out as the target.

    Attributes:
        observed: (B,C,h,w) floating point, 1 = observed.
        target: (B,C,h,w), 1 = target; no value is both.
        context: (B,E,h,w) further input of every coupling's network at this resolution, or None.
    """

    observed: Tensor
    target: Tensor
    context: Tensor | None = None

    @property
    def present(self) -> Tensor:
        """(B,C,h,w), 1 where a value is not missing."""
        return self.observed + self.target

    def squeeze(self) -> Condition:
        """The condition after :func:`torch.nn.functional.pixel_unshuffle` by 2."""
        return Condition(
            functional.pixel_unshuffle(self.observed, 2),
            functional.pixel_unshuffle(self.target, 2),
            None if self.context is None else functional.pixel_unshuffle(self.context, 2),
        )

    def coarse(self) -> Condition:
        """The condition of the next coarser scale: see :func:`diagonal`. The context keeps all of its values."""
        return Condition(
            diagonal(self.observed),
            diagonal(self.target),
            None if self.context is None else functional.pixel_unshuffle(self.context, 2),
        )

    @classmethod
    def unconditional(cls, x: Tensor) -> Condition:
        """The condition of an unconditional flow: every value of ``x`` is target."""
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
    """An invertible map x -> z of images. The inverse is exact up to rounding; observed values pass bit-identical."""

    @abstractmethod
    def forward(self, x: Tensor, condition: Condition | None = None) -> tuple[Tensor, Tensor]:
        """From data to latent.

        Args:
            x: (B,C,H,W), any real values, zero where missing.
            condition: which values are observed and which are target; None: all are target. Unconditional flows take
                None only.

        Returns:
            z (B,C,H,W), and log|det dz/dx| over the target values (B,).
        """

    @abstractmethod
    def inverse(self, z: Tensor, condition: Condition | None = None) -> tuple[Tensor, Tensor]:
        """From latent to data: x (B,C,H,W), and log|det dx/dz| over the target values (B,); see :meth:`forward`."""
