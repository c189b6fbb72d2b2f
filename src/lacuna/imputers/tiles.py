"""Delaunay triangles around the missing pixels of one large image, from Qhull's triangles in windows of it.

A triangle of the pixels in a window is one of all pixels if its circle lies in the window. Pixels all of whose
triangles are found in this way are corners of no other triangle, so they are left out. The few that remain, at the
border of the image and at large holes, are triangulated in larger windows, at last in one. Memory is that of a window.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lacuna.imputers.qhull import Found, Real, Whole, covered, facets, needed, on_a_line

SITES = 2**10
"""Largest number of observed pixels in a tile of the first round; its window is wider by a margin."""

GROWTH = 8
"""Times as many in the next round."""

MARGIN = 8
"""Part of a tile's side by which its window is wider at each side, and least number of pixels."""

Mask = NDArray[np.bool_]


class Box(NamedTuple):
    """Rows and columns from the first to before the last."""

    top: int
    bottom: int
    left: int
    right: int

    @property
    def slices(self) -> tuple[slice, slice]:
        """An index of (height,width) arrays."""
        return slice(self.top, self.bottom), slice(self.left, self.right)

    def halves(self) -> tuple[Box, Box]:
        """Divided across the longer side."""
        if self.bottom - self.top >= self.right - self.left:
            middle = (self.top + self.bottom) // 2
            return self._replace(bottom=middle), self._replace(top=middle)
        middle = (self.left + self.right) // 2
        return self._replace(right=middle), self._replace(left=middle)

    def wider(self, height: int, width: int, by: int | None = None) -> Box:
        """The window around this tile of an image (height,width), wider by so many pixels at each side."""
        by = MARGIN + max(self.bottom - self.top, self.right - self.left) // MARGIN if by is None else by
        return Box(
            max(0, self.top - by), min(height, self.bottom + by), max(0, self.left - by), min(width, self.right + by)
        )


def pieces(mask: Mask, heights: Real) -> Iterator[Found]:
    """The missing pixels in the convex hull of the observed ones, each in one piece, with their corners and weights.

    Args:
        mask: (H,W) bool, which pixels are observed.
        heights: (H,W) random heights of the positions, in squared pixels.
    """
    missing, sites, most = ~mask, needed(mask[None])[0], SITES
    image = Box(0, mask.shape[0], 0, mask.shape[1])
    while sites.any() and missing.any():
        whole = np.count_nonzero(sites) <= most
        left = sites.copy()
        for tile in [image] if whole else _tiles(sites, image, most):
            found, complete = _window(missing, sites, heights, tile, tile.wider(*mask.shape))
            left[tile.slices] &= ~complete
            if len(found.pixel):
                missing.reshape(-1)[found.pixel] = False
                yield found
        if whole:
            break
        sites, most = left, most * GROWTH


def _tiles(sites: Mask, box: Box, most: int) -> Iterator[Box]:
    """Parts of ``box`` with at least one and at most ``most`` sites."""
    count = np.count_nonzero(sites[box.slices])
    if count > most:
        for half in box.halves():
            yield from _tiles(sites, half, most)
    elif count:
        yield box


def _window(missing: Mask, sites: Mask, heights: Real, tile: Box, window: Box) -> tuple[Found, Mask]:
    """What the pixels ``sites`` in a window say.

    Returns:
        the pixels ``missing`` that lie in certain triangles, and which sites of the tile have no other triangles.
    """
    inside = sites[window.slices]
    row, column = np.nonzero(inside)
    complete = np.zeros_like(inside)
    middle = tuple(
        slice(first - start, last - start)
        for first, last, start in ((tile.top, tile.bottom, window.top), (tile.left, tile.right, window.left))
    )
    down, right = row - row[0], column - column[0]
    if not (down * right[-1] - right * down[-1]).any():
        if tile == window and len(row) > 1:
            return _placed(on_a_line(~missing, row, column), tile, missing.shape[1]), complete[middle]
        return Found(np.empty(0, np.int64), np.empty((0, 3), np.int64), np.empty((0, 3))), complete[middle]
    corner, lower = facets(row, column, heights[window.slices][row, column])
    certain = lower & _round_about(row[corner], column[corner], window, missing.shape)
    complete[row, column] = np.bincount(corner[certain].reshape(-1), minlength=len(row)) > 0
    open_ = corner[~certain].reshape(-1)
    complete[row[open_], column[open_]] = False
    position = row * inside.shape[1] + column
    found = covered(position[corner[certain]], ~missing[window.slices][None])
    return _placed(found, window, missing.shape[1]), complete[middle]


def _placed(found: Found, window: Box, width: int) -> Found:
    """Flat positions of a window as those of the image."""
    across = window.right - window.left
    start = window.top * width + window.left
    pixel, corner = (part // across * width + part % across + start for part in (found.pixel, found.corner))
    return Found(pixel, corner, found.weight)


def _round_about(row: Whole, column: Whole, window: Box, shape: tuple[int, ...]) -> Mask:
    """Which triangles (T,3) have an area, and a circle with no pixel of the image outside the window."""
    r, c = (part[:, 1:].astype(float) - part[:, :1] for part in (row, column))
    area = r[:, 0] * c[:, 1] - r[:, 1] * c[:, 0]
    square = r**2 + c**2
    twice = 2 * np.where(area == 0, 1, area)
    down = (square[:, 0] * c[:, 1] - square[:, 1] * c[:, 0]) / twice
    right = (square[:, 1] * r[:, 0] - square[:, 0] * r[:, 1]) / twice
    radius = np.hypot(down, right)
    down, right = down + row[:, 0], right + column[:, 0]
    # Pixels outside are a whole pixel away from the last ones inside: half of it is more than rounding and heights.
    result: Mask = area != 0
    for centre, first, last, end in (
        (down, window.top, window.bottom, shape[0]),
        (right, window.left, window.right, shape[1]),
    ):
        if first > 0:
            result &= centre - radius > -0.5
        if last < end:
            result &= centre + radius < last - first - 0.5
    return result
