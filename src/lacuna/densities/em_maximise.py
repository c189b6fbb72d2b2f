"""The M-step for a mixture of factor analysers: statistics over all images, and the parameters that they give.

For every component and pixel j, the loadings a, the mean m and the noise variance d are a weighted regression of the
pixel on (z, 1), over the images in which it is observed, with the moments of z from the E-step (Ghahramani and Hinton
1996, for complete data; Ghahramani and Jordan 1994, for missing values). Every pixel is a regression of its own,
because each is observed in different images:

    G_j = sum_i r_i o_ij E[(z,1)(z,1)^T],   g_j = sum_i r_i o_ij x_ij E[(z,1)],   q_j = sum_i r_i o_ij x_ij^2,
    (a_j, m_j) = G_j^-1 g_j,   d_j = (q_j - g_j^T (a_j, m_j)) / sum_i r_i o_ij.

The sums are matrix products over images, accumulated in float64 batch by batch. Their size,
K P (L+1)(L+2)/2 + K D (L+2) numbers, does not depend on the number of images.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
from torch import Tensor

from lacuna.densities.em_algebra import exact_products, inverse, lower, unpack
from lacuna.densities.em_expect import LARGEST, EStep, positions
from lacuna.mfa import MFA

LEAST_PRIOR = 1e-9
"""Smallest weight of the prior, in images: negligible, but it keeps every regression non-singular."""


@dataclass
class Statistics:
    """Sums over images that the M-step needs; values are relative to the centre of the E-step.

    Attributes:
        second: ((L + 1)(L + 2) / 2, K, P), sums of r E[(z, 1)(z, 1)^T] over the images in which the pixels of a column
            are observed; entries in the order of :func:`lacuna.densities.em_algebra.lower`.
        first: (L + 1, K, D), sums of r x E[(z, 1)].
        square: (K, D), sums of r x^2.
        count: (K,), sums of the responsibilities r.
        log_likelihood: (), sum of the images' log-densities, in nats.
        values: (), number of observed values.
    """

    second: Tensor
    first: Tensor
    square: Tensor
    count: Tensor
    log_likelihood: Tensor
    values: Tensor

    @classmethod
    def zeros(cls, step: EStep) -> Statistics:
        """The statistics of no images."""
        n, k, d = step.rank + 1, step.k, len(step.centre)
        shapes = ((n * (n + 1) // 2, k, step.columns), (n, k, d), (k, d), (k,), (), ())
        return cls(*(torch.zeros(shape, dtype=step.exact, device=step.centre.device) for shape in shapes))

    def tensors(self) -> list[Tensor]:
        """All attributes, in order."""
        return [getattr(self, field.name) for field in fields(self)]

    @torch.no_grad()
    def add(self, step: EStep, observed: Tensor, mask: Tensor, complete: bool = False) -> None:
        """Add images.

        Args:
            step: the E-step of the current mixture.
            observed: (B, C, H, W); read only where observed.
            mask: bool, True = observed, (B, 1, H, W) or (B, C, H, W), the same in all batches of a pass.
            complete: no pixel is missing in any batch of the pass.
        """
        rows = max(1, LARGEST // len(self.second.flatten(0, 1)))
        with exact_products(step.centre):
            for x, m in zip(observed.split(rows), mask.split(rows), strict=True):
                self._add(step, step.centred(x, m), positions(m, complete))
        self.values += mask.expand_as(observed).sum()

    def _add(self, step: EStep, values: Tensor, mask: Tensor) -> None:
        expected = step(values, mask)
        total = expected.joint.logsumexp(0)
        share = (expected.joint - total).exp()
        extended = torch.cat([expected.mean, torch.ones_like(share)[None]])
        rows, columns = lower(step.rank + 1, values.device)
        moments = extended[rows] * extended[columns]
        pairs = step.rank * (step.rank + 1) // 2
        moments[:pairs] += expected.covariance[rows[:pairs], columns[:pairs]]
        is_observed = mask.to(values).expand(len(values), -1)
        self.second += _over_images(moments * share, is_observed)
        self.first += _over_images(extended * share, values)
        self.square += share.to(values) @ values.square()
        self.count += share.sum(1)
        self.log_likelihood += total.sum()


def _over_images(weights: Tensor, rows: Tensor) -> Tensor:
    """Sums over images of products: (T, K, B) and (B, P) -> (T, K, P)."""
    sums: Tensor = weights.flatten(0, 1).to(rows) @ rows
    return sums.view(*weights.shape[:2], -1)


@dataclass(frozen=True)
class Prior:
    """A conjugate prior: ``weight`` pseudo-images with the pooled mean and variance, for every component.

    EM then increases log-likelihood + :meth:`log_density`. The prior keeps components with few images from
    overfitting: a component without images becomes the pooled Gaussian, and a pixel that is observed in none of a
    component's images gets the pooled values.

    Attributes:
        mean, variance: (D,) of every pixel, over the images in which it is observed.
        weight: number of pseudo-images; 0 for maximum likelihood.
    """

    mean: Tensor
    variance: Tensor
    weight: float

    def log_density(self, mixture: MFA) -> Tensor:
        """Log-density of the parameters of a mixture, up to a constant."""
        mean, noise = (part[0].flatten(1).to(self.mean) for part in (mixture.mean, mixture.noise))
        loadings = mixture.factors[0].flatten(2).to(self.mean)
        spread = self.variance + (self.mean - mean).square() + loadings.square().sum(1)
        log_weights = mixture.logits[0].to(self.mean).log_softmax(0)
        return self.weight * (log_weights.sum() - 0.5 * (noise.log() + spread / noise).sum())


@dataclass(frozen=True)
class MStep:
    """Computes the mixture with the largest expected log-likelihood (plus prior) from the statistics of a pass.

    Attributes:
        prior: of every component.
        isotropic: one noise variance per component (a mixture of probabilistic PCA), instead of one per pixel.
        floor, ceiling: bounds of the noise variance.
    """

    prior: Prior
    isotropic: bool
    floor: float
    ceiling: float

    @torch.no_grad()
    def __call__(self, statistics: Statistics, step: EStep, like: MFA) -> MFA:
        """The new mixture, with the shape and type of ``like``; ``step``: the E-step of the statistics."""
        n, k, columns = step.rank + 1, step.k, statistics.square.shape[1]
        size = max(1, LARGEST // (n * max(n * step.columns, columns)))
        groups = zip(
            statistics.second.split(size, 1),
            statistics.first.split(size, 1),
            statistics.square.split(size),
            strict=True,
        )
        centre = step.centre.to(statistics.square)
        parts = [self._regress(*group, self.prior.mean.to(centre) - centre) for group in groups]
        loadings, mean, noise = (torch.cat(part) for part in zip(*parts, strict=True))
        weights = (statistics.count + max(self.prior.weight, LEAST_PRIOR)).log()
        shape = like.mean.shape
        found = MFA(
            (weights - weights.logsumexp(0)).view(1, k),
            (mean + centre).view(shape),
            loadings.reshape(like.factors.shape),
            noise.view(shape),
        )
        return found.to(like.mean.dtype)

    def _regress(self, second: Tensor, first: Tensor, square: Tensor, pooled: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Loadings (k, L, D), mean and noise variance (k, D) of k components."""
        weight = max(self.prior.weight, LEAST_PRIOR)
        gram = unpack(second, len(first))
        gram.diagonal(dim1=0, dim2=1).add_(weight)
        first = torch.cat([first[:-1], first[-1:] + weight * pooled])
        square = square + weight * (pooled.square() + self.prior.variance.to(square))
        by_column = first.unflatten(2, (-1, gram.shape[3]))  # (L + 1, k, D / P, P)
        solved = torch.einsum("ijkp,jkrp->ikrp", inverse(gram)[0], by_column).flatten(2)
        residual = square - (solved * first).sum(0)
        count = gram[-1, -1].unsqueeze(1).expand(by_column.shape[1:]).flatten(1)
        noise = residual / count
        if self.isotropic:
            noise = (residual.sum(1, keepdim=True) / count.sum(1, keepdim=True)).expand_as(residual)
        return solved[:-1].transpose(0, 1), solved[-1], noise.clamp(self.floor, self.ceiling)
