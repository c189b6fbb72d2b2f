"""The E-step for a mixture of factor analysers, on images with different observed pixels.

Missing pixels are integrated out, not imputed. Given the factors z the pixels of an image are independent, so only the
posterior of z is needed: with o the observed pixels, L = I + A_o^T D_o^-1 A_o and h = A_o^T D_o^-1 (x_o - m_o)

    p(z | x_o, k) = N(L^-1 h, L^-1),
    -2 log p(x_o | k) = sum_o (log(2 pi d) + (x - m)^2 / d) + log|L| - h^T L^-1 h.

Every sum over pixels is a product of the mask, the image or its square with a table computed from the mixture. This
takes three large matrix products for all images and components, about K D (L^2/2 + 5L/2 + 3) multiplications per image
of D pixels, and nothing larger than L x L is inverted.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from lacuna.densities.em_algebra import accurate, inverse, lower, unpack
from lacuna.mfa import LOG_2PI, MFA

LARGEST = 1 << 24
"""Largest number of elements of an intermediate result."""


def positions(mask: Tensor, complete: bool = False) -> Tensor:
    """The mask with one column for each set of values that are always observed together.

    (B, H W) for a mask shared by the channels, (B, C H W) for one per channel, and (1, 1) for all images if nothing is
    missing. Value i of the flattened image (C, H, W) belongs to column i mod P.
    """
    return mask.new_ones((1, 1)) if complete else mask.flatten(1)


@dataclass(frozen=True)
class Expectation:
    """Posterior of components and factors for B images.

    Attributes:
        joint: (K, B) log of component weight times density of the observed pixels, in nats.
        mean: (L, K, B) posterior mean of the factors, given the component.
        covariance: (L, L, K, B) of the factors, or (L, L, K, 1) if nothing is missing in any image.
    """

    joint: Tensor
    mean: Tensor
    covariance: Tensor


class EStep:
    """The posterior of components and factors, for many images.

    Args:
        mixture: a batch of one mixture. Large products are computed in its type (float32 has a relative error of
            about 1e-6 in the log-likelihood, and is twice as fast as float64); small matrices are float64.
        columns: P, the number of columns that :func:`positions` returns.
    """

    def __init__(self, mixture: MFA, columns: int) -> None:
        self.k, self.rank, self.columns = mixture.components, mixture.rank, columns
        self.exact = accurate(mixture.mean.device)
        mean, noise = mixture.mean[0].flatten(1), mixture.noise[0].flatten(1)
        loadings = mixture.factors[0].flatten(2)
        self.log_weights = mixture.logits[0].to(self.exact).log_softmax(0)
        # (x - m)^2 is expanded into products; values close to zero lose fewer digits
        self.centre = mixture.weights[0].to(mean) @ mean
        size = max(1, LARGEST // max(1, mean.shape[1] * self.rank * (self.rank + 1) // 2))
        groups = zip((mean - self.centre).split(size), noise.split(size), loadings.split(size), strict=True)
        tables = (torch.cat(parts, 1) for parts in zip(*(self._tables(*group) for group in groups), strict=True))
        self._constant, self._linear, self._squared = (table.flatten(0, 1) for table in tables)

    def _tables(self, mean: Tensor, noise: Tensor, loadings: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Tables of k components to multiply with mask (T, k, P), image (L + 1, k, D) and its square (1, k, D)."""
        precision = noise.reciprocal()
        scaled = loadings * precision.unsqueeze(1)
        rows, columns = lower(self.rank, mean.device)
        offset = precision * mean.square() + noise.log() + LOG_2PI
        constant = torch.cat([loadings[:, rows] * scaled[:, columns], scaled * mean.unsqueeze(1), offset[:, None]], 1)
        constant = constant.unflatten(2, (-1, self.columns)).sum(2, dtype=self.exact).to(mean.dtype)
        linear = torch.cat([scaled, (-2 * precision * mean).unsqueeze(1)], 1)
        return constant.transpose(0, 1), linear.transpose(0, 1), precision[None]

    def centred(self, observed: Tensor, mask: Tensor) -> Tensor:
        """(B, D) differences from the centre where ``mask`` is True, 0 elsewhere; missing values are never read."""
        is_observed = mask.expand_as(observed).flatten(1)
        return torch.where(is_observed, observed.flatten(1).to(self.centre) - self.centre, 0)

    def __call__(self, values: Tensor, mask: Tensor) -> Expectation:
        """The posterior given ``values`` (B, D), from :meth:`centred`, and ``mask``, from :func:`positions`."""
        rank, pairs = self.rank, self.rank * (self.rank + 1) // 2
        constant = self._sums(self._constant, mask.to(values))
        linear = self._sums(self._linear, values)
        squared = self._sums(self._squared, values.square())[0] + linear[rank] + constant[-1]
        precision = unpack(constant[:pairs], rank)
        precision.diagonal(dim1=0, dim2=1).add_(1)
        covariance, log_determinant = inverse(precision)
        projected = linear[:rank] - constant[pairs:-1]
        mean = (covariance * projected).sum(1)
        evidence = -0.5 * (squared + log_determinant - (projected * mean).sum(0))
        return Expectation(self.log_weights[:, None] + evidence, mean, covariance)

    def _sums(self, table: Tensor, rows: Tensor) -> Tensor:
        """Sums over pixels, (T, K, B), of the products of a table (T K, P) and rows (B, P)."""
        sums: Tensor = table @ rows.T
        return sums.view(-1, self.k, len(rows)).to(self.exact)
