"""Where EM starts: k-means on incomplete images, and loadings from how single images of a cluster deviate from it.

Distances count observed pixels only, and centres are means over the images that show a pixel: Lloyd's steps then
lower the sum of squares over the observed values (k-POD; Chi, Chi and Baraniuk 2016), in two matrix products.
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
    """Mean and variance of every pixel, (C, H, W) each, over the images that show it.

    A pixel that no image shows has the average ones.

    Args:
        observed: (B, C, H, W); read only where observed.
        mask: bool, True = observed, (B, 1, H, W) or (B, C, H, W); something is observed.
    """
    seen = mask.expand_as(observed)
    count = seen.sum(0)

    def average(values: Tensor) -> Tensor:
        mean = torch.where(seen, values, 0).sum(0) / count
        return torch.where(count > 0, mean, mean.nanmean())

    mean = average(observed)
    return mean, average((observed - mean).square())


def start(
    observed: Tensor, mask: Tensor, mean: Tensor, variance: Tensor, *, components: int, factors: int, seed: int
) -> MFA:
    """A mixture for EM to start from: a batch of one, of the type of ``observed``.

    Args:
        observed: (B, C, H, W) images, a few thousand are enough; read only where observed.
        mask: bool, True = observed, (B, 1, H, W) or (B, C, H, W).
        mean, variance: (C, H, W), :func:`pooled_moments`.
        components: K. factors: L.
        seed: of the choice of images; the same on every device.

    Raises:
        LacunaError: fewer images than components or factors.
    """
    if len(observed) < max(components, factors):
        raise LacunaError(
            f"density.components={components} and density.factors={factors} need at least as many training images to "
            f"start from, not {len(observed)}."
        )
    seen = mask.expand_as(observed).flatten(1)
    values = torch.where(seen, observed.flatten(1) - mean.flatten(), 0)
    seen = seen.to(values)
    with exact_products(values):
        centres, label = kmeans(values, seen, components, seed)
        member = one_hot(label, components).to(values).T
        deviation = (values - centres[label]) * seen
        # as if each cluster held one more image, of the pooled variance
        spread = (member @ deviation.square() + variance.flatten()) / (member @ seen + 1)
    # a random few members of every cluster; one of fewer than L images borrows from others
    key = _uniform(len(values), "smfa loadings", seed).to(values)
    chosen = torch.where(member > 0, 1 + key, key).topk(factors, 1).indices
    shape = (1, components, *observed.shape[1:])
    return MFA(
        (member.sum(1) + 1).log()[None],
        (centres + mean.flatten()).view(shape),
        (deviation[chosen] / max(1, factors) ** 0.5).view(1, components, factors, *observed.shape[1:]),
        (spread / 2).view(shape),
    )


def kmeans(values: Tensor, seen: Tensor, k: int, seed: int, steps: int = LLOYD_STEPS) -> tuple[Tensor, Tensor]:
    """k-means++ and Lloyd's algorithm on incomplete rows.

    Args:
        values: (N, D), zero where not seen and centred, so that zero is also what an unseen pixel of a centre becomes.
        seen: (N, D) of zeros and ones.
        k: at most N.

    Returns:
        Centres (k, D) and labels (N,).
    """
    centres = _spread_out(values, seen, k, seed)
    label = distances(values, seen, centres).argmin(1)
    for _ in range(steps):
        member = one_hot(label, k).to(values).T
        count = member @ seen
        centres = torch.where(count > 0, member @ values / count.clamp(min=1), 0)
        before, label = label, distances(values, seen, centres).argmin(1)
        if torch.equal(before, label):
            break
    return centres, label


def distances(values: Tensor, seen: Tensor, centres: Tensor) -> Tensor:
    """Squared distances (N, k) of incomplete rows to centres (k, D), over what each row shows."""
    products = seen @ centres.square().T - 2 * values @ centres.T
    return (values.square().sum(1, keepdim=True) + products).clamp(min=0)


def _spread_out(values: Tensor, seen: Tensor, k: int, seed: int) -> Tensor:
    """First centres: k rows, each drawn with a probability like its squared distance from the nearest so far.

    (k-means++; Arthur and Vassilvitskii 2007.) Distances are per pixel shown, so that how much a row shows does not
    matter.
    """
    shown = seen.sum(1).clamp(min=1)
    draws = _uniform(k, "smfa centres", seed).to(values.device)
    nearest = torch.ones_like(shown)
    chosen: list[Tensor] = []
    for draw in draws:
        mass = (nearest / shown if chosen else nearest).double().cumsum(0)
        chosen.append(torch.searchsorted(mass, (draw * mass[-1])[None], right=True).clamp(max=len(values) - 1)[0])
        to_it = distances(values, seen, values[chosen[-1]][None])[:, 0]
        nearest = torch.minimum(nearest, to_it) if len(chosen) > 1 else to_it
    return values[torch.stack(chosen)]


def _uniform(n: int, *key: str | int) -> Tensor:
    """Numbers in [0, 1), n of them, float64, that depend on the key only."""
    return torch.from_numpy(hashes(np.arange(n), *key).astype(np.float64) / 2.0**64)
