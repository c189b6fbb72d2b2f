"""Imputation by a conditional flow: the rows "ACFlow" of MisConv's tables."""

from __future__ import annotations

from torch import Tensor

from lacuna.errors import LacunaError
from lacuna.flows.acflow import ACFlow
from lacuna.imputers.base import Imputer

ESTIMATES = ("latent_zero", "sample_mean")


class FlowImputer(Imputer):
    """Impute with a trained conditional flow.

    Args:
        flow: a trained flow.
        estimate: ``latent_zero``, the published point estimate (the image of the latent value 0), or ``sample_mean``,
            the mean of ``samples`` samples, whose squared error is smaller.
        samples: their number, at least 1.

    Raises:
        LacunaError: a value is out of its range.
    """

    def __init__(self, flow: ACFlow, estimate: str = "sample_mean", samples: int = 16) -> None:
        super().__init__()
        if estimate not in ESTIMATES:
            raise LacunaError(f"imputer.estimate={estimate!r} is none of {', '.join(ESTIMATES)}.")
        if not isinstance(samples, int) or samples < 1:
            raise LacunaError(f"imputer.samples={samples} must be a whole number of at least 1.")
        self.flow = flow
        self.estimate, self.samples = estimate, samples

    def _impute(self, observed: Tensor, mask: Tensor) -> Tensor:
        if self.estimate == "latent_zero":
            return self.flow.point_estimate(observed, mask)
        return self.flow.mean(observed, mask, self.samples)

    def _sample(self, observed: Tensor, mask: Tensor, n: int) -> Tensor:
        return self.flow.sample(observed, mask, n)
