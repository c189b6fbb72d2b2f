"""Imputation by a conditional flow: MisConv's rows "ACFlow"."""

from __future__ import annotations

from torch import Tensor

from lacuna.errors import LacunaError
from lacuna.flows.acflow import ACFlow
from lacuna.imputers.base import Imputer

GUESSES = ("latent_zero", "sample_mean")


class FlowImputer(Imputer):
    """Fill the holes with what a trained conditional flow makes of them.

    Args:
        flow: a trained flow.
        guess: ``latent_zero``, the published best guess (the image of the latent value 0), or ``sample_mean``, the
            mean of ``samples`` completions, which is the better fill in squared error.
        samples: how many.

    Raises:
        LacunaError: a value that means nothing.
    """

    def __init__(self, flow: ACFlow, guess: str = "sample_mean", samples: int = 16) -> None:
        super().__init__()
        if guess not in GUESSES:
            raise LacunaError(f"imputer.guess={guess!r} is none of {', '.join(GUESSES)}.")
        if not isinstance(samples, int) or samples < 1:
            raise LacunaError(f"imputer.samples={samples} must be a whole number of at least 1.")
        self.flow = flow
        self.guess, self.samples = guess, samples

    def _fill(self, observed: Tensor, mask: Tensor) -> Tensor:
        if self.guess == "latent_zero":
            return self.flow.guess(observed, mask)
        return self.flow.mean(observed, mask, self.samples)

    def _draw(self, observed: Tensor, mask: Tensor, n: int) -> Tensor:
        return self.flow.sample(observed, mask, n)
