"""From grey levels to real numbers and back: dequantise, squeeze into (0, 1), take the logit (RealNVP, section 4.1)."""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional

from lacuna.errors import LacunaError

BYTES = 256  # what images are stored in


@dataclass(frozen=True)
class Logit:
    """Grey level k of n, somewhere in its bin: u = (k + noise) / n;  y = logit((1 - c) / 2 + c u).

    Args:
        levels: n, of the data; the published 2^bits, but any number up to 256 (the 8x8 digits have 17). Pixels are in
            [0, 1]; pixel k / (n - 1) is level k.
        constraint: c, below 1, so that no level is infinite.

    Raises:
        LacunaError: a value out of its range.
    """

    levels: int = BYTES
    constraint: float = 0.9

    def __post_init__(self) -> None:
        if not isinstance(self.levels, int) or not 2 <= self.levels <= BYTES:
            raise LacunaError(f"flow.levels={self.levels} must be a whole number from 2 to {BYTES}.")
        if not 0 < self.constraint < 1:
            raise LacunaError(f"flow.constraint={self.constraint} must lie between 0 and 1.")

    def spread(self, x: Tensor, noise: Tensor) -> Tensor:
        """The logits y of the levels of ``x`` (in [0, 1]), each at ``noise`` (in [0, 1)) of its bin."""
        level = ((x * (BYTES - 1)).round() * (self.levels / BYTES)).floor()
        return self._logit((level + noise) / self.levels)

    def centred(self, x: Tensor) -> Tensor:
        """The logits y of ``x`` (in [0, 1], any values) at the centres of their bins: nothing random."""
        return self._logit((x * (self.levels - 1) + 0.5) / self.levels)

    def log_det(self, y: Tensor) -> Tensor:
        """The log of dy/dk of every value: with it, densities of y are (bounds of) probabilities of levels."""
        return functional.softplus(y) + functional.softplus(-y) + math.log(self.constraint / self.levels)

    def image(self, y: Tensor) -> Tensor:
        """Back to [0, 1]: bin centres become the pixels of their levels, the ends are clipped."""
        return ((self._bins(y) - 0.5) / (self.levels - 1)).clamp(0, 1)

    def rounded(self, y: Tensor) -> Tensor:
        """Back to the pixels of the levels in whose bins the values lie."""
        return self._bins(y).floor().clamp(0, self.levels - 1) / (self.levels - 1)

    def _logit(self, u: Tensor) -> Tensor:
        return (((2 * u - 1) * self.constraint + 1) / 2).logit()

    def _bins(self, y: Tensor) -> Tensor:
        """Level plus noise."""
        return ((2 * y.sigmoid() - 1) / self.constraint + 1) * (self.levels / 2)
