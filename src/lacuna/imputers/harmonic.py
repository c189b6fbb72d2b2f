"""Harmonic and biharmonic inpainting: the smoothest continuation of the observed pixels.

Let L be the Laplacian of the pixel grid (differences to the neighbours inside the image, at most four). The missing
pixels minimise x' L x, the sum of squared differences (harmonic), or |L x|² (biharmonic; Damelin and Hoang 2018, with
the equations at the border of scikit-image's ``inpaint_biharmonic``). Conjugate gradients solve both for all images at
once.
"""

from __future__ import annotations

import torch
from torch import Tensor

from lacuna.errors import LacunaError
from lacuna.imputers.nearest import nearest_index
from lacuna.imputers.per_channel import PerChannelImputer, gather_pixels

CHECK_EVERY = 16
"""Steps between checks for converged images; a check synchronises with the device."""


class Harmonic(PerChannelImputer):
    """Harmonic or biharmonic inpainting; every channel is iterated until its own residual is small enough.

    Args:
        order: 1 harmonic, 2 biharmonic.
        tolerance: norm of the residual relative to that of the right-hand side, from 1e-10 to below 1.
        steps: maximum number of steps of conjugate gradients.

    Raises:
        LacunaError: a value is out of its range; from :meth:`impute`, an image needs more steps.
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
        # Where nothing is observed there is no unique solution: nothing is solved for.
        missing = (~mask & mask.flatten(1).any(1)[:, None, None])[:, None].expand_as(values).flatten(0, 1)
        start = gather_pixels(values, nearest_index(mask)).flatten(0, 1).double()
        filled = self._solve(start, values.flatten(0, 1).double(), missing)
        return filled.to(values.dtype).view(values.shape)

    def _solve(self, x: Tensor, observed: Tensor, missing: Tensor) -> Tensor:
        """The solution (M,H,W), iterated from ``x``; both equal ``observed`` where not ``missing`` (M,H,W)."""
        free = missing.double()
        # double precision: in larger missing regions the biharmonic condition number reaches 10^6
        goal = self.tolerance**2 * (self._equations(observed) * free).square().sum((1, 2))
        residual = self._equations(x).mul_(free).neg_()
        square = residual.square().sum((1, 2))
        state = [x.clone(), residual, residual.clone(), free, goal, square]
        finished, place = x.clone(), torch.arange(len(x), device=x.device)
        for step in range(0, self.steps, CHECK_EVERY):
            todo = (state[5] > state[4]).nonzero()[:, 0]
            if len(todo) < len(place):
                finished[place] = state[0]
                place, state = place[todo], [tensor[todo] for tensor in state]
            if len(place) == 0:
                return finished
            for _ in range(min(CHECK_EVERY, self.steps - step)):
                self._step(*state)
        if bool((state[5] > state[4]).any()):
            raise LacunaError(
                f"imputer.tolerance={self.tolerance} is not reached in imputer.steps={self.steps} steps: raise either."
            )
        finished[place] = state[0]
        return finished

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
