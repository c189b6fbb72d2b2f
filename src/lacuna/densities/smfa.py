"""SMFA: one mixture of factor analysers for the whole data set, conditioned on the observed pixels of each image.

The "shallow" density of MisConv (tables 6 and 7; Richardson and Weiss 2018), but fitted by exact EM to incomplete
images (:mod:`lacuna.densities.em`), with one noise variance per pixel.
"""

from __future__ import annotations

import torch
from torch import Tensor

from lacuna.densities.base import Density
from lacuna.densities.em_algebra import accurate, exact_products
from lacuna.densities.em_expect import EStep, Expectation, positions
from lacuna.densities.em_maximise import MStep, Prior
from lacuna.densities.em_start import pooled_moments, start
from lacuna.errors import LacunaError
from lacuna.mfa import MFA

COVARIANCES = ("exact", "authors")


class SMFA(Density):
    """Shallow mixture of factor analysers.

    Args:
        shape: (C, H, W) of the images.
        components: number of components K >= 1.
        factors: number of factors L >= 0.
        isotropic: one noise variance for all pixels of a component (a mixture of probabilistic PCA, as published).
        prior: weight of the prior, as a number of pseudo-images with the pooled mean and variance per component; 0 is
            maximum likelihood, which overfits components with few images.
        noise_floor, noise_ceiling: smallest and largest noise variance; no variable in [0, 1] has one above 1/4.
        keep: number of components in the density of an image, those with the largest responsibilities; None: all,
            which is exact; 1: as in the authors' code.
        covariance: posterior covariance of the factors: ``exact``, L^-1, or ``authors``, 2 I - L^-1, which has a sign
            error: the variance *grows* with the number of observed pixels.

    Raises:
        LacunaError: a value out of its range.
    """

    logits: Tensor
    mean: Tensor
    factors: Tensor
    noise: Tensor
    pooled_mean: Tensor
    pooled_variance: Tensor
    images: Tensor

    def __init__(
        self,
        shape: tuple[int, int, int],
        components: int = 10,
        factors: int = 4,
        isotropic: bool = False,
        prior: float = 3.0,
        noise_floor: float = 1e-4,
        noise_ceiling: float = 0.25,
        keep: int | None = None,
        covariance: str = "exact",
    ) -> None:
        super().__init__()
        if components < 1:
            raise LacunaError(f"density.components={components}: a mixture has at least one component.")
        if factors < 0:
            raise LacunaError(f"density.factors={factors}: the number of factors is 0 or more.")
        if not prior >= 0:
            raise LacunaError(f"density.prior={prior}: a number of images is 0 or more.")
        if not 0 < noise_floor < noise_ceiling:
            raise LacunaError(f"density.noise_floor={noise_floor} must lie between 0 and density.noise_ceiling.")
        if keep is not None and not 1 <= keep <= components:
            raise LacunaError(f"density.keep={keep} must be null or from 1 to density.components={components}.")
        if covariance not in COVARIANCES:
            raise LacunaError(f"density.covariance={covariance} is none of {', '.join(COVARIANCES)}.")
        self.isotropic, self.prior_images, self.keep, self.covariance = isotropic, prior, keep, covariance
        self.noise_floor, self.noise_ceiling = noise_floor, noise_ceiling
        # before the start from images: the uniform distribution on [0, 1] for every pixel
        uniform = {"mean": 1 / 2, "variance": 1 / 12}
        self.register_buffer("logits", torch.zeros(components))
        self.register_buffer("mean", torch.full((components, *shape), uniform["mean"]))
        self.register_buffer("factors", torch.zeros(components, factors, *shape))
        self.register_buffer("noise", torch.full((components, *shape), uniform["variance"]))
        self.register_buffer("pooled_mean", torch.full(tuple(shape), uniform["mean"]))
        self.register_buffer("pooled_variance", torch.full(tuple(shape), uniform["variance"]))
        self.register_buffer("images", torch.zeros((), dtype=torch.int64))

    # ------------------------------------------------------------------ what EM reads and writes

    @property
    def mixture(self) -> MFA:
        """The mixture of the data set, a batch of one."""
        return MFA(self.logits[None], self.mean[None], self.factors[None], self.noise[None])

    @mixture.setter
    def mixture(self, mixture: MFA) -> None:
        self.logits.copy_(mixture.logits[0])
        self.mean.copy_(mixture.mean[0])
        self.factors.copy_(mixture.factors[0])
        self.noise.copy_(mixture.noise[0])

    @property
    def numbers(self) -> int:
        """Number of elements of the density of one image."""
        k, rank = self.factors.shape[:2]
        return (self.keep or k) * (rank + 2) * self.mean[0].numel()

    @property
    def started(self) -> bool:
        """Whether :meth:`start` was called."""
        return bool(self.images > 0)

    @torch.no_grad()
    def start(self, observed: Tensor, mask: Tensor, seed: int = 0) -> None:
        """Start from incomplete images: the pooled moments, and a mixture around the centres of k-means.

        Args:
            observed: (B, C, H, W) in [0, 1], a few thousand images; read only where observed.
            mask: bool, True = observed, (B, 1, H, W) or (B, C, H, W).
            seed: of the choice of centres.
        """
        observed = observed.to(self.mean.dtype)
        mean, variance = pooled_moments(observed, mask)
        variance = variance.clamp(self.noise_floor, self.noise_ceiling)
        k, rank = self.factors.shape[:2]
        mixture = start(observed, mask, mean, variance, components=k, factors=rank, seed=seed)
        noise = mixture.noise.clamp(self.noise_floor, self.noise_ceiling)
        if self.isotropic:
            noise = noise.flatten(2).mean(2)[..., None, None, None].expand_as(noise)
        self.mixture = MFA(mixture.logits, mixture.mean, mixture.factors, noise)
        self.pooled_mean.copy_(mean)
        self.pooled_variance.copy_(variance)
        self.images.fill_(len(observed))

    @property
    def prior(self) -> Prior:
        """The prior of EM (:class:`lacuna.densities.em_maximise.Prior`)."""
        exact = accurate(self.mean.device)
        mean, variance = (part.flatten().to(exact) for part in (self.pooled_mean, self.pooled_variance))
        return Prior(mean, variance, self.prior_images)

    def m_step(self) -> MStep:
        """The M-step with this density's options."""
        return MStep(self.prior, self.isotropic, self.noise_floor, self.noise_ceiling)

    # ------------------------------------------------------------------ the density of an image

    def forward(self, observed: Tensor, mask: Tensor) -> MFA:
        """p(missing | observed), as a mixture of ``keep`` components; exact if all are kept.

        Component k given x_o has the loadings A_u R^-T with R R^T = L, the mean m_u + A_u L^-1 h and the weight
        p(k | x_o): low rank again. See :meth:`lacuna.densities.base.Density.forward`.
        """
        with exact_products(self.mean):
            mixture = self.mixture
            # one column per value: a shared mask and the same mask repeated for each channel give identical bits
            step = EStep(mixture, self.mean[0].numel())
            expected = step(step.centred(observed, mask), positions(mask.expand_as(observed)))
            return self._conditional(mixture, expected)

    def log_prob(self, observed: Tensor, mask: Tensor) -> Tensor:
        """Log-density (B,), in nats, of the observed values; arguments as for :meth:`forward`."""
        with exact_products(self.mean):
            step = EStep(self.mixture, self.mean[0].numel())
            expected = step(step.centred(observed, mask), positions(mask.expand_as(observed)))
            return expected.joint.logsumexp(0)

    def _conditional(self, mixture: MFA, expected: Expectation) -> MFA:
        logits, chosen = expected.joint.T, None
        if self.keep is not None and self.keep < mixture.components:
            logits, chosen = logits.topk(self.keep, 1)
        covariance = expected.covariance.permute(3, 2, 0, 1)  # (B, K, L, L)
        shift = expected.mean.permute(2, 1, 0)  # (B, K, L)
        mean, loadings, noise = mixture.mean[0], mixture.factors[0].flatten(2), mixture.noise
        if chosen is not None:
            rows = torch.arange(len(chosen), device=chosen.device)[:, None]
            covariance, shift = covariance[rows, chosen], shift[rows, chosen]
            mean, loadings, noise = mean[chosen], loadings[chosen], noise[0][chosen]
        if self.covariance == "authors":
            covariance = 2 * torch.eye(covariance.shape[-1]).to(covariance) - covariance
        root = torch.linalg.cholesky_ex(covariance).L
        # the root's columns give the loadings, the posterior mean of the factors the mean: one product for both
        weights = torch.cat([root.mT, shift.unsqueeze(2)], 2).to(loadings.dtype)  # (B, k, L + 1, L)
        if chosen is None:
            found = (weights.transpose(0, 1).flatten(1, 2) @ loadings).unflatten(1, weights.shape[::2]).transpose(0, 1)
        else:
            found = weights @ loadings
        found = found.unflatten(3, mean.shape[-3:])
        return MFA(
            logits.to(mean.dtype), mean + found[:, :, -1], found[:, :, :-1], noise.expand(len(logits), -1, -1, -1, -1)
        )
