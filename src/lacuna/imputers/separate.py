"""Harmonic and biharmonic inpainting of one large image: hole by hole, or window by window.

Holes that are no neighbours in the equations are solved directly, each by itself. Where holes are many or connected and
the missing pixels have observed ones near by, conjugate gradients run in overlapping windows, again and again until no
window's residual is too large (multiplicative Schwarz iteration): memory is that of a window.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from lacuna.errors import LacunaError
from lacuna.imputers import direct
from lacuna.imputers.tiles import Box

SIDE = 256
"""Of a tile of the iteration; more where pixels are not near."""

NEAR = 10
"""What near means, in pixels."""

LARGEST = {1: 2**19, 2: 2**18}
"""Missing pixels of the largest hole that is solved directly, by order: it takes 1 GB."""

PATIENCE = 900
"""Seconds of iteration, as estimated, after which a hole that is too large to be solved directly is refused."""

SWEEPS = 100
"""Maximum number of times that all windows are visited."""

Mask = NDArray[np.bool_]
Solver = Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]


class Holes(NamedTuple):
    """Parts of the missing pixels of an image that are not coupled by the equations.

    Attributes:
        number: (H,W) int32, that of the hole, from 1 on; 0 is no hole.
        boxes: the rows and columns of each.
        sizes: (n,) missing pixels of each.
    """

    number: NDArray[np.int32]
    boxes: list[Box]
    sizes: NDArray[np.int64]


def holes(missing: Mask, order: int) -> Holes:
    """The holes of an image; pixels may be called one hole although they are not coupled, never the other way round."""
    bridged = missing.copy()
    if order == 2:  # equations reach two pixels along a row or a column
        bridged[1:-1] |= missing[2:] & missing[:-2]
        bridged[:, 1:-1] |= missing[:, 2:] & missing[:, :-2]
    number, _ = ndimage.label(bridged, np.ones((3, 3)) if order == 2 else None, output=np.int32)
    number *= missing
    boxes = [Box(rows.start, rows.stop, columns.start, columns.stop) for rows, columns in ndimage.find_objects(number)]
    return Holes(number, boxes, np.bincount(number.reshape(-1), minlength=len(boxes) + 1)[1:])


def directly(found: Holes, order: int) -> float:
    """About how many seconds the direct solution takes."""
    sides = np.array([min(box.bottom - box.top, box.right - box.left) for box in found.boxes])
    banded = 1e-9 * found.sizes * (order * sides + 1.0) ** 2
    return float((3e-4 + np.minimum(banded, 2e-7 * found.sizes**1.2)).sum())


def steps(far: float, order: int) -> float:
    """About how many steps the iteration takes where the observed pixels are up to ``far`` pixels away."""
    return 8 * far**2 if order == 2 else 8 * far


def iterating(pixels: int, far: float, order: int) -> float:
    """About how many seconds that takes."""
    return 1e-8 * order * pixels * steps(far, order)


def by_windows(found: Holes, far: float, order: int, most: int) -> bool:
    """Whether to iterate, in at most so many steps: because it is quicker, or a hole is too large to be solved."""
    seconds = iterating(found.number.size, far, order)
    if found.sizes.max() > LARGEST[order]:
        return far <= NEAR or (steps(far, order) <= most and seconds <= PATIENCE)
    return far <= NEAR and seconds < directly(found, order)


def solve(filled: Tensor, right: Tensor, found: Holes, order: int) -> None:
    """Write the direct solution into ``filled`` (K,H,W), zero in the holes; ``right`` is that of the equations.

    Raises:
        LacunaError: a hole is too large.
    """
    if found.sizes.max(initial=0) > LARGEST[order]:
        raise LacunaError(
            f"{'Harmonic' if order == 1 else 'Biharmonic'} inpainting of a hole of {found.sizes.max()} connected "
            f"pixels takes too much memory and time (at most {LARGEST[order]}): use imputer=linear or a smaller image."
        )
    height, width = found.number.shape
    for number, box in enumerate(found.boxes, 1):
        # two pixels around, so that the equations of the hole do not see another border of the image
        part = box.wider(height, width, by=2).slices
        hole = found.number[part] == number
        solution = direct.solve(hole[None], right[(slice(None), *part)].numpy()[None], order)[0]
        filled[(slice(None), *part)] += torch.from_numpy(solution)


def iterate(x: Tensor, missing: Tensor, order: int, far: float, solver: Solver) -> bool:
    """Improve ``x`` (K,H,W) in place where ``missing`` (H,W), until no window changes; returns whether that came true.

    Args:
        x: the start.
        missing: which pixels are.
        order: of the equations.
        far: how many pixels the observed ones are away, at most.
        solver: start (1,K,h,w), observed values, and missing pixels (1,h,w) to a solution and whether it is one (1,).
    """
    margin, (height, width) = 16 + 4 * int(far), missing.shape
    tiles = _tiles(height, width, max(SIDE, 4 * margin if far > NEAR else 0))
    windows = [tile.wider(height, width, by=margin) for tile in tiles]
    for _ in range(SWEEPS):
        changed = False
        for window in windows:
            around = window.wider(height, width, by=2 * order)
            inside = Box(
                window.top - around.top,
                window.bottom - around.top,
                window.left - around.left,
                window.right - around.left,
            )
            free = torch.zeros(around.bottom - around.top, around.right - around.left, dtype=torch.bool)
            free[inside.slices] = missing[window.slices]
            start = x[(slice(None), *around.slices)].clone()
            found, finished = solver(start[None], start.masked_fill(free, 0)[None], free[None])
            if not bool(finished.all()):
                return False
            if not torch.equal(found[0], start):
                changed = True
                x[(slice(None), *around.slices)] = found[0]
        if not changed or len(windows) == 1:
            return True
    return False


def _tiles(height: int, width: int, side: int) -> Iterator[Box]:
    """Of at most ``side`` rows and columns."""
    for top in range(0, height, side):
        for left in range(0, width, side):
            yield Box(top, min(height, top + side), left, min(width, left + side))
