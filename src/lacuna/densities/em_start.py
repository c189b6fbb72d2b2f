"""Start values for EM: k-means on incomplete images; loadings are deviations of single images from their centre.

Distances use observed pixels only, and a pixel of a centre is the mean over the images in which it is observed.
Lloyd's steps then lower the sum of squares over the observed values (k-POD; Chi, Chi and Baraniuk 2016), in two matrix
products each.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import one_hot

from lacuna.data.hashing import hashes
from lacuna.densities.em_algebra import exact_products
from lacuna.errors import LacunaError
from lacuna.mfa import MFA

LLOYD_STEPS = 25


def pooled_moments(observed: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and variance of every pixel, (C, H, W) each, over the images in which it is observed.

    A pixel that is never observed gets the average over the other pixels.

    Args:
        observed: (B, C, H, W); read only where observed.
        mask: bool, True = observed, (B, 1, H, W) or (B, C, H, W); at least one value is observed.
    """
    is_observed = mask.expand_as(observed)
    count = is_observed.sum(0)

    def average(values: Tensor) -> Tensor:
        mean = torch.where(is_observed, values, 0).sum(0) / count
        return torch.where(count > 0, mean, mean.nanmean())

    mean = average(observed)
    return mean, average((observed - mean).square())


def start(
    observed: Tensor, mask: Tensor, mean: Tensor, variance: Tensor, *, components: int, factors: int, seed: int
) -> MFA:
    """A mixture for EM to start from: a batch of one, with the type of ``observed``.

    Args:
        observed: (B, C, H, W), a few thousand images suffice; read only where observed.
        mask: bool, True = observed, (B, 1, H, W) or (B, C, H, W).
        mean, variance: (C, H, W), :func:`pooled_moments`.
        components: K. factors: L.
        seed: of the choice of images; the same on every device.

    Raises:
        LacunaError: fewer images than components or factors.
    """
    if len(observed) < max(components, factors):
        raise LacunaError(
            f"density.components={components} and density.factors={factors} need at least as many training images, "
            f"not {len(observed)}."
        )
    is_observed = mask.expand_as(observed).flatten(1)
    values = torch.where(is_observed, observed.flatten(1) - mean.flatten(), 0)
    weight = is_observed.to(values)
    with exact_products(values):
        centres, label = kmeans(values, weight, components, seed)
        member = one_hot(label, components).to(values).T
        deviation = (values - centres[label]) * weight
        # as if each cluster had one more image, with the pooled variance
        spread = (member @ deviation.square() + variance.flatten()) / (member @ weight + 1)
    # L random members of every cluster; a cluster of fewer than L images also takes images of others
    key = _uniform(len(values), "smfa loadings", seed).to(values)
    chosen = torch.where(member > 0, 1 + key, key).topk(factors, 1).indices
    shape = (1, components, *observed.shape[1:])
    return MFA(
        (member.sum(1) + 1).log()[None],
        (centres + mean.flatten()).view(shape),
        (deviation[chosen] / max(1, factors) ** 0.5).view(1, components, factors, *observed.shape[1:]),
        (spread / 2).view(shape),
    )


def kmeans(values: Tensor, observed: Tensor, k: int, seed: int, steps: int = LLOYD_STEPS) -> tuple[Tensor, Tensor]:
    """k-means++ and Lloyd's algorithm on incomplete rows.

    Args:
        values: (N, D), zero where missing. Columns are centred, since a value of a centre that is never observed is
            also set to zero.
        observed: (N, D), 1 where observed, else 0.
        k: number of clusters, at most N.
        seed: of the first centres.
        steps: largest number of Lloyd's steps.

    Returns:
        Centres (k, D) and labels (N,).
    """
    centres = _spread_out(values, observed, k, seed)
    label = distances(values, observed, centres).argmin(1)
    for _ in range(steps):
        member = one_hot(label, k).to(values).T
        count = member @ observed
        centres = torch.where(count > 0, member @ values / count.clamp(min=1), 0)
        before, label = label, distances(values, observed, centres).argmin(1)
        if torch.equal(before, label):
            break
    return centres, label


def distances(values: Tensor, observed: Tensor, centres: Tensor) -> Tensor:
    """Squared distances (N, k) of incomplete rows to centres (k, D), over the observed values of each row."""
    products = observed @ centres.square().T - 2 * values @ centres.T
    return (values.square().sum(1, keepdim=True) + products).clamp(min=0)


def _spread_out(values: Tensor, observed: Tensor, k: int, seed: int) -> Tensor:
    """First centres: k rows, each drawn with a probability proportional to its squared distance to the nearest centre.

    (k-means++; Arthur and Vassilvitskii 2007.) Distances are divided by the number of observed values of a row.
    """
    count = observed.sum(1).clamp(min=1)
    draws = _uniform(k, "smfa centres", seed).to(values.device)
    nearest = torch.ones_like(count)
    chosen: list[Tensor] = []
    for draw in draws:
        mass = (nearest / count if chosen else nearest).double().cumsum(0)
        chosen.append(torch.searchsorted(mass, (draw * mass[-1])[None], right=True).clamp(max=len(values) - 1)[0])
        to_it = distances(values, observed, values[chosen[-1]][None])[:, 0]
        nearest = torch.minimum(nearest, to_it) if len(chosen) > 1 else to_it
    return values[torch.stack(chosen)]


def _uniform(n: int, *key: str | int) -> Tensor:
    """``n`` uniform numbers in [0, 1), float64, that depend only on the key."""
    return torch.from_numpy(hashes(np.arange(n), *key).astype(np.float64) / 2.0**64)
