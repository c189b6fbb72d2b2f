"""Delaunay triangles around the missing pixels, by Qhull (scipy), one convex hull a mask.

Everything behind Qhull is exact: corners are whole numbers, and so are the areas whose quotients are the weights.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import ConvexHull, Delaunay, QhullError

Whole = NDArray[np.int64]
Real = NDArray[np.float64]

UNMERGED = 2**12
"""Observed pixels up to which Qhull is first asked to do without merging facets, which is twice as fast.

It notices by itself where rounding makes that impossible, which it does in larger images."""

BLOCK = 2**12
"""Triangles or pixels whose arrays are in the cache at the same time."""


class Found(NamedTuple):
    """Flat positions of pixels (M,) and of their corners (M,3), and the weights (M,3) of the corners."""

    pixel: Whole
    corner: Whole
    weight: Real


def corners(masks: NDArray[np.bool_], heights: Real) -> Found:
    """The missing pixels in the convex hull of the observed ones, their corners and weights, as ``linear.Corners``.

    Args:
        masks: (N,H,W) bool, which pixels are observed. Equal masks share one triangulation.
        heights: (H,W) random heights of the positions, in squared pixels.
    """
    numbers: dict[bytes, int] = {}
    which = np.array([numbers.setdefault(mask.tobytes(), len(numbers)) for mask in masks], dtype=np.int64)
    first = np.unique(which, return_index=True)[1]
    different = masks[first]
    found = _corners(different, heights)
    if len(different) == len(masks):
        return found
    size = heights.size
    ends = np.searchsorted(found.pixel, np.arange(len(different) + 1) * size)
    parts = [slice(ends[number], ends[number + 1]) for number in which]
    shifts = (np.arange(len(masks)) - which) * size
    return Found(
        np.concatenate([found.pixel[part] + shift for part, shift in zip(parts, shifts, strict=True)]),
        np.concatenate([found.corner[part] + shift for part, shift in zip(parts, shifts, strict=True)]),
        np.concatenate([found.weight[part] for part in parts]),
    )


def _corners(masks: NDArray[np.bool_], heights: Real) -> Found:
    """:func:`corners` of masks that all differ."""
    simplices, lines = [np.empty((0, 3), np.int64)], []
    for number, (mask, sites) in enumerate(zip(masks, needed(masks), strict=True)):
        start = number * heights.size
        position = np.flatnonzero(sites)
        row, column = np.divmod(position, heights.shape[1])
        if len(position) < 2:
            continue
        down, right = row - row[0], column - column[0]
        if (down * right[-1] - right * down[-1]).any():
            corner, lower = facets(row, column, heights[row, column])
            simplices.append(position[corner[lower]] + start)
        else:
            line = on_a_line(mask, row, column)
            lines.append(Found(line.pixel + start, line.corner + start, line.weight))
    found = covered(np.concatenate(simplices), masks)
    return _ordered([found, *lines]) if lines else found


def _ordered(parts: list[Found]) -> Found:
    """All parts in one, by pixel."""
    pixel = np.concatenate([part.pixel for part in parts])
    order = np.argsort(pixel, kind="stable")
    corner, weight = (np.concatenate([part[i] for part in parts])[order] for i in (1, 2))
    return Found(pixel[order], corner, weight)


def needed(masks: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The observed pixels (N,H,W) with a missing neighbour, of four; no other one is a corner around a missing pixel.

    An observed pixel with four observed neighbours has corners in its own unit squares only, and the triangles of the
    others do not change without it.
    """
    framed = np.pad(masks, ((0, 0), (1, 1), (1, 1)), constant_values=True)
    inner = framed[:, 2:, 1:-1] & framed[:, :-2, 1:-1] & framed[:, 1:-1, 2:] & framed[:, 1:-1, :-2]
    return masks & ~inner


def facets(row: Whole, column: Whole, height: Real) -> tuple[Whole, NDArray[np.bool_]]:
    """The triangles (T,3), by number, of the convex hull of at least 3 lifted pixels not on a line; which are below.

    The lifted pixels are (row, column, row² + column² + height).
    """
    if len(row) == 3:
        return np.array([[0, 1, 2], [0, 1, 2]]), np.array([True, False])
    r, c = row - row[-1] // 2, column - column.max() // 2  # about zero, where rounding is least
    lifted = np.column_stack([r, c, r * r + c * c + height])
    try:
        hull = ConvexHull(lifted, qhull_options="Q0" if len(row) <= UNMERGED else None)
    except QhullError:
        try:
            hull = ConvexHull(lifted)
        except QhullError:  # all on one circle, so that the hull is flat but for the heights
            return _on_a_circle(r, c)
    return hull.simplices.astype(np.int64), hull.equations[:, 2] < 0


