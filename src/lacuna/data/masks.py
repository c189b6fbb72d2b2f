"""Mask schemes: which pixels of image number ``index`` are observed (True) and which are missing (False).

A mask is a pure function of (seed, split, index, shape). It is computed from 64-bit integer hashes (SplitMix64,
counter-based), so it is the same on CPU and GPU, for every batch composition and every number of workers and ranks,
and an image has the same mask in every epoch. Two schemes of one class that differ only in their rate share random
numbers: the pixels missing at the lower rate are also missing at the higher one (:class:`Noise`, :class:`Bernoulli`).

Every image keeps at least one observed pixel: where a scheme would leave none (possible at high rates on tiny
images), one pixel, drawn by the same hash, is observed.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from lacuna.data.hashing import GOLDEN, MIX_1, MIX_2, key
from lacuna.errors import LacunaError

Shape = tuple[int, int, int]

_CHUNK = 1 << 22  # random numbers held at once: bounds the memory needed for the masks of a whole data set
_PIXEL_BITS = 24  # low bits of a score that hold the pixel number, so that no two pixels tie


def signed(x: int) -> int:
    """The signed 64-bit number with the bits of an unsigned one."""
    return x - (1 << 64) if x >> 63 else x


def mix(x: Tensor) -> Tensor:
    """SplitMix64's finaliser; int64 products wrap as uint64 ones do, a bit mask makes the shifts logical."""
    x = (x ^ ((x >> 30) & ((1 << 34) - 1))) * signed(MIX_1)
    x = (x ^ ((x >> 27) & ((1 << 37) - 1))) * signed(MIX_2)
    return x ^ ((x >> 31) & ((1 << 33) - 1))


class _Draws:
    """Counter-based random numbers of a batch of images; each number has 63 uniform bits."""

    def __init__(self, salt: int | Tensor, index: Tensor) -> None:
        self.state = mix(index * signed(GOLDEN) + salt)

    def bits(self, first: int, count: int) -> Tensor:
        """Uniform integers in [0, 2^63), those with counters ``first`` .. ``first + count - 1``: (B, count)."""
        counter = torch.arange(first + 1, first + count + 1, device=self.state.device)
        return mix(self.state[:, None] + counter * signed(GOLDEN)) & ((1 << 63) - 1)

    def below(self, counter: int, n: int) -> Tensor:
        """Uniform integers in [0, n): (B,). The bias of the remainder is below n / 2^63."""
        return self.bits(counter, 1)[:, 0] % n

    def uniform(self, counter: int) -> Tensor:
        """Uniform float64 in [0, 1): (B,), multiples of 2^-53."""
        return (self.bits(counter, 1)[:, 0] >> 10).to(torch.float64) * 2.0**-53


def _smallest(scores: Tensor, count: int) -> Tensor:
    """True at exactly the ``count`` smallest scores of each row, scores in [0, 2^39): (B, P) -> (B, P)."""
    pixels = scores.shape[1]
    if count == 0:
        return torch.zeros_like(scores, dtype=torch.bool)
    distinct = (scores << _PIXEL_BITS) | torch.arange(pixels, device=scores.device)
    return distinct <= distinct.kthvalue(count, dim=1, keepdim=True).values


