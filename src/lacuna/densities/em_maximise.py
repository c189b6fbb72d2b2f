"""The M-step for a mixture of factor analysers: statistics over a pass through the images, and what follows from them.

Of every component and pixel j the loadings a, the mean m and the noise d are a weighted regression of the pixel on
(z, 1), over the images that show it and the moments of z that the E-step gives (Ghahramani and Hinton 1996, for
complete data; Ghahramani and Jordan 1994, for missing values; per pixel, because each is seen in other images):

    G_j = sum_i r_i o_ij E[(z,1)(z,1)^T],   g_j = sum_i r_i o_ij x_ij E[(z,1)],   q_j = sum_i r_i o_ij x_ij^2,
    (a_j, m_j) = G_j^-1 g_j,   d_j = (q_j - g_j^T (a_j, m_j)) / sum_i r_i o_ij.

The sums are matrix products over images; they are added up in float64 while images pass by, so memory does not grow
with their number: K P (L+1)(L+2)/2 + K D (L+2) numbers.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
from torch import Tensor

from lacuna.densities.em_algebra import exact_products, inverse, lower, unpack
from lacuna.densities.em_expect import LARGEST, EStep, positions
from lacuna.mfa import MFA

LEAST_PRIOR = 1e-9
"""Images; nothing beside any that show a pixel, but no regression is singular."""


@dataclass
class Statistics:
    """Sums over images of all that the M-step needs; values are relative to the centre of the E-step.

    Attributes:
        second: ((L + 1)(L + 2) / 2, K, P), of r E[(z, 1)(z, 1)^T] over the images that show the pixels of a column;
            the entries as :func:`lacuna.densities.em_algebra.lower` lists them.
        first: (L + 1, K, D), of r x E[(z, 1)].
        square: (K, D), of r x^2.
        count: (K,), of the responsibilities r.
        log_likelihood: (), of the images' log-densities, in nats.
        values: (), of the numbers of observed values.
    """

    second: Tensor
    first: Tensor
    square: Tensor
    count: Tensor
    log_likelihood: Tensor
    values: Tensor

    @classmethod
    def zeros(cls, step: EStep) -> Statistics:
        """Of no images."""
        n, k, d = step.rank + 1, step.k, len(step.centre)
        shapes = ((n * (n + 1) // 2, k, step.columns), (n, k, d), (k, d), (k,), (), ())
        return cls(*(torch.zeros(shape, dtype=step.exact, device=step.centre.device) for shape in shapes))

    def tensors(self) -> list[Tensor]:
        """All of them, in order."""
        return [getattr(self, field.name) for field in fields(self)]

    @torch.no_grad()
    def add(self, step: EStep, observed: Tensor, mask: Tensor, complete: bool = False) -> None:
        """Add images.

        Args:
            step: the E-step of the present mixture.
            observed: (B, C, H, W); read only where observed.
            mask: bool, True = observed, (B, 1, H, W) or (B, C, H, W), the same in all batches of a pass.
            complete: nothing is missing in any batch of the pass.
        """
        rows = max(1, LARGEST // len(self.second.flatten(0, 1)))
        with exact_products(step.centre):
            for x, m in zip(observed.split(rows), mask.split(rows), strict=True):
                self._add(step, step.centred(x, m), positions(m, complete))
        self.values += mask.expand_as(observed).sum()

    def _add(self, step: EStep, values: Tensor, seen: Tensor) -> None:
        expected = step(values, seen)
        total = expected.joint.logsumexp(0)
        share = (expected.joint - total).exp()
        extended = torch.cat([expected.mean, torch.ones_like(share)[None]])
        rows, columns = lower(step.rank + 1, values.device)
        moments = extended[rows] * extended[columns]
        pairs = step.rank * (step.rank + 1) // 2
        moments[:pairs] += expected.covariance[rows[:pairs], columns[:pairs]]
        seen = seen.to(values).expand(len(values), -1)
        self.second += _over_images(moments * share, seen)
        self.first += _over_images(extended * share, values)
        self.square += share.to(values) @ values.square()
        self.count += share.sum(1)
        self.log_likelihood += total.sum()


def _over_images(weights: Tensor, rows: Tensor) -> Tensor:
    """(T, K, B) and (B, P) -> (T, K, P)."""
    sums: Tensor = weights.flatten(0, 1).to(rows) @ rows
    return sums.view(*weights.shape[:2], -1)


@dataclass(frozen=True)
class Prior:
    """What every component has seen besides the images: ``weight`` images of the pooled mean and variance, any z.

    That is a conjugate prior, so EM climbs log-likelihood + :meth:`log_density`. It keeps components of few images
    from learning them by heart; a component without images becomes the pooled Gaussian, and a pixel that a component
    has not seen takes the pooled values.

    Attributes:
        mean, variance: (D,) of every pixel, over the images that show it.
        weight: a number of images; 0 for maximum likelihood.
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
    """From statistics to the mixture with the largest expected log-likelihood (plus the prior's).

    Attributes:
        prior: what is known besides.
        isotropic: one noise variance a component (a mixture of probabilistic PCA), instead of one a pixel.
        floor, ceiling: of the noise variance.
    """

    prior: Prior
    isotropic: bool
    floor: float
    ceiling: float

    @torch.no_grad()
    def __call__(self, statistics: Statistics, step: EStep, like: MFA) -> MFA:
        """The new mixture, of the shape and type of ``like``; ``step`` made the statistics."""
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
        """Loadings (k, L, D), mean and noise (k, D) of some components."""
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
