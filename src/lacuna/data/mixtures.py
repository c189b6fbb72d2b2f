"""Mixtures of mask schemes, and what ACFlow mixes: halves and rectangles (Li et al. 2020; public code)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from lacuna.data.masks import MaskScheme, Shape, _Draws, _rounded
from lacuna.errors import LacunaError
from lacuna.registry import build

_CHOICE = -2  # the number of the random draw that chooses; the schemes use 0, 1, ..., the rescue -1


@dataclass(frozen=True)
class Half(MaskScheme):
    """The upper, lower, left or right half is missing, each for a quarter of the images.

    It is round(H * W / 2) pixels, in the order of the rows or columns: of odd sides, the middle one is missing in part.
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
    """A rectangle is missing: all those with ``smallest`` to ``largest`` of the image's area are equally likely."""

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
            # as many starts as fit: the random number is a remainder by a number of each image's own
            start = draws.bits(number, 1)[:, 0] % (side - size[:, axis] + 1)
            place = torch.arange(side, device=device) - start[:, None]
            spans.append((place >= 0) & (place < size[:, axis, None]))
        return ~(spans[0][:, None, :, None] & spans[1][:, None, None, :])

    def _sizes(self, height: int, width: int) -> tuple[Tensor, Tensor]:
        """Heights and widths that are allowed (N,2), and in how many places each can lie (N,), int64."""
        sizes = torch.cartesian_prod(torch.arange(1, height + 1), torch.arange(1, width + 1))
        share = sizes.prod(1).double() / (height * width)
        sizes = sizes[(share >= self.smallest) & (share <= self.largest)]
        if len(sizes) == 0:
            raise LacunaError(
                f"mask.smallest={self.smallest} and mask.largest={self.largest} allow no rectangle of an image of "
                f"{height}x{width} pixels: put them further apart."
            )
        return sizes, (height - sizes[:, 0] + 1) * (width - sizes[:, 1] + 1)


@dataclass(frozen=True)
class Mixture(MaskScheme):
    """Every image has the mask of one of several schemes.

    Args:
        schemes: specs of the schemes (``{type: masks.Square, fraction: 0.5}``), each with its ``weight`` (a whole
            number, 1 if not said): how often it is chosen, relative to the others.
    """

    schemes: Sequence[Mapping[str, Any]]
    parts: tuple[MaskScheme, ...] = field(init=False, repr=False)
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
        object.__setattr__(self, "parts", tuple(build("mask", spec) for spec in specs))

    def _observed(self, draws: _Draws, shape: Shape) -> Tensor:
        chosen = draws.below(_CHOICE, sum(self.weights))[:, None, None, None]
        observed = self.parts[0]._observed(draws, shape)
        until = self.weights[0]
        for part, weight in zip(self.parts[1:], self.weights[1:], strict=True):
            observed = torch.where(chosen < until, observed, part._observed(draws, shape))
            until += weight
        return observed
