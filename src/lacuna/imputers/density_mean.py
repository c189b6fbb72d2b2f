"""Imputation by the conditional mean of a density: MisConv's "MFA imputation" (table 8)."""

from __future__ import annotations

from torch import Tensor

from lacuna.densities.base import Density
from lacuna.errors import LacunaError
from lacuna.imputers.base import Imputer
from lacuna.mfa import MFA


class DensityMean(Imputer):
    """Impute E[missing | observed] of a trained density, which minimises its expected squared error.

    Args:
        density: a trained density.
        component: ``mean`` (of the mixture) or ``mode`` (mean of the component with the largest weight); equal for
            K = 1.

    Raises:
        LacunaError: an unknown ``component``.
    """

    def __init__(self, density: Density, component: str = "mean") -> None:
        super().__init__()
        if component not in ("mean", "mode"):
            raise LacunaError(f"imputer.component={component!r} is neither 'mean' nor 'mode'.")
        self.density = density
        self.component = component

    def _impute(self, observed: Tensor, mask: Tensor) -> Tensor:
        mfa: MFA = self.density(observed, mask)
        return mfa.expectation() if self.component == "mean" else mfa.mode()

    def _sample(self, observed: Tensor, mask: Tensor, n: int) -> Tensor:
        drawn: Tensor = self.density(observed, mask).pin(observed, mask).sample(n)
        return drawn
