"""k-nearest-neighbour imputation between incomplete images, as scikit-learn's ``KNNImputer``, batched.

The distance of two images uses the pixels observed in both and scales up:

    d(x, y)² = n / |P| · Σ_{j in P} (x_j - y_j)²,   P = pixels observed in both, n = all pixels;

it is undefined if P is empty. A missing pixel becomes the mean of the k nearest donors *in which this pixel is
observed* (fewer if there are fewer), and the mean over all donors if no distance is defined.

Where several donors are equally far at the k-th distance, those of lower index are taken, or with ``ties="shared"``
(ours) they share the weight that the nearer ones leave: with c nearer donors and t at the k-th distance, the pixel is
(sum of the nearer + (k - c) / t · sum of the tied) / k. That is the mean over all choices among the tied donors, so the
order of the donors does not matter. (``KNNImputer`` takes those that a partial sort happens to leave in front; that
differs at ties only.)

The distances of a chunk are matrix products. Donors are then visited in order of distance, for the pixels that still
need some. Pixels with a tie at their k-th donor are visited once more.

For 8-bit images (all donor values are multiples of 1/255) the distances are computed in whole numbers that float32
represents exactly, so the result does not depend on the device or on the batch.
"""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from torch import Tensor

from lacuna.errors import LacunaError
from lacuna.imputers import knn_cells
from lacuna.imputers.base import Imputer, unit_scale
from lacuna.imputers.simple import check_image_shape, observed_mean

# Pixels per matrix product. With 8-bit values centred at 128 one pixel contributes at most 2^16 to
# x² + y² - 2xy, so 256 of them stay within the 2^24 up to which float32 counts exactly.
BLOCK = 256
# Bound: (queries x donors) in one chunk.
PAIRS = 2**22
FIRST_RANKS = 48


