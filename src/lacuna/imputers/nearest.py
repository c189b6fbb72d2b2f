"""Nearest-neighbour imputation within an image: Euclidean, and MCFlow's random choice from the nearest square ring.

Sources: Bernal, arXiv 2104.01482, section 3 ("nearest neighbour or bilinear interpolation"); the public code of MCFlow
(Richardson et al. 2020), whose search of square rings :class:`RingNearest` reproduces, peculiarities included.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from lacuna.data.hashing import GOLDEN, key
from lacuna.data.masks import mix, signed
from lacuna.errors import LacunaError
from lacuna.imputers.per_channel import PerChannelImputer, gather_pixels

LOOK = 4
"""Columns to both sides that are searched for a nearest pixel before looking whether any farther ones matter."""

BAND = 2**17
"""Pixels whose nearest ones the CPU searches at once."""

BITS = 31
"""Bits of a random draw: uniform to nine digits, and its product with a count fits into 64 bits."""


class Nearest(PerChannelImputer):
    """Imputes the observed pixel at the smallest Euclidean distance; of several, the first in reading order."""

    def _impute_channels(self, values: Tensor, mask: Tensor) -> Tensor:
        return gather_pixels(values, nearest_index(mask))


class RingNearest(PerChannelImputer):
    """MCFlow's initial imputation: a random observed pixel of the smallest square ring that contains any.

    As in the published code a ring's lower right corner is never used and its upper left corner counts twice. If no
    ring contains an observed pixel (the published code then never ends), the Euclidean nearest one is taken.

    The draws are a function of the seed, the pixel and the mask: the same in every call and in any batch.

    Args:
        seed: of the draws.

    Raises:
        LacunaError: the seed is not a whole number.
    """

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        if not isinstance(seed, int) or isinstance(seed, bool):
            raise LacunaError(f"imputer.seed={seed!r} must be a whole number.")
        self.seed = seed

    def _impute_channels(self, values: Tensor, mask: Tensor) -> Tensor:
        return gather_pixels(values, self.source(mask))

    def source(self, mask: Tensor) -> Tensor:
        """Flat index (N,H,W) of the pixel that each pixel is copied from; its own index where observed."""
        n, height, width = mask.shape
        index = torch.arange(height * width, device=mask.device).repeat(n)
        # Flat positions, over all N masks, of the pixels still without a source; few after the first rings.
        open_ = (~mask).flatten().nonzero()[:, 0]
        bits = self._bits(mask, open_)
        for ring in range(1, max(height, width)):
            if len(open_) == 0:
                break
            entry, count = (_in_first_ring if ring == 1 else _in_ring)(mask, open_, bits, ring)
            down, right = (offsets.to(mask.device) for offsets in ring_offsets(ring))
            source = open_ % (height * width) + (down * width + right).index_select(0, entry)
            index.index_copy_(0, open_, source)  # of rings without observed pixels: overwritten later
            missed = (count == 0).nonzero()[:, 0]
            open_, bits = open_.index_select(0, missed), bits.index_select(0, missed)
        if len(open_) > 0:
            index[open_] = nearest_index(mask).flatten()[open_]
        return index.view(mask.shape)

    def _bits(self, mask: Tensor, positions: Tensor) -> Tensor:
        """Random numbers below 2^BITS for the flat ``positions``, a function of the mask that each belongs to."""
        pixels = torch.arange(mask[0].numel(), device=mask.device) * signed(GOLDEN)
        weights = mix(pixels + key(self.seed, "RingNearest"))
        mask_key = (mask.flatten(1) * weights).sum(1)
        state = (mask_key[:, None] + pixels).flatten().index_select(0, positions)
        return mix(state) & ((1 << BITS) - 1)


def _in_ring(mask: Tensor, positions: Tensor, bits: Tensor, ring: int) -> tuple[Tensor, Tensor]:
    """For each flat position (Q,) the number of the drawn observed entry of its ring, and how many are observed.

    The first number is arbitrary where none is observed.
    """
    _, height, width = mask.shape
    down, right = (offsets.to(mask.device) for offsets in ring_offsets(ring))
    padded = functional.pad(mask, (ring,) * 4)
    step = width + 2 * ring
    plane = positions // (height * width)
    pixel = positions - plane * (height * width)
    corner = plane * padded[0].numel() + pixel // width * (2 * ring) + pixel
    places = corner + ((down + ring) * step + right + ring)[:, None]
    # index_select is several times as fast as indexing
    observed = padded.flatten().index_select(0, places.flatten()).view(places.shape)  # (8 ring, Q)
    rank = observed.cumsum(0, dtype=torch.int16)
    count = rank[-1]
    wanted = (bits * count >> BITS).to(rank.dtype)
    entry = (rank <= wanted).sum(0, dtype=rank.dtype).long()
    return entry.clamp_(max=8 * ring - 1), count


def _in_first_ring(mask: Tensor, positions: Tensor, bits: Tensor, ring: int = 1) -> tuple[Tensor, Tensor]:
    """As :func:`_in_ring` for the first ring, faster: its 8 mask entries are a byte, which indexes a table of draws."""
    _, height, width = mask.shape
    padded = functional.pad(mask, (1,) * 4).byte()
    pattern = torch.zeros_like(mask, dtype=torch.uint8)
    for entry, (down, right) in enumerate(zip(*(offsets.tolist() for offsets in ring_offsets(1)), strict=True)):
        pattern.add_(padded[:, 1 + down : 1 + down + height, 1 + right : 1 + right + width], alpha=1 << entry)
    entries = torch.arange(8, device=mask.device)
    rank = (torch.arange(256, device=mask.device)[:, None] >> entries & 1).cumsum(1)
    drawn = (rank[:, :, None] <= entries).sum(1).clamp(max=7)  # indexed by pattern and number of the draw
    found = pattern.flatten().index_select(0, positions).long()
    count = rank[:, -1].index_select(0, found)
    return drawn.flatten().index_select(0, 8 * found + (bits * count >> BITS)), count


def ring_offsets(ring: int) -> tuple[Tensor, Tensor]:
    """Row and column offsets (8 ring,), int64, of MCFlow's ring: four half-open sides of a square."""
    side, far = torch.arange(-ring, ring), torch.full((2 * ring,), ring)
    return torch.cat([-far, side, far, side]), torch.cat([side, -far, side, far])


