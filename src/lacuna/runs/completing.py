"""What the verb ``impute`` asks of a trained model: a best completion, how uncertain it is, and further completions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from lacuna import files
from lacuna.densities.base import Density
from lacuna.errors import LacunaError
from lacuna.flows.acflow import ACFlow
from lacuna.mfa import MFA
from lacuna.runs.folder import RunFolder
from lacuna.runs.opening import load
from lacuna.tasks.models import Sizes

COMPLETING = ("density", "flow")
"""Tasks whose models complete images; a model that needs one of these parts is completed for by it."""
DRAWS = 32
"""Completions behind the mean and the standard deviation of a flow."""


class Completions(Protocol):
    """Of a batch of incomplete images.

    Attributes:
        mean: (B,C,H,W), where hidden the expected value.
        deviation: (B,1,H,W), its standard deviation (root mean square over channels); 0 where observed.
    """

    @property
    def mean(self) -> Tensor: ...  # noqa: D102
    @property
    def deviation(self) -> Tensor: ...  # noqa: D102

    def draw(self, row: int, n: int, noise: torch.Generator) -> Tensor:
        """``n`` completions of one image, (n,C,H,W)."""


class Completer(Protocol):
    """Completes incomplete images (B,C,H,W), with 0 where ``mask`` (bool, True = observed) is False."""

    def __call__(self, observed: Tensor, mask: Tensor) -> Completions: ...  # noqa: D102


@dataclass(frozen=True)
class ByDensity:
    """What a mixture of factor analysers says; nothing is estimated."""

    mfa: MFA
    mean: Tensor
    deviation: Tensor

    @classmethod
    def of(cls, density: Density, observed: Tensor, mask: Tensor) -> ByDensity:
        """By the density of these images."""
        mfa: MFA = density(observed, mask).pin(observed, mask)
        return cls(mfa, mfa.expectation(), _deviation(mfa.variance(), mask))

    def draw(self, row: int, n: int, noise: torch.Generator) -> Tensor:
        """See :class:`Completions`."""
        return self.mfa[row : row + 1].sample(n, noise)[:, 0]


@dataclass(frozen=True)
class ByFlow:
    """What a conditional flow says: mean and standard deviation are those of so many completions."""

    flow: ACFlow
    observed: Tensor
    mask: Tensor
    mean: Tensor
    deviation: Tensor

    @classmethod
    def of(cls, flow: ACFlow, observed: Tensor, mask: Tensor) -> ByFlow:
        """By the flow's completions of these images."""
        mean, variance = flow.moments(observed, mask, DRAWS)
        return cls(flow, observed, mask, mean, _deviation(variance, mask))

    def draw(self, row: int, n: int, noise: torch.Generator) -> Tensor:
        """See :class:`Completions`."""
        return self.flow.sample(self.observed[row : row + 1], self.mask[row : row + 1], n, generator=noise)[:, 0]


def _deviation(variance: Tensor, mask: Tensor) -> Tensor:
    return variance.masked_fill(mask, 0).mean(1, keepdim=True).sqrt()


def find_completer(folder: RunFolder, device: torch.device) -> tuple[Completer, Sizes]:
    """What completes images in a finished run: its own density or flow, or the one it was built on.

    Raises:
        LacunaError: the run has neither.
    """
    recipe = folder.recipe
    if recipe.task not in COMPLETING:
        part = next((part for part in COMPLETING if part in recipe.needs), None)
        if part is None:
            raise LacunaError(
                f"{folder.path} has no density and no flow: train one with task=density or task=flow and give that run."
            )
        return find_completer(RunFolder(folder.path.parent / recipe.needs[part].name), device)
    model = load(folder).to(device)
    sizes = Sizes.of(files.read_json(folder.path / "model.json"))
    if isinstance(model, ACFlow):
        return (lambda observed, mask: ByFlow.of(model, observed, mask)), sizes
    assert isinstance(model, Density)
    return (lambda observed, mask: ByDensity.of(model, observed, mask)), sizes
