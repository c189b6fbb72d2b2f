"""The expected value of a density as an imputation: MisConv's "MFA imputation" (table 8)."""

from __future__ import annotations

from torch import Tensor

from lacuna.densities.base import Density
from lacuna.errors import LacunaError
from lacuna.imputers.base import Imputer
from lacuna.mfa import MFA


class DensityMean(Imputer):
    """Fill the holes with E[hidden | observed] of a trained density, the best fill in squared error.

    Args:
        density: a trained density.
        component: ``mean`` (of the whole mixture) or ``mode`` (mean of its heaviest component); equal for K = 1.
    """

    def __init__(self, density: Density, component: str = "mean") -> None:
        super().__init__()
        if component not in ("mean", "mode"):
            raise LacunaError(f"imputer.component={component!r} is neither 'mean' nor 'mode'.")
        self.density = density
        self.component = component

    def _fill(self, observed: Tensor, mask: Tensor) -> Tensor:
        mfa: MFA = self.density(observed, mask)
        return mfa.expectation() if self.component == "mean" else mfa.mode()

    def _draw(self, observed: Tensor, mask: Tensor, n: int) -> Tensor:
        drawn: Tensor = self.density(observed, mask).pin(observed, mask).sample(n)
        return drawn
