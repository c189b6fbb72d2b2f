"""Algebra of many small symmetric matrices; the matrix axes come first, so that operations are on long vectors."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from lacuna.mfa import full_precision


def inverse(matrices: Tensor) -> tuple[Tensor, Tensor]:
    """Inverses and log-determinants of symmetric positive definite matrices, by sweeping every pivot.

    The sweep operator (Beaton 1964) is the classical method for EM with missing values; positive definite matrices
    need no pivoting. For 6 x 6 matrices it is about three times as fast on the CPU as batched LAPACK factorisations.

    Args:
        matrices: (n, n, ...).

    Returns:
        Inverses (n, n, ...) and log-determinants (...).
    """
    a = matrices.clone()
    log_determinant = a.new_zeros(a.shape[2:])
    for pivot in range(len(a)):
        p = a[pivot, pivot].clone()
        log_determinant += p.log()
        row = a[pivot] / p
        column = a[:, pivot].clone()
        column[pivot] = 0
        a.addcmul_(column[:, None], row, value=-1)
        a[:, pivot] = -column / p
        a[pivot] = row
        a[pivot, pivot] = 1 / p
    return a, log_determinant


def lower(n: int, device: torch.device | None = None) -> tuple[Tensor, Tensor]:
    """Row and column of every entry on or below the diagonal of an n x n matrix, row by row."""
    rows, columns = torch.tril_indices(n, n, device=device)
    return rows, columns


def unpack(packed: Tensor, n: int) -> Tensor:
    """(n (n + 1) / 2, ...) entries as :func:`lower` lists them -> symmetric (n, n, ...)."""
    rows, columns = lower(n, packed.device)
    place = torch.empty(n, n, dtype=torch.int64, device=packed.device)
    place[rows, columns] = place[columns, rows] = torch.arange(len(packed), device=packed.device)
    return packed[place]


def accurate(device: torch.device) -> torch.dtype:
    """The floating-point type for small matrices and for sums over many images: float64 where the device has it."""
    return torch.float32 if device.type == "mps" else torch.float64


@contextmanager
def exact_products(tensor: Tensor) -> Iterator[None]:
    """Matrix products in the full precision of the operands: no autocasting, no TF32 (about three digits)."""
    precision = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        with full_precision(tensor):
            yield
    finally:
        torch.set_float32_matmul_precision(precision)