def _share(name: str, value: float, meaning: str) -> None:
    """Raise LacunaError unless ``value`` is a number in [0, 1)."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < 1:
        raise LacunaError(f"mask.{name}={value} must lie in [0, 1): it is {meaning}.")


def _rounded(value: float) -> int:
    """The nearest integer, halves upwards (Python's round takes halves to the even neighbour)."""
    return math.floor(value + 0.5)


class MaskScheme(ABC):
    """Decides which pixels of an image are observed; the module's docstring says what every scheme guarantees."""

    def __call__(self, index: Tensor, shape: Shape, *, seed: int, split: str) -> Tensor:
        """The masks of the images at positions ``index`` (int64, (B,)) of ``split``, images of ``shape`` (C, H, W).

        Returns:
            bool, True = observed, (B, 1, H, W) or, per channel, (B, C, H, W), on the device of ``index``.
        """
        if index.ndim != 1 or index.dtype != torch.int64:
            raise ValueError(f"index must be int64 of shape (B,), not {index.dtype} of shape {tuple(index.shape)}")
        if min(shape) < 1 or shape[1] * shape[2] >= 1 << _PIXEL_BITS:
            raise LacunaError(f"Images of shape {shape} cannot be masked: sizes must be positive, below 4096 x 4096.")
        return self.salted(index, shape, self.salt(seed, split))

    def salt(self, seed: int, split: str) -> int:
        """All that the masks depend on besides positions and shape, in 64 bits."""
        return key(int(seed), split, type(self).__name__)

    def salted(self, index: Tensor, shape: Shape, salt: int | Tensor) -> Tensor:
        """As calling the scheme, for a :meth:`salt`, which may be an int64 tensor () on the device of ``index``."""
        rows = max(1, _CHUNK // math.prod(shape))
        parts = [self._guarded(_Draws(salt, chunk), shape) for chunk in torch.split(index, rows)]
        return torch.cat(parts) if parts else torch.ones((0, 1, *shape[1:]), dtype=torch.bool, device=index.device)

    def _guarded(self, draws: _Draws, shape: Shape) -> Tensor:
        observed = self._observed(draws, shape)
        empty = ~observed.flatten(1).any(1)
        values = math.prod(observed.shape[1:])
        kept = draws.below(-1, values)
        rescue = torch.arange(values, device=kept.device) == kept[:, None]
        return observed | (rescue & empty[:, None]).view_as(observed)

    @abstractmethod
    def _observed(self, draws: _Draws, shape: Shape) -> Tensor:
        """The masks, (B, 1, H, W) or (B, C, H, W), from the images' random numbers (counters >= 0)."""


@dataclass(frozen=True)
class NoMask(MaskScheme):
    """Nothing is missing."""

    def _observed(self, draws: _Draws, shape: Shape) -> Tensor:
        return torch.ones((len(draws.state), 1, *shape[1:]), dtype=torch.bool, device=draws.state.device)


@dataclass(frozen=True)
class Square(MaskScheme):
    """One missing square, side = ``fraction`` of the image's shorter side, uniform over all positions.

    MisConv, section 4: a quarter of the area. The authors' code never draws the last offset; here the square can
    also cover the last row and column.
    """

    fraction: float = 0.5

    def __post_init__(self) -> None:
        _share("fraction", self.fraction, "the side of the missing square as a share of the image's side")

    def _observed(self, draws: _Draws, shape: Shape) -> Tensor:
        _, height, width = shape
        side = _rounded(self.fraction * min(height, width))
        device = draws.state.device
        top, left = draws.below(0, height - side + 1), draws.below(1, width - side + 1)
        row = torch.arange(height, device=device) - top[:, None]
        column = torch.arange(width, device=device) - left[:, None]
        missing_rows, missing_columns = (row >= 0) & (row < side), (column >= 0) & (column < side)
        return ~(missing_rows[:, None, :, None] & missing_columns[:, None, None, :])


@dataclass(frozen=True)
class Trapezoid(MaskScheme):
    """One missing trapezoid of exactly round(``area`` * H * W) pixels (MisConv, appendix A.3: half of the image).

    The paper only shows a picture. Here the direction of the parallel sides, the ratio of the short to the long one
    (1/4 to 3/4 where the area permits), the height, the skew and the position are drawn at random such that the
    trapezoid lies inside the image. The pixels with the smallest gauge of the trapezoid are missing.
    """

    area: float = 0.5

    def __post_init__(self) -> None:
        _share("area", self.area, "the missing share of the image's area")

    def _observed(self, draws: _Draws, shape: Shape) -> Tensor:
        _, height, width = shape
        count = _rounded(self.area * height * width)
        if count == 0:
            return NoMask()._observed(draws, shape)
        device = draws.state.device
        y = ((torch.arange(height, device=device, dtype=torch.float64) + 0.5) / height)[None, :, None]
        x = ((torch.arange(width, device=device, dtype=torch.float64) + 0.5) / width)[None, None, :]
        flip, turn = (draws.below(i, 2)[:, None, None] == 1 for i in (0, 1))
        across, along = torch.where(turn, y, x), torch.where(turn, x, y)
        gauge = self._gauge(draws, across, torch.where(flip, 1 - along, along))
        # 2^24 steps per unit are far finer than a pixel, and integers compare alike on every device.
        return ~_smallest((gauge * 2.0**24).to(torch.int64).flatten(1), count).view(-1, 1, height, width)

    def _gauge(self, draws: _Draws, u: Tensor, v: Tensor) -> Tensor:
        """The factor by which the trapezoid must be scaled about its centre to reach the point (u, v): (B, H, W)."""
        shapes = [draws.uniform(i)[:, None, None] for i in range(2, 7)]
        low, high = max(0.25, 2 * self.area - 1), max(0.75, self.area)
        ratio = low + (high - low) * shapes[0]
        least = 2 * self.area / (1 + ratio)  # the height at which the long side is as long as the image
        tall = least + (1 - least) * shapes[1]
        long = least / tall
        start = (1 - long) * shapes[2]
        skew = (1 - ratio) * long * shapes[3]
        top = (1 - tall) * shapes[4]
        depth = (v - top) / tall  # 0 at the long side, 1 at the short one
        left = start + skew * depth
        right = start + long - ((1 - ratio) * long - skew) * depth
        half = (1 + ratio) * long / 4
        sides = torch.maximum(left - u, u - right) / half + 1
        return torch.maximum(sides, (2 * depth - 1).abs()).clamp(0, 2**14)


@dataclass(frozen=True)
class Noise(MaskScheme):
    """Exactly round(``rate`` * H * W) pixels are missing, all such sets equally likely (MisConv, appendix A.3)."""

    rate: float = 0.75

    def __post_init__(self) -> None:
        _share("rate", self.rate, "the share of missing pixels")

    def _observed(self, draws: _Draws, shape: Shape) -> Tensor:
        _, height, width = shape
        scores = draws.bits(0, height * width) >> _PIXEL_BITS
        return ~_smallest(scores, _rounded(self.rate * height * width)).view(-1, 1, height, width)


@dataclass(frozen=True)
class Bernoulli(MaskScheme):
    """Every pixel is missing independently with probability ``rate`` (PRFlow, section 4.1: 0.6 to 0.9).

    The channels share the mask (as in the published code) unless ``per_channel``.
    """

    rate: float
    per_channel: bool = False

    def __post_init__(self) -> None:
        _share("rate", self.rate, "the probability that a pixel is missing")

    def _observed(self, draws: _Draws, shape: Shape) -> Tensor:
        channels, height, width = shape
        channels = channels if self.per_channel else 1
        bits = draws.bits(0, channels * height * width)
        return (bits >= int(self.rate * 2.0**63)).view(-1, channels, height, width)
