"""The hyper-Laplacian prior of image gradients: PRFlow's J3 (Bernal, arXiv 2104.01482, equation 9).

Differences between neighbours have heavier tails than a Laplace distribution: log p(x) = -k sum |difference|^alpha. The
penalty is -log p; equation 9 as printed lacks that minus and would reward differences.
"""

from __future__ import annotations

from torch import Tensor

from lacuna.errors import LacunaError
from lacuna.mfa import full_precision

GREY_LEVEL = 1 / 255


def hyper_laplacian(x: Tensor, alpha: float = 1 / 3, eps: float = GREY_LEVEL) -> Tensor:
    """The sum over an image of |d|^alpha, (B,), d the differences to the right and to the lower neighbour.

    Differences lie inside the image (filters [1, -1] and its transpose, no padding) and in one channel. At 0, where
    the power has no derivative, it is smoothed to (d² + eps²)^(alpha/2) - eps^alpha, which is 0 for a constant image.

    Args:
        x: (B,C,H,W), any real values; PRFlow takes the output of its network, neither clipped nor pasted.
        alpha: above 0, up to 2; published 1/3.
        eps: above 0, of the smoothing; the slope is 0.19 eps^(-2/3) at most.

    Raises:
        LacunaError: a value out of its range.
    """
    if not 0 < alpha <= 2:
        raise LacunaError(f"alpha={alpha} of the hyper-Laplacian prior must lie above 0 and at most at 2.")
    if not eps > 0:
        raise LacunaError(f"eps={eps} of the hyper-Laplacian prior must be positive: at 0 the power has no derivative.")
    with full_precision(x):
        # half precision cannot hold eps²
        values = x.float() if x.element_size() < 4 else x
        total = values.new_zeros(len(values))
        for axis in (-1, -2):
            smooth = (values.diff(dim=axis).square() + eps**2) ** (alpha / 2) - eps**alpha
            total = total + smooth.flatten(1).sum(1)
        return total
