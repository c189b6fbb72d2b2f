"""Grey levels to real numbers and back: dequantisation, scaling into (0, 1), logit (RealNVP, section 4.1)."""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional

from lacuna.errors import LacunaError

BYTES = 256  # levels in which images are stored


@dataclass(frozen=True)
class Logit:
    """Grey level k of n, dequantised: u = (k + noise) / n;  y = logit((1 - c) / 2 + c u).

    Args:
        levels: n, of the data; published 2^bits, here any number from 2 to 256 (the 8x8 digits have 17). Pixel value
            k / (n - 1) in [0, 1] is level k.
        constraint: c, above 0 and below 1, so that y stays finite.

    Raises:
        LacunaError: a value is out of its range.
    """

    levels: int = BYTES
    constraint: float = 0.9

    def __post_init__(self) -> None:
        if not isinstance(self.levels, int) or not 2 <= self.levels <= BYTES:
            raise LacunaError(f"flow.levels={self.levels} must be a whole number from 2 to {BYTES}.")
        if not 0 < self.constraint < 1:
            raise LacunaError(f"flow.constraint={self.constraint} must lie between 0 and 1.")

    def dequantised(self, x: Tensor, noise: Tensor) -> Tensor:
        """The logits y of the levels of ``x`` (in [0, 1]), dequantised by ``noise`` (in [0, 1))."""
        level = ((x * (BYTES - 1)).round() * (self.levels / BYTES)).floor()
        return self._logit((level + noise) / self.levels)

    def centred(self, x: Tensor) -> Tensor:
        """The logits y of ``x`` (any values in [0, 1]) at the centres of their bins; deterministic."""
        return self._logit((x * (self.levels - 1) + 0.5) / self.levels)

    def log_det(self, y: Tensor) -> Tensor:
        """The value of log dy/dk at every y; it turns densities of y into (bounds of) probabilities of levels."""
        return functional.softplus(y) + functional.softplus(-y) + math.log(self.constraint / self.levels)

    def image(self, y: Tensor) -> Tensor:
        """Pixel values in [0, 1] of logits: bin centres become their levels' values; clipped at both ends."""
        return ((self._bins(y) - 0.5) / (self.levels - 1)).clamp(0, 1)

    def rounded(self, y: Tensor) -> Tensor:
        """Pixel values in [0, 1] of the levels in whose bins the logits lie."""
        return self._bins(y).floor().clamp(0, self.levels - 1) / (self.levels - 1)

    def _logit(self, u: Tensor) -> Tensor:
        return (((2 * u - 1) * self.constraint + 1) / 2).logit()

    def _bins(self, y: Tensor) -> Tensor:
        """Level + noise of logits."""
        return ((2 * y.sigmoid() - 1) / self.constraint + 1) * (self.levels / 2)
