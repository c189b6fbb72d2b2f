"""Harmonic and biharmonic inpainting: the smoothest continuation of the observed pixels.

Let L be the Laplacian of the pixel grid (differences to the neighbours inside the image, at most four). The missing
pixels minimise x' L x, the sum of squared differences (harmonic), or |L x|² (biharmonic; Damelin and Hoang 2018, with
the equations at the border of scikit-image's ``inpaint_biharmonic``).

The equations of an image are solved directly, or iteratively by conjugate gradients, for many images at once. These
need about 8 g² steps (biharmonic) where the observed pixel next to some missing one is g pixels away.
"""

from __future__ import annotations

import functools

import torch
from torch import Tensor

from lacuna.errors import LacunaError
from lacuna.imputers import direct, separate
from lacuna.imputers.nearest import nearest_index
from lacuna.imputers.per_channel import PerChannelImputer, gather_pixels

CHECK_EVERY = 16
"""Steps between checks for converged images; a check synchronises with the device."""


LARGE = 2**15
"""Pixels above which the CPU solves hole by hole, or iterates where all observed pixels are near by and holes many."""

EXACT = 1e-9
"""Tolerance of the CPU's iteration: changes grey levels by less than 1e-5."""


class Harmonic(PerChannelImputer):
    """Harmonic or biharmonic inpainting.

    On the CPU the solution is exact: but for rounding, and in large images but for 1e-5. On a GPU every channel is
    iterated until its own residual is small enough; what takes too many steps the CPU solves directly.

    Args:
        order: 1 harmonic, 2 biharmonic.
        tolerance: on a GPU: norm of the residual relative to that of the right-hand side, from 1e-10 to below 1.
        steps: maximum number of steps of conjugate gradients.

    Raises:
        LacunaError: a value is out of its range.
    """

    def __init__(self, order: int = 2, tolerance: float = 1e-6, steps: int = 20_000) -> None:
        super().__init__()
        if order not in (1, 2):
            raise LacunaError(f"imputer.order={order} is neither 1 (harmonic) nor 2 (biharmonic).")
        if not 1e-10 <= tolerance < 1:
            raise LacunaError(f"imputer.tolerance={tolerance} must lie between 1e-10 and 1.")
        if not isinstance(steps, int) or steps < 1:
            raise LacunaError(f"imputer.steps={steps} must be a whole number of at least 1.")
        self.order, self.tolerance, self.steps = order, tolerance, steps

    def _impute_channels(self, values: Tensor, mask: Tensor) -> Tensor:
        if values.device.type == "cpu" and mask[0].numel() > LARGE:
            return torch.stack([self._large(*one) for one in zip(values, mask, strict=True)])
        # Where nothing is observed there is no unique solution: nothing is solved for.
        missing = ~mask & mask.flatten(1).any(1)[:, None, None]
        filled = values.double()
        if values.device.type == "cpu":
            return self._direct(filled, missing).to(values.dtype)
        start = gather_pixels(values, nearest_index(mask)).double()
        filled, finished = self._iterated(start, filled, missing, self.tolerance)
        if not bool(finished.all()):
            filled[~finished] = self._direct(filled[~finished], missing[~finished])
        return filled.to(values.dtype)

    def _large(self, values: Tensor, mask: Tensor) -> Tensor:
        """The imputed values of one large image (K,H,W): hole by hole, or iterated in windows."""
        missing = ~mask
        if bool(missing.all()) or not bool(missing.any()):
            return values
        index = nearest_index(mask[None])
        far = float(farthest(index)[0])
        found = separate.holes(missing.numpy(), self.order)
        if separate.by_windows(found, far, self.order, self.steps):
            del found
            solver = functools.partial(self._iterated, tolerance=min(self.tolerance, EXACT))
            x = gather_pixels(values[None], index)[0].double()
            del index
            if separate.iterate(x, missing, self.order, far, solver):
                return x.to(values.dtype)
            found = separate.holes(missing.numpy(), self.order)
        filled = values.double().masked_fill(missing, 0)
        separate.solve(filled, -self._equations(filled), found, self.order)
        return filled.to(values.dtype)

    def _direct(self, filled: Tensor, missing: Tensor) -> Tensor:
        """The solution (N,K,H,W); it equals ``filled`` where not ``missing`` (N,H,W)."""
        filled = filled.masked_fill(missing[:, None], 0)
        right = -self._equations(filled.flatten(0, 1)).view(filled.shape)
        solution = direct.solve(missing.cpu().numpy(), right.cpu().numpy(), self.order)
        return filled + torch.from_numpy(solution).to(filled.device)

    def _iterated(self, start: Tensor, observed: Tensor, missing: Tensor, tolerance: float) -> tuple[Tensor, Tensor]:
        """The solution (N,K,H,W), iterated from ``start``; both equal ``observed`` where not ``missing`` (N,H,W).

        Returns:
            the solution, and which images (N,) were finished within the maximum number of steps.
        """
        x, free = start.flatten(0, 1), missing.double()[:, None].expand_as(start).flatten(0, 1)
        # double precision: in larger missing regions the biharmonic condition number reaches 10^6
        goal = tolerance**2 * (self._equations(observed.flatten(0, 1)) * free).square().sum((1, 2))
        residual = self._equations(x).mul_(free).neg_()
        square = residual.square().sum((1, 2))
        state = [x.clone(), residual, residual.clone(), free, goal, square]
        result, place = x.clone(), torch.arange(len(x), device=x.device)
        for step in range(0, self.steps, CHECK_EVERY):
            todo = (state[5] > state[4]).nonzero()[:, 0]
            if len(todo) < len(place):
                result[place] = state[0]
                place, state = place[todo], [tensor[todo] for tensor in state]
            if len(place) == 0:
                break
            for _ in range(min(CHECK_EVERY, self.steps - step)):
                self._step(*state)
        result[place] = state[0]
        finished = torch.ones(len(x), dtype=torch.bool, device=x.device)
        finished[place] = state[5] <= state[4]
        return result.view(start.shape), finished.view(start.shape[:2]).all(1)

    def _step(self, x: Tensor, residual: Tensor, direction: Tensor, free: Tensor, goal: Tensor, square: Tensor) -> None:
        """One step of conjugate gradients, in place; converged images do not change."""
        open_ = square > goal
        image = self._equations(direction).mul_(free)
        curvature = (direction * image).sum((1, 2))
        length = torch.where(open_, square / curvature, 0.0)[:, None, None]
        x.addcmul_(direction, length)
        residual.addcmul_(image, length, value=-1)
        after = residual.square().sum((1, 2))
        direction.mul_(torch.where(open_, after / square, 1.0)[:, None, None])
        direction.addcmul_(residual, open_.to(x.dtype)[:, None, None])
        square.copy_(after)

    def _equations(self, x: Tensor) -> Tensor:
        """The left-hand side of the equations, (M,H,W) -> (M,H,W)."""
        return laplacian(x) if self.order == 1 else laplacian(laplacian(x))


def laplacian(x: Tensor) -> Tensor:
    """Sum of the differences to the neighbours inside the image, (M,H,W); positive semidefinite, constants give 0."""
    out = torch.zeros_like(x)
    for axis in (1, 2):
        step = x.diff(dim=axis)
        n = x.shape[axis] - 1
        out.narrow(axis, 1, n).add_(step)
        out.narrow(axis, 0, n).sub_(step)
    return out


def farthest(nearest: Tensor) -> Tensor:
    """The largest distance (N,) of a pixel to the one at the flat position ``nearest`` (N,H,W) of its image."""
    _, height, width = nearest.shape
    row = torch.arange(height, device=nearest.device)[:, None]
    column = torch.arange(width, device=nearest.device)
    lines = max(1, direct.BAND // max(1, len(nearest) * width))  # at once
    parts = zip(nearest.split(lines, 1), row.split(lines), strict=True)
    squared = [((near // width - r) ** 2 + (near % width - column) ** 2).flatten(1).amax(1) for near, r in parts]
    return torch.stack(squared).amax(0).double().sqrt()
