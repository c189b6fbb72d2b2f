"""The missing pixels of k-NN queries, which collect donors in order of distance, and the rule for ties."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

# Bound: (cells x donors) visited in one step. A cell is one missing pixel of one query.
CELLS = 2**21
# Visiting a donor's pixel takes as long as this many multiplications of a matrix product.
VISIT = 64


class Keys:
    """Integers that sort like (distance, donor index): the distance's bits with the index in its last bits.

    Non-negative doubles sort like their bit patterns. The index takes the last ``bits`` of 52, so distances closer
    than a relative 2^-(52-bits) count as equal: 1e-12 for 5000 donors. What remains of a distance is its *level*.

    Args:
        squared: distances (Q,N) float64, infinite where undefined.
    """

    def __init__(self, squared: Tensor) -> None:
        self.bits = max(1, (squared.shape[1] - 1).bit_length())
        index = torch.arange(squared.shape[1], device=squared.device)
        self.key = (squared.view(torch.int64) >> self.bits << self.bits) | index

    def nearest(self, queries: Tensor, ranks: int) -> tuple[Tensor, Tensor, Tensor]:
        """The nearest donors of some queries, each (Q,ranks): index, level, and whether the next one's level is equal.

        The index is -1 where the distance is infinite.
        """
        more = min(ranks + 1, self.key.shape[1])
        best = self.key[queries].topk(more, dim=1, largest=False, sorted=True).values
        level = best >> self.bits
        undefined = level >= _INFINITY >> self.bits
        order = (best & ((1 << self.bits) - 1)).masked_fill(undefined, -1)
        equal = torch.zeros_like(undefined)
        equal[:, :-1] = (level[:, 1:] == level[:, :-1]) & ~undefined[:, :-1]
        return order[:, :ranks], level[:, :ranks], equal[:, :ranks]

    def levels(self, queries: Tensor) -> Tensor:
        """The levels of all donors for some queries, (Q,N)."""
        return self.key[queries] >> self.bits


class Cells:
    """The missing pixels of some queries. Each collects donors: ``taken`` of them, whose values sum to ``total``.

    Args:
        row, column: query and pixel of each cell.
        images: donors (N,D), ``donor_mask`` (N,D) where they are observed.
        eight_bit: their values are multiples of 1/255.
        k: number of donors of a cell.
    """

    def __init__(
        self, row: Tensor, column: Tensor, images: Tensor, donor_mask: Tensor, eight_bit: bool, k: int
    ) -> None:
        self.row, self.column = row, column
        self.images, self.donor_mask, self.eight_bit, self.k = images, donor_mask, eight_bit, k
        # float64, so that the order of addition does not change the mean.
        self.total = torch.zeros(len(row), dtype=torch.float64, device=row.device)
        self.taken = torch.zeros(len(row), dtype=torch.int32, device=row.device)

    def collect(self, cells: Tensor, donor: Tensor) -> Tensor:
        """Add the next donors (S,R) to some cells (S,), up to k; (S,R) how many there are with each of them."""
        usable, value = self._values(cells, donor)
        count = usable.cumsum(1, dtype=torch.int32) + self.taken[cells][:, None]
        usable &= count <= self.k
        self.total[cells] += torch.where(usable, value, 0.0).sum(1, dtype=torch.float64)
        self.taken[cells] += usable.sum(1, dtype=torch.int32)
        return count

    def share_ties(self, keys: Keys, tied: Tensor, level: Tensor) -> None:
        """Let all donors at the level (S,) of the k-th share what the nearer ones leave of k, in some cells (S,).

        Few cells visit their donors. Where many cells of a query have the same level and it is that of many donors,
        as in images with a plain background, the sums of all their pixels are a matrix product.
        """
        if len(tied) == 0:
            return
        queries, position = torch.unique(self.row[tied], return_inverse=True)
        highest = level.new_zeros(len(queries)).scatter_reduce_(0, position, level, "amax")
        reach = (keys.levels(queries) <= highest[:, None]).sum(1)
        distinct, number = torch.unique(level, return_inverse=True)
        group, of_cell, size = torch.unique(position * len(distinct) + number, return_inverse=True, return_counts=True)
        dense = size * reach[group // len(distinct)] * VISIT > self.images.numel()
        visiting, multiplied = ~dense[of_cell], dense[of_cell]
        if bool(visiting.any()):
            some = _Tied(tied[visiting], position[visiting], level[visiting])
            self._visit(keys, some, queries, reach)
        if bool(multiplied.any()):
            # numbers of the dense groups among each other
            renumbered = (dense.cumsum(0) - 1)[of_cell[multiplied]]
            query, wanted = queries[group[dense] // len(distinct)], distinct[group[dense] % len(distinct)]
            self._multiply(keys, _Tied(tied[multiplied], renumbered, level[multiplied]), query, wanted)

    def _visit(self, keys: Keys, tied: _Tied, queries: Tensor, reach: Tensor) -> None:
        """The tied cells of ``queries`` (Q,), ``tied.group`` says which; they see that many nearest donors (Q,)."""
        order, levels, _ = keys.nearest(queries, int(reach.max()))
        by_reach = reach[tied.group].argsort(descending=True)
        start = 0
        while start < len(by_reach):
            width = int(reach[tied.group[by_reach[start]]])
            part = by_reach[start : start + max(1, CELLS // width)]
            query, limit = tied.group[part], tied.level[part][:, None]
            usable, value = self._values(tied.cells[part], order[query, :width])
            rank = levels[query, :width]
            both = [usable & (rank < limit), usable & (rank == limit)]
            sums = (torch.where(chosen, value, 0.0).sum(1, dtype=torch.float64) for chosen in both)
            self._settle(tied.cells[part], *sums, *(chosen.sum(1) for chosen in both))
            start += len(part)

    def _multiply(self, keys: Keys, tied: _Tied, queries: Tensor, level: Tensor) -> None:
        """The tied cells of groups (G,) with one query and one level each; ``tied.group`` says which."""
        # Sums of whole numbers below 2^24 are exact in float32.
        exact = self.eight_bit and len(self.images) < 1 << 16
        unit, dtype = (255, torch.float32) if exact else (1, torch.float64)
        values = (self.images * unit).round() if exact else self.images
        table = torch.cat([values * self.donor_mask, self.donor_mask], 1).to(dtype)
        pixels = self.images.shape[1]
        size = max(1, CELLS // len(self.images))
        for start in range(0, len(queries), size):
            part = slice(start, start + size)
            found, wanted = keys.levels(queries[part]), level[part][:, None]
            sums = torch.cat([found < wanted, found == wanted]).to(dtype) @ table
            inside = (tied.group >= start) & (tied.group < start + size)
            cells, group = tied.cells[inside], tied.group[inside] - start
            near, equal = group, group + len(found)
            column = self.column[cells]
            totals = (sums[which, column].double() / unit for which in (near, equal))
            self._settle(cells, *totals, *(sums[which, pixels + column] for which in (near, equal)))

    def _settle(self, cells: Tensor, nearer: Tensor, equal: Tensor, n_nearer: Tensor, n_equal: Tensor) -> None:
        """From the sums and numbers of the donors that are nearer than the k-th one and as near as it is."""
        self.total[cells] = nearer + equal * ((self.k - n_nearer).double() / n_equal)

    def _values(self, cells: Tensor, donor: Tensor) -> tuple[Tensor, Tensor]:
        """Whether the donors (S,R) of some cells (S,) have the pixel, and its value; -1 = no donor."""
        at = donor.clamp(min=0) * self.images.shape[1] + self.column[cells, None]
        return self.donor_mask.reshape(-1)[at] & (donor >= 0), self.images.reshape(-1)[at]


@dataclass(frozen=True)
class _Tied:
    """Cells with a tie at their k-th donor: their numbers, groups and levels, each (S,)."""

    cells: Tensor
    group: Tensor
    level: Tensor


_INFINITY = 0x7FF0000000000000  # the bits of +inf