class KNN(Imputer):
    """Imputes the mean of the k nearest training images in which the pixel is observed (nan-Euclidean distance).

    Args:
        k: number of neighbours.
        donors: number of training images to search, drawn by the caller of :meth:`fit`; ``None`` = all.
        complete_donors: whether the training images are complete (an advantage that tables have to state).
        published: the variant behind the k-NN rows of the MisConv paper (its text says k = 5 and incomplete images,
            its code does this): complete donors; missing pixels are replaced by the donors' mean image before the
            search; the single nearest image is copied. Implies ``k=1, complete_donors=True, ties="first"``.
        ties: ``first``: of donors that are equally far, those of lower index come first; ``shared``: as said above.
        dtype: ``float32``, or ``float64`` for agreement with scikit-learn to the last digits on data that are
            not 8-bit.

    Raises:
        LacunaError: a value is out of its range.
    """

    needs_fit: ClassVar[bool] = True
    images: Tensor
    donor_mask: Tensor
    mean: Tensor

    def __init__(
        self,
        k: int = 5,
        donors: int | None = 5000,
        complete_donors: bool = False,
        published: bool = False,
        ties: str = "first",
        dtype: str = "float32",
    ) -> None:
        super().__init__()
        if k < 1:
            raise LacunaError(f"imputer.k={k} must be at least 1.")
        if donors is not None and donors < 1:
            raise LacunaError(f"imputer.donors={donors} must be at least 1, or null for all training images.")
        if dtype not in ("float32", "float64"):
            raise LacunaError(f"imputer.dtype={dtype} must be float32 or float64.")
        if ties not in ("shared", "first"):
            raise LacunaError(f"imputer.ties={ties} must be shared or first.")
        self.k = 1 if published else k
        self.donors = donors
        self.complete_donors = complete_donors or published
        self.published = published
        self.ties = "first" if published else ties
        self.dtype = torch.float32 if dtype == "float32" else torch.float64
        self.register_buffer("images", torch.empty(0))
        self.register_buffer("donor_mask", torch.empty(0, dtype=torch.bool))
        self.register_buffer("mean", torch.empty(0))
        self._grid: bool | None = None

    def _fit(self, observed: Tensor, mask: Tensor) -> None:
        device = self.images.device
        self.images = torch.where(mask, unit_scale(observed), 0.0).to(device)
        self.donor_mask = mask.clone().to(device)
        self.mean = observed_mean(observed, mask).to(device)
        self._grid = None

    def _load_from_state_dict(self, *args: object, **kwargs: object) -> None:
        self._grid = None
        super()._load_from_state_dict(*args, **kwargs)  # type: ignore[arg-type]

    @property
    def eight_bit(self) -> bool:
        """Whether the search compares whole numbers: all donors are multiples of 1/255, and no mean is inserted."""
        if self._grid is None:
            levels = self.images * 255
            self._grid = not self.published and bool(((levels - levels.round()).abs() < 1e-3).all())
        return self._grid

    def _impute(self, observed: Tensor, mask: Tensor) -> Tensor:
        check_image_shape(self, self.images.shape[1:], observed)
        images = self.images.flatten(1).to(self.dtype)
        donor_mask = self.donor_mask.expand_as(self.images).flatten(1)
        queries = observed.flatten(1).to(self.dtype)
        mask = mask.expand_as(observed).flatten(1)
        fallback = self.mean.flatten().to(self.dtype)
        filled = torch.empty_like(queries)
        size = max(1, PAIRS // len(images))
        for start in range(0, len(queries), size):
            part = slice(start, start + size)
            filled[part] = self._impute_chunk(queries[part], mask[part], images, donor_mask, fallback)
        return filled.view_as(observed)

    def _impute_chunk(self, x: Tensor, mask: Tensor, images: Tensor, donor_mask: Tensor, fallback: Tensor) -> Tensor:
        """Impute ``x`` (Q,D), observed where ``mask``, from donors (N,D), else from ``fallback`` (D,)."""
        if self.published:
            search, both = torch.where(mask, x, fallback), torch.ones_like(mask)
        else:
            search, both = x, mask
        keys = knn_cells.Keys(squared_distances(search, both, images, donor_mask, self.eight_bit))
        row, column = (~mask).nonzero(as_tuple=True)
        cells = knn_cells.Cells(row, column, images, donor_mask, self.eight_bit, self.k)
        open_cells = torch.arange(len(row), device=x.device)
        tied = []
        done, ranks = 0, self.k if self.complete_donors else max(self.k, FIRST_RANKS)
        while len(open_cells) > 0 and done < len(images):
            ranks = min(ranks, len(images))
            # Only queries that still have an open cell are sorted further.
            needed, position = torch.unique(row[open_cells], return_inverse=True)
            order, level, equal = keys.nearest(needed, ranks)
            where = torch.empty(len(row), dtype=torch.int64, device=x.device)
            where[open_cells] = position
            step = max(1, min(8, self.k if self.complete_donors else 8))
            while done < ranks and len(open_cells) > 0:
                stop = min(ranks, done + max(1, min(step, knn_cells.CELLS // len(open_cells))))
                donor = order[where[open_cells], done:stop]
                count = cells.collect(open_cells, donor)
                if self.ties == "shared" and bool(equal[:, done:stop].any()):
                    last = done + (count < self.k).sum(1).clamp(max=stop - done - 1)
                    query = where[open_cells]
                    found = (cells.taken[open_cells] == self.k) & equal[query, last]
                    tied.append((open_cells[found], level[query[found], last[found]]))
                done, step = stop, step * 2
                exhausted = donor[:, -1] < 0
                open_cells = open_cells[(cells.taken[open_cells] < self.k) & ~exhausted]
            ranks *= 6
        if tied:
            cells.share_ties(keys, *map(torch.cat, zip(*tied, strict=True)))
        filled = fallback.expand_as(x).clone()
        mean = (cells.total / cells.taken.clamp(min=1)).to(x.dtype)
        filled[row, column] = torch.where(cells.taken > 0, mean, fallback[column])
        return filled


def squared_distances(x: Tensor, mask: Tensor, y: Tensor, donor_mask: Tensor, eight_bit: bool = False) -> Tensor:
    """Squared nan-Euclidean distances, (Q,N) float64; infinite where no pixel is observed in both images.

    Args:
        x: (Q,D) values in [0, 1], ``mask`` (Q,D) bool where they are observed.
        y: (N,D) values in [0, 1], ``donor_mask`` (N,D) bool where they are observed.
        eight_bit: values are multiples of 1/255 and compared as whole numbers (then the unit is 1/255, and
            the distances are exact up to the one division).
    """
    total = torch.zeros(len(x), len(y), dtype=torch.float64, device=x.device)
    shared = torch.zeros(len(x), len(y), dtype=x.dtype, device=x.device)
    precision = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")  # TF32 would round the products
    try:
        for start in range(0, x.shape[1], BLOCK):
            block = slice(start, start + BLOCK)
            mx, my = mask[:, block].to(x.dtype), donor_mask[:, block].to(x.dtype)
            # Centred values lose fewer digits in x² + y² - 2xy.
            vx, vy = (_centred(x[:, block], eight_bit) * mx, _centred(y[:, block], eight_bit) * my)
            left = torch.cat([vx * vx, mx, -2 * vx], 1)
            right = torch.cat([my, vy * vy, vy], 1)
            total += left @ right.T
            shared += mx @ my.T
    finally:
        torch.set_float32_matmul_precision(precision)
    squared = total.clamp_(min=0).mul_(x.shape[1]).div_(shared.clamp(min=1))
    return squared.masked_fill_(shared == 0, math.inf)


def _centred(values: Tensor, eight_bit: bool) -> Tensor:
    return (values * 255).round() - 128 if eight_bit else values - 0.5
