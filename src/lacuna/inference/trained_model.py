"""What the verb ``impute`` asks of a trained model: a best completion, how uncertain it is, and further completions."""

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
from lacuna.training.loading import load

COMPLETING = ("density", "flow")
"""Tasks whose models say what they do not know; a model that needs one of these parts is completed for by it."""
DRAWS = 32
"""Completions behind the standard deviation of a flow or of an imputer that samples, and behind a flow's mean."""


class Completions(Protocol):
    """Of a batch of incomplete images.

    Attributes:
        mean: (B,C,H,W), where hidden the expected value, or what an imputer puts there.
        deviation: (B,1,H,W), its standard deviation (root mean square over channels); 0 where observed. None from an
            imputer that knows one completion only.
    """

    @property
    def mean(self) -> Tensor: ...  # noqa: D102
    @property
    def deviation(self) -> Tensor | None: ...  # noqa: D102

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


@dataclass(frozen=True)
class ByImputer:
    """What an imputer puts in the holes; the standard deviation is that of so many completions, if it can sample."""

    imputer: Imputer
    observed: Tensor
    mask: Tensor
    mean: Tensor
    deviation: Tensor | None

    @classmethod
    def of(cls, imputer: Imputer, observed: Tensor, mask: Tensor) -> ByImputer:
        """By the imputer's completions of these images."""
        deviation = None
        if imputer.can_sample:
            with _noise(observed.device, 0):
                variance = imputer.sample(observed, mask, DRAWS).var(0)
            deviation = _deviation(variance, mask)
        return cls(imputer, observed, mask, imputer.impute(observed, mask), deviation)

    def draw(self, row: int, n: int, noise: torch.Generator) -> Tensor:
        """See :class:`Completions`.

        Raises:
            LacunaError: the imputer knows one completion only.
        """
        with _noise(self.observed.device, noise.initial_seed()):
            return self.imputer.sample(self.observed[row : row + 1], self.mask[row : row + 1], n)[:, 0]


@contextmanager
def _noise(device: torch.device, seed: int) -> Iterator[None]:
    """Random numbers of torch itself, for imputers that draw from them, from a seed; as before afterwards."""
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield


def _deviation(variance: Tensor, mask: Tensor) -> Tensor:
    return variance.masked_fill(mask, 0).mean(1, keepdim=True).sqrt()


def find_completer(folder: RunFolder, device: torch.device) -> tuple[Completer, Sizes]:
    """What completes images in a finished run: its own density, flow or imputer, or the one it was built on.

    An imputer on a density or flow is completed for by that, which knows more.

    Raises:
        LacunaError: the run has none.
    """
    recipe = folder.recipe
    if recipe.task not in COMPLETING:
        part = next((part for part in COMPLETING if part in recipe.prerequisites), None)
        if part is not None:
            return find_completer(RunFolder(folder.path.parent / recipe.prerequisites[part].name), device)
        if recipe.task != "impute":
            raise LacunaError(
                f"{folder.path} has no density, flow or imputer: train one with task=density, task=flow or task=impute "
                "and give that run."
            )
    model = load(folder).to(device)
    sizes = Sizes.of(files.read_json(folder.path / "model.json"))
    if isinstance(model, ACFlow):
        return (lambda observed, mask: ByFlow.of(model, observed, mask)), sizes
    if isinstance(model, Imputer):
        return (lambda observed, mask: ByImputer.of(model, observed, mask)), sizes
    assert isinstance(model, Density)
    return (lambda observed, mask: ByDensity.of(model, observed, mask)), sizes
