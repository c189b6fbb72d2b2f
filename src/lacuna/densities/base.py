"""Base class of densities: a density maps an incomplete image to a distribution over its missing pixels."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor, nn

from lacuna.mfa import MFA


class Density(nn.Module, ABC):
    """p(missing pixels | observed pixels) as a mixture of factor analysers."""

    @abstractmethod
    def forward(self, observed: Tensor, mask: Tensor) -> MFA:
        """The density of a batch of incomplete images.

        Args:
            observed: (B, C, H, W) in [0, 1], zeros where ``mask`` is False.
            mask: bool, True = observed, (B, 1, H, W) or (B, C, H, W).

        Returns:
            MFA over (B, C, H, W), valid at missing pixels; ``.pin(observed, mask)`` makes it valid everywhere.
        """
