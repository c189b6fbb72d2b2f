"""Dense float64 mixtures of Gaussians: the independent reference for lacuna's low-rank algebra (numpy, scipy)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy.special import logsumexp
from scipy.stats import multivariate_normal
from torch import Tensor

from lacuna.mfa import MFA


def random_mfa(
    batch: int, k: int, rank: int, shape: tuple[int, int, int], *, seed: int = 0, dtype: torch.dtype = torch.float64
) -> MFA:
    """An arbitrary mixture with clearly different components."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*size: int) -> Tensor:
        return torch.randn(*size, generator=generator, dtype=torch.float64)

    return MFA(
        logits=normal(batch, k),
        mean=0.5 + 0.4 * normal(batch, k, *shape),
        factors=0.3 * normal(batch, k, rank, *shape),
        noise=0.02 + 0.1 * normal(batch, k, *shape).square(),
    ).to(dtype)


def random_images(batch: int, shape: tuple[int, int, int], *, seed: int = 1) -> Tensor:
    """(B, C, H, W) float64 in [0, 1]."""
    return torch.rand(batch, *shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def random_mask(batch: int, shape: tuple[int, int, int], *, per_channel: bool = False, seed: int = 2) -> Tensor:
    """Bool (B, 1 or C, H, W), another number of True in every image."""
    channels = shape[0] if per_channel else 1
    generator = torch.Generator().manual_seed(seed)
    rate = torch.linspace(0.2, 0.8, batch)[:, None, None, None]
    return torch.rand(batch, channels, *shape[1:], generator=generator) < rate


@dataclass
class Dense:
    """One mixture of Gaussians with full covariances: weights (K,), means (K, n), covariances (K, n, n)."""

    weights: np.ndarray
    means: np.ndarray
    covariances: np.ndarray

    @classmethod
    def of(cls, mfa: MFA, row: int) -> Dense:
        """The mixture of one image of a batch, straight from the definition Sigma = sum_j a_j a_j^T + diag(d)."""
        logits, means, factors, noise = (
            part[row].detach().double().numpy() for part in (mfa.logits, mfa.mean, mfa.factors, mfa.noise)
        )
        k = len(logits)
        weights = np.exp(logits - logsumexp(logits))
        loadings = factors.reshape(k, factors.shape[1], means[0].size)
        covariances = [a.T @ a + np.diag(d.ravel()) for a, d in zip(loadings, noise, strict=True)]
        return cls(weights, means.reshape(k, -1), np.stack(covariances))

    def joint(self, x: np.ndarray, chosen: np.ndarray) -> np.ndarray:
        """log(weight_k) + log N_k(x restricted to ``chosen``), (K,)."""
        if not chosen.any():
            return np.log(self.weights)
        at = np.ix_(chosen, chosen)
        densities = [
            multivariate_normal(mean[chosen], cov[at]).logpdf(x[chosen])
            for mean, cov in zip(self.means, self.covariances, strict=True)
        ]
        return np.log(self.weights) + np.array(densities)

    def log_prob(self, x: np.ndarray, chosen: np.ndarray) -> float:
        """Log-density of the chosen values."""
        return float(logsumexp(self.joint(x, chosen)))

    def condition(self, x: np.ndarray, observed: np.ndarray) -> Dense:
        """The mixture given the observed values, over all n values (certain at those), by the Schur complement."""
        joint = self.joint(x, observed)
        means, covariances = [], []
        for mean, cov in zip(self.means, self.covariances, strict=True):
            gain = cov[:, observed] @ np.linalg.inv(cov[np.ix_(observed, observed)])
            new = mean + gain @ (x[observed] - mean[observed])
            spread = cov - gain @ cov[observed, :]
            new[observed], spread[observed, :], spread[:, observed] = x[observed], 0, 0
            means.append(new)
            covariances.append(spread)
        return Dense(np.exp(joint - logsumexp(joint)), np.stack(means), np.stack(covariances))

    def moments(self) -> tuple[np.ndarray, np.ndarray]:
        """Mean (n,) and covariance (n, n) of the whole mixture, from E[x] and E[x x^T]."""
        mean = self.weights @ self.means
        second = np.einsum("k,kij->ij", self.weights, self.covariances)
        second += np.einsum("k,ki,kj->ij", self.weights, self.means, self.means)
        return mean, second - np.outer(mean, mean)
