"""The nearest observed pixel: the Euclidean one, and MCFlow's, which is one of the nearest square ring's at random.

Sources: Bernal, arXiv 2104.01482, section 3 ("nearest neighbour or bilinear interpolation"); the public code of MCFlow
(Richardson et al. 2020), whose search of rings :class:`RingNearest` repeats with all its corners.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from lacuna.data.hashing import GOLDEN, key
from lacuna.data.masks import mix, signed
from lacuna.errors import LacunaError
from lacuna.imputers.per_channel import PlaneImputer, pick

BITS = 31
"""Of a draw; so many that it is uniform to nine digits, so few that its product with a count fits into 64."""


class Nearest(PlaneImputer):
    """The value of the observed pixel at the smallest Euclidean distance; of several, the first in reading order."""

    def _fill_planes(self, values: Tensor, seen: Tensor) -> Tensor:
        return pick(values, nearest_index(seen))


class RingNearest(PlaneImputer):
    """What MCFlow starts from: one pixel, drawn uniformly, of the smallest square ring that shows any.

    As in the published code a ring's lower right corner is never looked at and its upper left one counts twice. A pixel
    that sees an observed one in no ring (the published code then never ends) takes the Euclidean nearest.

    The draws are a function of the seed, the pixel and the plane's mask: the same in every call and in any batch.

    Args:
        seed: of the draws.

    Raises:
        LacunaError: a seed that is not a whole number.
    """

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        if not isinstance(seed, int) or isinstance(seed, bool):
            raise LacunaError(f"imputer.seed={seed!r} must be a whole number.")
        self.seed = seed

    def _fill_planes(self, values: Tensor, seen: Tensor) -> Tensor:
        return pick(values, self.source(seen))

    def source(self, seen: Tensor) -> Tensor:
        """Flat index (N,H,W) of the pixel that each pixel is copied from; itself where ``seen`` (N,H,W)."""
        n, height, width = seen.shape
        index = torch.arange(height * width, device=seen.device).repeat(n)
        # Flat positions over all planes of the pixels still without a source; few after the first rings.
        open_ = (~seen).flatten().nonzero()[:, 0]
        bits = self._bits(seen, open_)
        for ring in range(1, max(height, width)):
            if len(open_) == 0:
                break
            entry, count = (_in_first_ring if ring == 1 else _in_ring)(seen, open_, bits, ring)
            down, right = (offsets.to(seen.device) for offsets in ring_offsets(ring))
            source = open_ % (height * width) + (down * width + right).index_select(0, entry)
            index.index_copy_(0, open_, source)  # what saw nothing is overwritten later
            missed = (count == 0).nonzero()[:, 0]
            open_, bits = open_.index_select(0, missed), bits.index_select(0, missed)
        if len(open_) > 0:
            index[open_] = nearest_index(seen).flatten()[open_]
        return index.view(seen.shape)

    def _bits(self, seen: Tensor, positions: Tensor) -> Tensor:
        """Random numbers below 2^BITS for the flat ``positions``, from the mask of the plane each lies in."""
        pixels = torch.arange(seen[0].numel(), device=seen.device) * signed(GOLDEN)
        weights = mix(pixels + key(self.seed, "RingNearest"))
        plane = (seen.flatten(1) * weights).sum(1)
        state = (plane[:, None] + pixels).flatten().index_select(0, positions)
        return mix(state) & ((1 << BITS) - 1)


def _in_ring(seen: Tensor, positions: Tensor, bits: Tensor, ring: int) -> tuple[Tensor, Tensor]:
    """For each flat position (Q,) which observed entry of its ring is drawn (any if none is), and of how many."""
    _, height, width = seen.shape
    down, right = (offsets.to(seen.device) for offsets in ring_offsets(ring))
    padded = functional.pad(seen, (ring,) * 4)
    step = width + 2 * ring
    plane = positions // (height * width)
    pixel = positions - plane * (height * width)
    corner = plane * padded[0].numel() + pixel // width * (2 * ring) + pixel
    places = corner + ((down + ring) * step + right + ring)[:, None]
    # index_select is several times as fast as indexing
    shown = padded.flatten().index_select(0, places.flatten()).view(places.shape)  # (8 ring, Q)
    rank = shown.cumsum(0, dtype=torch.int16)
    count = rank[-1]
    wanted = (bits * count >> BITS).to(rank.dtype)
    entry = (rank <= wanted).sum(0, dtype=rank.dtype).long()
    return entry.clamp_(max=8 * ring - 1), count


def _in_first_ring(seen: Tensor, positions: Tensor, bits: Tensor, ring: int = 1) -> tuple[Tensor, Tensor]:
    """As :func:`_in_ring`, for nearly all pixels: what its 8 entries show is a byte, and all else a table of bytes."""
    _, height, width = seen.shape
    padded = functional.pad(seen, (1,) * 4).byte()
    pattern = torch.zeros_like(seen, dtype=torch.uint8)
    for entry, (down, right) in enumerate(zip(*(offsets.tolist() for offsets in ring_offsets(1)), strict=True)):
        pattern.add_(padded[:, 1 + down : 1 + down + height, 1 + right : 1 + right + width], alpha=1 << entry)
    entries = torch.arange(8, device=seen.device)
    rank = (torch.arange(256, device=seen.device)[:, None] >> entries & 1).cumsum(1)
    drawn = (rank[:, :, None] <= entries).sum(1).clamp(max=7)  # by pattern and number of the draw
    found = pattern.flatten().index_select(0, positions).long()
    count = rank[:, -1].index_select(0, found)
    return drawn.flatten().index_select(0, 8 * found + (bits * count >> BITS)), count


def ring_offsets(ring: int) -> tuple[Tensor, Tensor]:
    """Rows and columns (8 ring,) of MCFlow's ring: four half-open sides of a square, int64."""
    side, far = torch.arange(-ring, ring), torch.full((2 * ring,), ring)
    return torch.cat([-far, side, far, side]), torch.cat([side, -far, side, far])


def nearest_index(seen: Tensor) -> Tensor:
    """Flat index (N,H,W), int64, of the observed pixel nearest to each pixel of ``seen`` (N,H,W) in Euclidean distance.

    Ties go to the first in reading order; 0 in a plane that shows nothing. Exact: the nearest one of each column, then
    the best of all columns.
    """
    _, height, width = seen.shape
    bits = max(1, (height * width - 1).bit_length())
    limit = height**2 + width**2  # more than any squared distance
    small = 2 * limit << bits < 2**31
    rows = torch.arange(height, device=seen.device, dtype=torch.int32 if small else torch.int64)[:, None]
    columns = torch.arange(width, device=seen.device, dtype=rows.dtype)
    above = torch.where(seen, rows, -limit).cummax(1).values
    below = torch.where(seen, rows, limit).flip(1).cummin(1).values.flip(1)
    upwards = rows - above <= below - rows
    row = torch.where(upwards, above, below)
    apart = (row - rows).abs()
    # One number that sorts like (squared distance, position).
    encoded = (apart.clamp(max=height) ** 2 << bits) | (row * width + columns)
    in_column = torch.where(apart < height, encoded, limit << bits)
    best = torch.full_like(in_column, (2 * limit << bits) - 1)
    for column in range(width):
        across = (columns - column) ** 2 << bits
        torch.minimum(best, in_column[:, :, column, None] + across, out=best)
    index = (best & ((1 << bits) - 1)).long()
    return torch.where(best >> bits < limit, index, 0)
