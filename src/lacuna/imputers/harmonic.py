"""The smoothest continuation of the observed pixels: harmonic and biharmonic inpainting.

With the grid's Laplacian L (differences to the four neighbours that lie in the image) the hidden pixels minimise
x' L x, the sum of squared differences (harmonic), or |L x|² (biharmonic; Damelin and Hoang 2018, whose equations at the
border are those of scikit-image's ``inpaint_biharmonic``). Both are solved for all images at once by conjugate
gradients.
"""

from __future__ import annotations

import torch
from torch import Tensor

from lacuna.errors import LacunaError
from lacuna.imputers.nearest import nearest_index
from lacuna.imputers.per_channel import PlaneImputer, pick

EVERY = 16
"""Steps after which the images that are finished are put aside, which waits for the device."""


class Harmonic(PlaneImputer):
    """Harmonic or biharmonic inpainting, every plane until its own residual is small enough.

    Args:
        order: 1 harmonic, 2 biharmonic.
        tolerance: length of the residual relative to that of the right-hand side.
        steps: the most steps of conjugate gradients.

    Raises:
        LacunaError: a value out of its range; when filling, images that need more steps.
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

    def _fill_planes(self, values: Tensor, seen: Tensor) -> Tensor:
        # Without anything observed there is nothing to solve.
        hidden = (~seen & seen.flatten(1).any(1)[:, None, None])[:, None].expand_as(values).flatten(0, 1)
        start = pick(values, nearest_index(seen)).flatten(0, 1).double()
        filled = self._solve(start, values.flatten(0, 1).double(), hidden)
        return filled.to(values.dtype).view(values.shape)

    def _solve(self, x: Tensor, observed: Tensor, hidden: Tensor) -> Tensor:
        """The solution (M,H,W), from the start ``x``; both are as ``observed`` where not ``hidden`` (M,H,W)."""
        free = hidden.double()
        # single precision loses the biharmonic equation in larger holes: condition numbers reach 10^6
        goal = self.tolerance**2 * (self._equations(observed) * free).square().sum((1, 2))
        residual = self._equations(x).mul_(free).neg_()
        square = residual.square().sum((1, 2))
        state = [x.clone(), residual, residual.clone(), free, goal, square]
        finished, place = x.clone(), torch.arange(len(x), device=x.device)
        for step in range(0, self.steps, EVERY):
            todo = (state[5] > state[4]).nonzero()[:, 0]
            if len(todo) < len(place):
                finished[place] = state[0]
                place, state = place[todo], [tensor[todo] for tensor in state]
            if len(place) == 0:
                return finished
            for _ in range(min(EVERY, self.steps - step)):
                self._step(*state)
        if bool((state[5] > state[4]).any()):
            raise LacunaError(
                f"imputer.tolerance={self.tolerance} is not reached in imputer.steps={self.steps} steps: allow more "
                "of them, or a larger tolerance."
            )
        finished[place] = state[0]
        return finished

    def _step(self, x: Tensor, residual: Tensor, direction: Tensor, free: Tensor, goal: Tensor, square: Tensor) -> None:
        """One step of conjugate gradients, in place; nothing changes for an image that is finished."""
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
        """The equations' left-hand side, (M,H,W) -> the same."""
        return laplacian(x) if self.order == 1 else laplacian(laplacian(x))


def laplacian(x: Tensor) -> Tensor:
    """Sum of the differences to the neighbours inside the image, (M,H,W): positive semidefinite, 0 of a constant."""
    out = torch.zeros_like(x)
    for axis in (1, 2):
        step = x.diff(dim=axis)
        n = x.shape[axis] - 1
        out.narrow(axis, 1, n).add_(step)
        out.narrow(axis, 0, n).sub_(step)
    return out
