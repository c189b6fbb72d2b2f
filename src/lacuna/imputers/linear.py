"""Linear interpolation on the Delaunay triangulation of the observed pixels (Bernal, arXiv 2104.01482: "bilinear").

Pixels of a grid lie on common circles, so their Delaunay triangulation is not unique. Fixed random heights of the
positions make it unique: the triangulation is the lower convex hull of the pixels lifted to r² + c² plus these heights,
which are too small to change a triangle that is unique without them.

On the CPU, and for large images, Qhull finds the triangles, in windows of the largest ones; on a GPU a search for all
pixels of all images at once.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from lacuna.imputers import qhull, simplex_search, tiles
from lacuna.imputers.nearest import nearest_index
from lacuna.imputers.per_channel import PerChannelImputer, gather_pixels

TILED = 2**15
"""Pixels above which triangles are found in windows of an image."""

SEARCHED = 2**14
"""Pixels of the largest images that a GPU searches by itself: it compares every missing with every observed pixel."""


class Corners(NamedTuple):
    """The triangles around the missing pixels of N masks (N,H,W) that lie in the convex hull of the observed ones.

    Attributes:
        pixel: (M,) flat positions of these missing pixels in (N,H,W), int64, ascending.
        corner: (M,3) flat positions of the corners in (N,H,W), all observed.
        weight: (M,3) float64, not negative, with sum 1: the pixel is the weighted mean of the corners.
    """

    pixel: Tensor
    corner: Tensor
    weight: Tensor


class Linear(PerChannelImputer):
    """Linear interpolation between observed pixels; outside their convex hull the nearest one.

    Equals scipy's ``griddata`` with method "linear" where the Delaunay triangulation is unique (where four pixels lie
    on a circle scipy may split their quadrangle by the other diagonal), and "nearest" outside the hull.
    """

    def _impute_channels(self, values: Tensor, mask: Tensor) -> Tensor:
        if mask[0].numel() > TILED:
            return self._large(values, mask)
        filled = gather_pixels(values, nearest_index(mask))
        corners = self._corners(mask)
        # one row a pixel, so that all channels of a pixel are read at once
        row, shape = values.flatten(2).mT.flatten(0, 1), (len(values), mask[0].numel(), values.shape[1])
        means = row[corners.corner.flatten()].unflatten(0, (-1, 3)) * corners.weight[..., None].to(values.dtype)
        result = filled.flatten(2).mT.flatten(0, 1).index_copy(0, corners.pixel, means.sum(1))
        return result.view(shape).mT.reshape(values.shape)

    def _large(self, values: Tensor, mask: Tensor) -> Tensor:
        """The same, window by window of an image, so that memory is bounded. Equal masks share their triangles."""
        result, height = values.clone(), heights(*mask.shape[1:]).numpy()
        todo = list(range(len(mask)))
        while todo:
            seen = mask[todo[0]]
            alike = [i for i in todo if torch.equal(mask[i], seen)]
            todo = [i for i in todo if i not in alike]
            known = seen.flatten().clone()
            for found in tiles.pieces(seen.cpu().numpy(), height):
                pixel, corner, weight = (torch.from_numpy(part).to(mask.device) for part in found)
                known[pixel] = True
                for i in alike:
                    means = values[i].flatten(1)[:, corner.flatten()].unflatten(1, (-1, 3)) * weight.to(values.dtype)
                    result[i].view(len(means), -1)[:, pixel] = means.sum(2)
            if not bool(known.all()):
                rest = (~known).nonzero()[:, 0]
                source = nearest_index(seen[None]).flatten()[rest]
                for i in alike:
                    result[i].view(values.shape[1], -1)[:, rest] = values[i].flatten(1)[:, source]
        return result

    def _corners(self, mask: Tensor) -> Corners:
        height = heights(*mask.shape[1:])
        if mask.device.type != "cpu" and mask[0].numel() <= SEARCHED:
            return Corners(*simplex_search.corners(mask, height.to(mask.device)))
        found = qhull.corners(mask.cpu().numpy(), height.numpy())
        return Corners(*(torch.from_numpy(part).to(mask.device) for part in found))


def heights(height: int, width: int) -> Tensor:
    """The fixed random heights (height,width) of the positions, float64, in [0, 1 / (2 height width)).

    A pixel that is not on the circle through three others is at least 1 / T above or below the plane through these,
    lifted to r² + c², where T is twice the area of their triangle. Heights change this distance by less than
    2 height width / T times the largest of them: so only pixels on one circle are told apart by them.
    """
    drawn = torch.rand(height * width, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return drawn.view(height, width) / (2 * height * width)
