"""Direct solution of the equations of harmonic and biharmonic inpainting, one factorisation a mask.

With the missing pixels in reading order along the shorter side the matrix has a narrow band: LAPACK's banded Cholesky
factorisation. In large images SuperLU, which finds a better order of the pixels, needs less memory and time.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import lapack
from scipy.sparse import csc_array
from scipy.sparse.linalg import splu

from lacuna.errors import LacunaError

Whole = NDArray[np.int64]
Real = NDArray[np.float64]

BAND = 2**22
"""Largest number of entries of a banded matrix, 32 MiB."""


class Matrix(NamedTuple):
    """The lower triangle of a symmetric matrix.

    Attributes:
        size: number of rows.
        row, column: (E,) place of an entry, all different, columns ascending.
        value: (E,) the entry.
    """

    size: int
    row: Whole
    column: Whole
    value: Real


def solve(missing: NDArray[np.bool_], right: Real, order: int) -> Real:
    """The pixels x, zero where not missing, with L^order x = right at the missing ones; L is the grid's Laplacian.

    Args:
        missing: (N,H,W) bool, not everywhere True. Equal ones share one factorisation.
        right: (N,K,H,W), read at missing pixels only.
        order: 1 or 2.
    """
    if missing.shape[2] > missing.shape[1]:
        return solve(missing.swapaxes(1, 2), right.swapaxes(2, 3), order).swapaxes(2, 3)
    numbers: dict[bytes, int] = {}
    which = np.array([numbers.setdefault(mask.tobytes(), len(numbers)) for mask in missing], dtype=np.int64)
    first = np.unique(which, return_index=True)[1]
    solution = np.zeros(right.shape)
    for number, matrix in enumerate(assembled(missing[first], order)):
        solved = _factored(matrix)
        for image in np.flatnonzero(which == number):
            solution[image][:, missing[image]] = solved(right[image][:, missing[image]])
    return solution


def assembled(missing: NDArray[np.bool_], order: int) -> list[Matrix]:
    """The rows and columns of L^order that belong to the pixels of each mask of ``missing`` (N,H,W)."""
    n, height, width = missing.shape
    coefficients = {at: part for at, part in stencil(height, width, order).items() if at >= (0, 0)}
    frame = ((0, 0), (0, order), (order, order))
    framed = np.pad(missing, frame).reshape(-1)
    number = np.pad(missing.reshape(n, -1).cumsum(1).reshape(missing.shape) - 1, frame).reshape(-1)
    step = width + 2 * order
    pixel, place = np.flatnonzero(missing) % (height * width), np.flatnonzero(framed)
    beside = place[:, None] + [down * step + right for down, right in coefficients]
    which, kind = np.nonzero(framed[beside])
    row, column = number[beside[which, kind]], number[place[which]]
    value = np.stack([part.reshape(-1) for part in coefficients.values()], 1)[pixel[which], kind]
    sizes = missing.reshape(n, -1).sum(1)
    ends = np.searchsorted(which, np.cumsum(sizes))
    parts = [slice(start, end) for start, end in zip([0, *ends], ends, strict=False)]
    return [Matrix(int(size), row[part], column[part], value[part]) for size, part in zip(sizes, parts, strict=True)]


def stencil(height: int, width: int, order: int) -> dict[tuple[int, int], Real]:
    """Coefficients (H,W) of L^order: (down, right) -> that of the pixel there, zero where it is outside the image."""
    inside = np.pad(np.ones((height, width)), 1)
    steps = {(-1, 0): inside[:-2, 1:-1], (1, 0): inside[2:, 1:-1], (0, -1): inside[1:-1, :-2], (0, 1): inside[1:-1, 2:]}
    laplacian = {(0, 0): sum(steps.values(), np.zeros((height, width)))} | {at: -part for at, part in steps.items()}
    if order == 1:
        return laplacian
    product: dict[tuple[int, int], Real] = {}
    for (down, right), first in laplacian.items():
        for (r, c), second in laplacian.items():
            there = np.roll(second, (-down, -right), (0, 1))  # what is rolled in is multiplied by zero
            at = down + r, right + c
            product[at] = product.get(at, 0.0) + first * there
    return product


def _factored(matrix: Matrix) -> Callable[[Real], Real]:
    """A function that solves for right-hand sides, the rows of an array (K,size), each by itself."""
    band = int((matrix.row - matrix.column).max(initial=0)) + 1
    return _banded(matrix, band) if matrix.size * band <= BAND else _sparse(matrix)


def _banded(matrix: Matrix, band: int) -> Callable[[Real], Real]:
    """:func:`_factored` by LAPACK; the matrix has ``band`` diagonals from the main one on."""
    diagonals = np.zeros((matrix.size, band))
    diagonals[matrix.column, matrix.row - matrix.column] = matrix.value
    factor, failed = lapack.dpbtrf(diagonals.T, lower=1, overwrite_ab=1)
    if failed:
        raise LacunaError("Harmonic inpainting: rounding made the equations singular; use imputer=linear.")
    return lambda right: lapack.dpbtrs(factor, right.T, lower=1)[0].T


def _sparse(matrix: Matrix) -> Callable[[Real], Real]:
    """:func:`_factored` by SuperLU, set up for symmetric positive definite matrices."""
    below = matrix.row > matrix.column
    row = np.concatenate([matrix.row, matrix.column[below]])
    column = np.concatenate([matrix.column, matrix.row[below]])
    value = np.concatenate([matrix.value, matrix.value[below]])
    whole = csc_array((value, (row, column)), shape=(matrix.size, matrix.size))
    factor = splu(whole, permc_spec="MMD_AT_PLUS_A", diag_pivot_thresh=0.0, options={"SymmetricMode": True})
    return lambda right: np.stack([factor.solve(one) for one in right])