def _on_a_circle(r: Whole, c: Whole) -> tuple[Whole, NDArray[np.bool_]]:
    """:func:`facets` of pixels (r, c) on one circle: any triangulation; above there are only its edges."""
    flat = Delaunay(np.column_stack([r, c]))
    edges = flat.convex_hull[:, [0, 0, 1]]
    corner = np.concatenate([flat.simplices, edges]).astype(np.int64)
    return corner, np.arange(len(corner)) < len(flat.simplices)


def on_a_line(mask: NDArray[np.bool_], row: Whole, column: Whole) -> Found:
    """The missing pixels between the first and the last of pixels (row, column) on a line, in reading order."""
    down, right = row[-1] - row[0], column[-1] - column[0]
    steps = np.gcd(down, right)
    along = np.arange(steps + 1)
    pixel = (row[0] + along * (down // steps)) * mask.shape[1] + column[0] + along * (right // steps)
    place = (row - row[0] + np.abs(column - column[0])) * steps // (down + np.abs(right))
    along, pixel = along[~mask.reshape(-1)[pixel]], pixel[~mask.reshape(-1)[pixel]]
    after = np.searchsorted(place, along)
    ends = np.stack([after - 1, after, after], 1)
    weight = np.stack([place[after] - along, along - place[after - 1], 0 * along], 1)
    corner = (row * mask.shape[1] + column)[ends]
    return Found(pixel, corner, weight / weight.sum(1, keepdims=True))


def covered(simplices: Whole, masks: NDArray[np.bool_]) -> Found:
    """The missing pixels in the triangles ``simplices`` (T,3), flat positions in the masks (N,H,W)."""
    row, column = (part.astype(float) for part in np.divmod(simplices, masks.shape[2]))
    area = _cross(row, column, 1, 2, row[:, 0], column[:, 0])
    # Twice the area is 1 if and only if the corners are the only pixels (Pick).
    useful = np.flatnonzero(np.abs(area) > 1)
    # A pixel on an edge is in two triangles, with the same result; the last one keeps it.
    owner = np.full(masks.size, -1)
    for some in _blocks(useful):
        line, low, high, number = _spans(row[some], column[some], np.sign(area[some]))
        count = np.maximum(high - low + 1, 0)
        start = line * masks.shape[2] + low - (np.cumsum(count) - count)
        owner[np.repeat(start, count) + np.arange(count.sum())] = np.repeat(some[number], count)
    pixel = np.flatnonzero((owner >= 0) & ~masks.reshape(-1))
    weight = np.empty((len(pixel), 3))
    for some in _blocks(np.arange(len(pixel))):
        number = owner[pixel[some]]
        r, c = np.divmod(pixel[some], masks.shape[2])
        for k in range(3):
            weight[some, k] = _cross(row[number], column[number], (k + 1) % 3, (k + 2) % 3, r, c) / area[number]
    return Found(pixel, simplices[owner[pixel]], weight)


def _blocks(numbers: Whole) -> list[Whole]:
    """Pieces of :data:`BLOCK` numbers."""
    return [numbers[start : start + BLOCK] for start in range(0, len(numbers), BLOCK)]


def _cross(row: Real, column: Real, i: int, j: int, r: NDArray[Any], c: NDArray[Any]) -> Real:
    """Twice the signed area (T,) of the triangles with corners i and j of (row, column), (T,3), and (r, c), (T,)."""
    area: Real = (row[:, i] - r) * (column[:, j] - c) - (row[:, j] - r) * (column[:, i] - c)
    return area


def _spans(row: Real, column: Real, sign: Real) -> tuple[Whole, Whole, Whole, Whole]:
    """The pixels in triangles with corners (row, column), (T,3), row by row; ``sign`` (T,) is that of their area.

    Returns:
        row, first and last column, and number of the triangle (S,); where the last column is less there is no pixel.
    """
    top = row.min(1).astype(np.int64)
    lines = row.max(1).astype(np.int64) - top + 1
    number = np.repeat(np.arange(len(row)), lines)
    line = np.arange(len(number)) - (np.cumsum(lines) - lines - top)[number]
    low, high = np.full(len(line), -np.inf), np.full(len(line), np.inf)
    for i, j in ((0, 1), (1, 2), (2, 0)):
        # inside: slope * c <= offset - r * run
        slope, run = sign * (row[:, i] - row[:, j]), sign * (column[:, j] - column[:, i])
        offset = sign * (row[:, i] * column[:, j] - row[:, j] * column[:, i])
        # Quotients of such whole numbers are never rounded to the next one.
        bound = np.floor((offset[number] - line * run[number]) / np.maximum(np.abs(slope), 1)[number])
        slope = slope[number]
        np.minimum(high, bound, out=high, where=slope > 0)
        np.maximum(low, -bound, out=low, where=slope < 0)
    return line, low.astype(np.int64), high.astype(np.int64), number
