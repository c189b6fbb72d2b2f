"""What every density is: a function from an incomplete image to a distribution over its hidden pixels."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor, nn

from lacuna.mfa import MFA


class Density(nn.Module, ABC):
    """p(hidden pixels | observed pixels) as a mixture of factor analysers."""

    @abstractmethod
    def forward(self, observed: Tensor, mask: Tensor) -> MFA:
        """The density of an incomplete image.

        Args:
            observed: (B, C, H, W) in [0, 1], zeros where ``mask`` is False.
            mask: bool, True = observed, (B, 1, H, W) or (B, C, H, W).

        Returns:
            MFA over (B, C, H, W), meaningful at hidden pixels; ``.pin(observed, mask)`` makes it whole.
        """
