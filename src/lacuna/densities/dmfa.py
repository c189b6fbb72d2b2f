"""DMFA: a network that predicts the MFA of the missing pixels from an incomplete image (MisConv, appendix A.1)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from lacuna.densities.base import Density
from lacuna.errors import LacunaError
from lacuna.mfa import MFA, full_precision, widened
from lacuna.registry import build


class DMFA(Density):
    """Deep mixture of factor analysers.

    Args:
        shape: (C, H, W) of the images.
        net: spec of the network (``nets/density_net.py``).
        components: number of components K >= 1 (the papers use 1).
        factors: number of factors L >= 0 (the papers use 4).
        factor_range: factor loadings lie in (-factor_range / 2, factor_range / 2).
        noise_floor: smallest noise variance. The default is the variance of rounding to 256 grey levels, below which
            no model of 8-bit images can be accurate. The authors' code has 1e-10, where pixels that never vary (a
            black background) contribute up to 10.6 nats each and dominate the likelihood; the paper gives no bound.
        noise_ceiling: largest noise variance; 1 in the authors' code (the variance of a pixel in [0, 1] is at most
            1/4).

    Raises:
        LacunaError: a value out of its range.
    """

    def __init__(
        self,
        shape: tuple[int, int, int],
        net: Mapping[str, Any],
        components: int = 1,
        factors: int = 4,
        factor_range: float = 0.5,
        noise_floor: float = 1 / 255**2 / 12,
        noise_ceiling: float = 1.0,
    ) -> None:
        super().__init__()
        if components < 1:
            raise LacunaError(f"density.components={components}: a mixture has at least one component.")
        if factors < 0:
            raise LacunaError(f"density.factors={factors}: the number of factors is 0 or more.")
        if not 0 < noise_floor < noise_ceiling:
            raise LacunaError(f"density.noise_floor={noise_floor} must lie between 0 and density.noise_ceiling.")
        self.net = build("net", net, shape=tuple(shape), components=components, factors=factors)
        self.factor_range, self.noise_floor, self.noise_ceiling = factor_range, noise_floor, noise_ceiling

    def forward(self, observed: Tensor, mask: Tensor) -> MFA:
        """The predicted mixture; see :meth:`lacuna.densities.base.Density.forward`."""
        raw = self.net(observed, mask)
        with full_precision(observed):
            return MFA(
                logits=widened(raw.logits),
                mean=widened(raw.mean),
                factors=self.factor_range * (widened(raw.factors).sigmoid() - 0.5),
                noise=self.noise_floor + (self.noise_ceiling - self.noise_floor) * widened(raw.noise).sigmoid(),
            )
