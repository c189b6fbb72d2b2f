"""The hyper-Laplacian prior of image gradients: J3 of PRFlow (Bernal, arXiv 2104.01482, equation 9).

Differences between neighbouring pixels have heavier tails than a Laplace distribution:
log p(x) = -k sum |difference|^alpha. The penalty is -log p. Equation 9 as printed lacks the minus sign and would reward
large differences.
"""

from __future__ import annotations

from torch import Tensor

from lacuna.errors import LacunaError
from lacuna.mfa import full_precision

GREY_LEVEL = 1 / 255


def hyper_laplacian(x: Tensor, alpha: float = 1 / 3, eps: float = GREY_LEVEL) -> Tensor:
    """The sum of |d|^alpha over an image, where d are the differences to the right and to the lower neighbour.

    Only differences inside the image and within one channel count (filters [1, -1] and its transpose, no padding). The
    power has no derivative at 0, so it is smoothed to (d² + eps²)^(alpha/2) - eps^alpha, which is 0 for a constant
    image.

    Args:
        x: (B,C,H,W), any real values. PRFlow applies the prior to the unclipped output of its network, before observed
            pixels are put back.
        alpha: exponent, above 0 and at most 2; published 1/3.
        eps: smoothing, above 0; the slope is at most 0.19 eps^(-2/3).

    Returns:
        (B,), at least 0; float32 for half-precision images, else of the type of ``x``.

    Raises:
        LacunaError: ``alpha`` or ``eps`` is out of its range.
    """
    if not 0 < alpha <= 2:
        raise LacunaError(f"alpha={alpha} of the hyper-Laplacian prior must be above 0 and at most 2.")
    if not eps > 0:
        raise LacunaError(f"eps={eps} of the hyper-Laplacian prior must be positive: at 0 the power has no derivative.")
    with full_precision(x):
        # half precision cannot represent eps²
        values = x.float() if x.element_size() < 4 else x
        total = values.new_zeros(len(values))
        for axis in (-1, -2):
            smooth = (values.diff(dim=axis).square() + eps**2) ** (alpha / 2) - eps**alpha
            total = total + smooth.flatten(1).sum(1)
        return total