def nearest_index(mask: Tensor) -> Tensor:
    """Flat index (N,H,W), int64, of the observed pixel of ``mask`` (N,H,W) at the smallest Euclidean distance.

    Ties go to the first in reading order; 0 where a mask has no observed pixel. Exact: the nearest observed pixel of
    every column, then the best column.
    """
    _, height, width = mask.shape
    limit = height**2 + width**2  # more than any squared distance
    rows = torch.arange(height, device=mask.device, dtype=torch.int32 if limit < 2**30 else torch.int64)[:, None]
    above = torch.where(mask, rows, -limit).cummax(1).values
    below = torch.where(mask, rows, limit).flip(1).cummin(1).values.flip(1)
    row = torch.where(rows - above <= below - rows, above, below)
    del above, below
    # On the CPU band by band of rows: in large images that bounds the memory, and a band is in the cache.
    whole = mask.device.type != "cpu" or mask.numel() <= BAND
    lines = height if whole else max(1, BAND // (len(mask) * width))
    starts = range(0, height, lines)
    parts = [_across(some, height, start) for start, some in zip(starts, row.split(lines, 1), strict=True)]
    return parts[0] if len(parts) == 1 else torch.cat(parts, 1)


def _across(row: Tensor, height: int, start: int) -> Tensor:
    """:func:`nearest_index` of the rows from ``start`` on.

    Args:
        row: (N,R,W) row of the nearest observed pixel of the same column, out of the image if there is none.
        height: of the image.
        start: number of the first of the R rows.
    """
    _, count, width = row.shape
    limit = height**2 + width**2  # more than any squared distance
    bits = max(1, (height * width - 1).bit_length())
    small = 2 * limit << bits < 2**31
    row = row.to(torch.int32 if small else torch.int64)
    rows = torch.arange(start, start + count, device=row.device, dtype=row.dtype)[:, None]
    columns = torch.arange(width, device=row.device, dtype=row.dtype)
    apart = (row - rows).abs()
    # One number that sorts like (squared distance, position).
    encoded = (apart.clamp(max=height) ** 2 << bits) | (row * width + columns)
    in_column = torch.where(apart < height, encoded, limit << bits)
    best = in_column.clone()
    for away in range(1, width):
        # Columns farther away than all pixels found so far; on a GPU asking would cost more than going on.
        if row.device.type == "cpu" and away % LOOK == 0 and away**2 << bits > int(best.max()):
            break
        across = away**2 << bits
        for to, source in ((slice(away, None), slice(-away)), (slice(-away), slice(away, None))):
            part = best[:, :, to]
            torch.minimum(part, in_column[:, :, source] + across, out=part)
    index = (best & ((1 << bits) - 1)).long()
    return torch.where(best >> bits < limit, index, 0)
