"""Images from a mixture of factor analysers, and SMFAs to fit to them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from lacuna.densities.em import fit
from lacuna.densities.smfa import SMFA
from lacuna.mfa import MFA
from tests.dense import random_mask, random_mfa

SHAPE = (2, 3, 4)


def planted(k: int = 2, rank: int = 2, shape: tuple[int, int, int] = SHAPE, seed: int = 3) -> MFA:
    """A batch of one mixture, float64, with well separated components."""
    mixture = random_mfa(1, k, rank, shape, seed=seed)
    return MFA(mixture.logits / 2, mixture.mean, mixture.factors, mixture.noise)


def images(mixture: MFA, n: int, *, per_channel: bool = False, seed: int = 5) -> tuple[Tensor, Tensor]:
    """Images (n, C, H, W) with zeros at missing pixels, and their masks: 20 to 80 percent are observed."""
    x = mixture.sample(n, torch.Generator().manual_seed(seed))[:, 0]
    mask = random_mask(n, tuple(x.shape[1:]), per_channel=per_channel, seed=seed + 1)
    mask = mask[torch.randperm(n, generator=torch.Generator().manual_seed(seed + 2))]
    mask[:, :, 0, 0] |= ~mask.flatten(1).any(1, keepdim=True)
    return x.masked_fill(~mask, 0), mask


def started(
    observed: Tensor, mask: Tensor, *, seed: int = 0, dtype: torch.dtype = torch.float64, **options: Any
) -> SMFA:
    """An SMFA before its first pass; a wide range of noise, and no prior unless asked for."""
    options = {"prior": 0.0, "noise_floor": 1e-6, "noise_ceiling": 1e3} | options
    density = SMFA(tuple(observed.shape[1:]), **options).to(dtype)
    density.start(observed, mask, seed)
    return density


def log_likelihood(density: SMFA, observed: Tensor, mask: Tensor) -> float:
    """Log-density of the observed pixels, by :meth:`lacuna.mfa.MFA.log_prob`, which does not use EM."""
    one = density.mixture
    each = MFA(
        *(part.expand(len(observed), *part.shape[1:]) for part in (one.logits, one.mean, one.factors, one.noise))
    )
    return float(each.log_prob(observed, mask).double().sum())


def one_pass(density: SMFA, observed: Tensor, mask: Tensor, complete: bool = False) -> None:
    """A pass of EM with all images in one batch."""
    fit(density, [(observed, mask)], passes=1, complete=complete)


def parameters(density: SMFA) -> tuple[Tensor, ...]:
    """Weights, means, loadings and noise."""
    mixture = density.mixture
    return mixture.weights, mixture.mean, mixture.factors, mixture.noise
