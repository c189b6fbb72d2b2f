"""Mean and covariance of vectors that arrive in batches, and a factor of a covariance; all in float64."""

from __future__ import annotations

import torch
from scipy.linalg.blas import dsyrk
from scipy.linalg.lapack import dpstrf
from torch import Tensor

from lacuna.errors import LacunaError

BLOCK = 256
"""Rows that are mirrored at a time."""


class Moments:
    """Running mean and covariance of batches of vectors, in float64, on the vectors' device.

    Batches are centred before they are squared and merged by the formula of Chan, Golub and LeVeque (1979): the outer
    product of the step between two means is one more row of the batch. Means are kept relative to that of the first
    batch. So neither a large mean nor the order or size of the batches reduces the accuracy.
    """

    def __init__(self) -> None:
        self.n = 0
        self._origin: Tensor | None = None
        self._mean: Tensor | None = None  # minus the origin
        self._scatter: Tensor | None = None  # only the lower triangle counts

    @torch.no_grad()
    def update(self, vectors: Tensor) -> None:
        """Add a batch (B, d)."""
        n, d = vectors.shape
        if not n:
            return
        rows = torch.empty(n + 1, d, dtype=torch.float64, device=vectors.device)
        rows[:n] = vectors
        if self._origin is None:
            self._origin = rows[:n].mean(0)
        rows[:n] -= self._origin
        mean = rows[:n].mean(0)
        rows[:n] -= mean
        if self._mean is None or self._scatter is None:
            self._mean, self._scatter = torch.zeros_like(mean), rows.new_zeros(d, d)
        step = mean - self._mean
        rows[n] = step * (self.n * n / (self.n + n)) ** 0.5
        _add_products(self._scatter, rows)
        self.n += n
        self._mean += step * (n / self.n)

    @torch.no_grad()
    def merge(self, other: Moments) -> None:
        """Add all vectors that were added to ``other``."""
        if other._origin is None or other._mean is None or other._scatter is None:
            return
        if self._origin is None or self._mean is None or self._scatter is None:
            self.n, self._origin = other.n, other._origin.clone()
            self._mean, self._scatter = other._mean.clone(), other._scatter.clone()
            return
        step = (other._origin - self._origin) + other._mean - self._mean
        total = self.n + other.n
        self._scatter += other._scatter
        self._scatter.addr_(step, step, alpha=self.n * other.n / total)
        self._mean += step * (other.n / total)
        self.n = total

    def compute(self) -> tuple[Tensor, Tensor]:
        """Mean (d,) and sample covariance (d, d), divisor n - 1.

        Raises:
            LacunaError: fewer than two vectors were added.
        """
        if self._origin is None or self._mean is None or self._scatter is None or self.n < 2:
            raise LacunaError(f"A covariance needs at least 2 images, and {self.n} were given: use more images.")
        covariance = self._scatter / (self.n - 1)
        for start in range(0, len(covariance), BLOCK):
            rows = slice(start, start + BLOCK)
            covariance[:start, rows] = covariance[rows, :start].T
            corner = covariance[rows, rows]
            corner.copy_(corner.tril() + corner.tril(-1).T)
        return self._origin + self._mean, covariance


def _add_products(scatter: Tensor, rows: Tensor) -> None:
    """Add rowsᵀ rows to the lower triangle (at least) of ``scatter``, in place."""
    if scatter.device.type == "cpu":  # half the work of a product of two matrices
        dsyrk(1.0, rows.numpy().T, beta=1.0, c=scatter.numpy().T, overwrite_c=True)  # in Fortran's eyes transposed
    else:
        scatter.addmm_(rows.T, rows)


def covariance_factor(covariance: Tensor) -> Tensor:
    """F (d, r) with F Fᵀ = ``covariance`` (d, d) of rank r, on the CPU, by Cholesky's method with complete pivoting.

    It stops where every remaining variance is at the level of rounding errors: a rounding error of 1e-16 would become
    1e-8 in the root. The remainder of a semi-definite matrix is then as small as what an eigenvalue decomposition
    loses (Higham, Analysis of the Cholesky decomposition of a semi-definite matrix, 1990), at a tenth of its time.
    """
    d = len(covariance)
    rounding = d * torch.finfo(torch.float64).eps * float(covariance.diagonal().max())
    # The matrix is symmetric: its transpose is the Fortran order that LAPACK wants.
    lower, pivots, rank, _ = dpstrf(covariance.numpy().T, lower=True, tol=rounding)
    factor = torch.empty(d, rank, dtype=torch.float64)
    factor[torch.from_numpy(pivots - 1).long()] = torch.from_numpy(lower[:, :rank]).tril()
    return factor
