"""Imputations of a batch by a trained model: the best one, its standard deviation, and samples."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from lacuna import files
from lacuna.densities.base import Density
from lacuna.errors import LacunaError
from lacuna.flows.acflow import ACFlow
from lacuna.imputers.base import Imputer
from lacuna.mfa import MFA
from lacuna.runs.folder import RunFolder
from lacuna.tasks.common.models import Sizes
from lacuna.training.stored_model import load

DISTRIBUTIONS = ("density", "flow")
"""Tasks, and components, whose models give a distribution of the missing values. A run that has one of them as a
prerequisite imputes with that."""
DRAWS = 32
"""Samples that estimate the standard deviation of a flow or an imputer, and a flow's mean."""


class Imputations(Protocol):
    """Imputations of a batch of incomplete images.

    Attributes:
        mean: (B,C,H,W); missing values have their expected value, or the imputer's.
        deviation: standard deviation (B,1,H,W), root mean square over channels; 0 where observed. None from an imputer
            that does not sample.
    """

    @property
    def mean(self) -> Tensor: ...  # noqa: D102
    @property
    def deviation(self) -> Tensor | None: ...  # noqa: D102

    def draw(self, row: int, n: int, noise: torch.Generator) -> Tensor:
        """``n`` samples of one image, (n,C,H,W)."""


class TrainedModel(Protocol):
    """Imputes incomplete images (B,C,H,W), which are 0 where ``mask`` (bool, True = observed) is False."""

    def __call__(self, observed: Tensor, mask: Tensor) -> Imputations: ...  # noqa: D102


@dataclass(frozen=True)
class ByDensity:
    """By a mixture of factor analysers, exactly."""

    mfa: MFA
    mean: Tensor
    deviation: Tensor

    @classmethod
    def of(cls, density: Density, observed: Tensor, mask: Tensor) -> ByDensity:
        """Condition the density on the observed values."""
        mfa: MFA = density(observed, mask).pin(observed, mask)
        return cls(mfa, mfa.expectation(), _deviation(mfa.variance(), mask))

    def draw(self, row: int, n: int, noise: torch.Generator) -> Tensor:
        """See :class:`Imputations`."""
        return self.mfa[row : row + 1].sample(n, noise)[:, 0]


@dataclass(frozen=True)
class ByFlow:
    """By a conditional flow; mean and standard deviation are estimated from ``DRAWS`` samples."""

    flow: ACFlow
    observed: Tensor
    mask: Tensor
    mean: Tensor
    deviation: Tensor

    @classmethod
    def of(cls, flow: ACFlow, observed: Tensor, mask: Tensor) -> ByFlow:
        """Estimate the moments of the flow."""
        mean, variance = flow.moments(observed, mask, DRAWS)
        return cls(flow, observed, mask, mean, _deviation(variance, mask))

    def draw(self, row: int, n: int, noise: torch.Generator) -> Tensor:
        """See :class:`Imputations`."""
        return self.flow.sample(self.observed[row : row + 1], self.mask[row : row + 1], n, generator=noise)[:, 0]


@dataclass(frozen=True)
class ByImputer:
    """By an imputer; the standard deviation is estimated from ``DRAWS`` samples if it can sample."""

    imputer: Imputer
    observed: Tensor
    mask: Tensor
    mean: Tensor
    deviation: Tensor | None

    @classmethod
    def of(cls, imputer: Imputer, observed: Tensor, mask: Tensor) -> ByImputer:
        """Impute, and sample if the imputer can."""
        deviation = None
        if imputer.can_sample:
            with _noise(observed.device, 0):
                variance = imputer.sample(observed, mask, DRAWS).var(0)
            deviation = _deviation(variance, mask)
        return cls(imputer, observed, mask, imputer.impute(observed, mask), deviation)

    def draw(self, row: int, n: int, noise: torch.Generator) -> Tensor:
        """See :class:`Imputations`.

        Raises:
            LacunaError: the imputer does not sample.
        """
        with _noise(self.observed.device, noise.initial_seed()):
            return self.imputer.sample(self.observed[row : row + 1], self.mask[row : row + 1], n)[:, 0]


@contextmanager
def _noise(device: torch.device, seed: int) -> Iterator[None]:
    """Seed torch's own random numbers, which imputers draw from, and restore their state afterwards."""
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield


def _deviation(variance: Tensor, mask: Tensor) -> Tensor:
    return variance.masked_fill(mask, 0).mean(1, keepdim=True).sqrt()


def load_for_imputation(folder: RunFolder, device: torch.device) -> tuple[TrainedModel, Sizes, Imputer | None]:
    """The density, flow or imputer of a finished run, or of its prerequisite, and the sizes it was trained on.

    The imputer itself is the third, where it is one.

    A density or flow among the prerequisites is preferred to the run's own imputer: it also gives the uncertainty.

    Raises:
        LacunaError: the run has none.
    """
    recipe = folder.recipe
    if recipe.task not in DISTRIBUTIONS:
        component = next((name for name in DISTRIBUTIONS if name in recipe.prerequisites), None)
        if component is not None:
            return load_for_imputation(RunFolder(folder.path.parent / recipe.prerequisites[component].name), device)
        if recipe.task != "impute":
            raise LacunaError(
                f"{folder.path} has no density, flow or imputer: train one with task=density, task=flow or task=impute "
                "and give that run."
            )
    model = load(folder).to(device)
    sizes = Sizes.of(files.read_json(folder.path / "model.json"))
    if isinstance(model, ACFlow):
        return (lambda observed, mask: ByFlow.of(model, observed, mask)), sizes, None
    if isinstance(model, Imputer):
        return (lambda observed, mask: ByImputer.of(model, observed, mask)), sizes, model
    assert isinstance(model, Density)
    return (lambda observed, mask: ByDensity.of(model, observed, mask)), sizes, None
