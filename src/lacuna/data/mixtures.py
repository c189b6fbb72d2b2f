"""Mixtures of mask schemes, and the schemes that ACFlow mixes: halves and rectangles (Li et al. 2020; public code)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from lacuna.data.masks import MaskScheme, Shape, _Draws, _rounded
from lacuna.errors import LacunaError
from lacuna.registry import build

_CHOICE = -2  # counter of the draw that chooses a scheme; schemes use 0, 1, ..., the kept pixel of an empty mask -1


@dataclass(frozen=True)
class Half(MaskScheme):
    """The upper, lower, left or right half is missing, each with probability 1/4.

    round(H * W / 2) pixels are missing, by rows or columns; if their number is odd, half of the middle one is missing.
    """

    def _observed(self, draws: _Draws, shape: Shape) -> Tensor:
        _, height, width = shape
        side = draws.below(0, 4)[:, None, None, None]
        by_rows = torch.arange(height * width, device=side.device).view(height, width)
        by_columns = torch.arange(height * width, device=side.device).view(width, height).T
        number = torch.where(side < 2, by_rows, by_columns)
        number = torch.where(side % 2 == 0, number, height * width - 1 - number)
        return number >= _rounded(height * width / 2)


@dataclass(frozen=True)
class Rectangle(MaskScheme):
    """A rectangle of ``smallest`` to ``largest`` of the image's area is missing; all of them are equally likely."""

    smallest: float = 0.3
    largest: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.smallest < self.largest <= 1:
            raise LacunaError(
                f"mask.smallest={self.smallest} and mask.largest={self.largest} are shares of the image's area: "
                "the first must be less than the second, both between 0 and 1."
            )

    def _observed(self, draws: _Draws, shape: Shape) -> Tensor:
        _, height, width = shape
        device = draws.state.device
        sizes, ways = self._sizes(height, width)
        until = ways.to(device).cumsum(0)
        size = sizes.to(device)[torch.searchsorted(until, draws.below(0, int(ways.sum())), right=True)]
        spans = []
        for axis, (side, number) in enumerate(((height, 1), (width, 2))):
            # the number of possible starts depends on the image, so the remainder is taken per image
            start = draws.bits(number, 1)[:, 0] % (side - size[:, axis] + 1)
            place = torch.arange(side, device=device) - start[:, None]
            spans.append((place >= 0) & (place < size[:, axis, None]))
        return ~(spans[0][:, None, :, None] & spans[1][:, None, None, :])

    def _sizes(self, height: int, width: int) -> tuple[Tensor, Tensor]:
        """Allowed heights and widths (N,2) and the number of positions of each (N,), int64."""
        sizes = torch.cartesian_prod(torch.arange(1, height + 1), torch.arange(1, width + 1))
        share = sizes.prod(1).double() / (height * width)
        sizes = sizes[(share >= self.smallest) & (share <= self.largest)]
        if len(sizes) == 0:
            raise LacunaError(
                f"mask.smallest={self.smallest} and mask.largest={self.largest} allow no rectangle of an image of "
                f"{height}x{width} pixels: widen the range."
            )
        return sizes, (height - sizes[:, 0] + 1) * (width - sizes[:, 1] + 1)


@dataclass(frozen=True)
class Mixture(MaskScheme):
    """The mask of every image is drawn from one of several schemes.

    Args:
        schemes: specs of the schemes (``{type: masks.Square, fraction: 0.5}``), each with an optional ``weight`` (an
            integer >= 1, default 1): how often it is chosen, relative to the others.

    Raises:
        LacunaError: no scheme, or a weight that is not an integer >= 1.
    """

    schemes: Sequence[Mapping[str, Any]]
    components: tuple[MaskScheme, ...] = field(init=False, repr=False)
    weights: tuple[int, ...] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        weights = tuple(spec.get("weight", 1) for spec in self.schemes)
        if not weights or not all(isinstance(weight, int) and weight >= 1 for weight in weights):
            raise LacunaError(
                f"mask.schemes={list(self.schemes)} must be one or more schemes, such as {{type: masks.Square}}, "
                "each with a weight that is a whole number of at least 1."
            )
        object.__setattr__(self, "weights", weights)
        specs = ({key: value for key, value in spec.items() if key != "weight"} for spec in self.schemes)
        object.__setattr__(self, "components", tuple(build("mask", spec) for spec in specs))

    def _observed(self, draws: _Draws, shape: Shape) -> Tensor:
        chosen = draws.below(_CHOICE, sum(self.weights))[:, None, None, None]
        observed = self.components[0]._observed(draws, shape)
        until = self.weights[0]
        for scheme, weight in zip(self.components[1:], self.weights[1:], strict=True):
            observed = torch.where(chosen < until, observed, scheme._observed(draws, shape))
            until += weight
        return observed
