"""Likelihood of missing pixels: lacuna's batched MFA against a loop over torch's LowRankMultivariateNormal.

    python scripts/bench/nll.py [--batch 64] [--size 32] [--factors 4] [--threads 2] [--device cpu]

Random RGB images; in each a square of a quarter of the area is missing, at its own place. Forward pass, and backward
pass with respect to mean, factors and noise. Prints one row. Exits with 1 if values or gradients differ or lacuna is
less than 10 times as fast.
"""

from __future__ import annotations

import sys
from collections.abc import Callable

import torch
from _report import report  # type: ignore[import-not-found]
from _timing import best, layer_options  # type: ignore[import-not-found]
from torch import Tensor
from torch.distributions import LowRankMultivariateNormal

from lacuna.data.masks import Square
from lacuna.drawing.text_table import text_table
from lacuna.mfa import MFA

EXPECTED = 10.0


def batched(x: Tensor, missing: Tensor, mean: Tensor, factors: Tensor, noise: Tensor) -> Tensor:
    """Log-densities (B,) of the missing values, by lacuna."""
    return MFA(mean.new_zeros(len(mean), 1), mean, factors, noise).log_prob(x, missing)


def looped(x: Tensor, missing: Tensor, mean: Tensor, factors: Tensor, noise: Tensor) -> Tensor:
    """The same in the usual form: one sample at a time, with its missing values gathered."""
    values = []
    for i in range(len(x)):
        where = missing[i].expand(x.shape[1:])
        normal = LowRankMultivariateNormal(
            mean[i, 0][where], factors[i, 0][:, where].T, noise[i, 0][where], validate_args=False
        )
        values.append(normal.log_prob(x[i][where]))
    return torch.stack(values)


def main() -> int:
    options = layer_options(__doc__ or "", turns=15)
    shape = (3, options.size, options.size)
    x = torch.rand(options.batch, *shape).to(options.device)
    missing = ~Square(0.5)(torch.arange(options.batch), shape, seed=0, split="bench").to(options.device)
    mean = torch.rand(options.batch, 1, *shape)
    factors = 0.2 * torch.randn(options.batch, 1, options.factors, *shape)
    noise = 0.01 + 0.1 * torch.rand(options.batch, 1, *shape)
    leaves = [part.to(options.device).requires_grad_() for part in (mean, factors, noise)]

    def both(function: Callable[..., Tensor]) -> tuple[Tensor, tuple[Tensor, ...]]:
        values = function(x, missing, *leaves)
        return values.detach(), torch.autograd.grad(-values.mean(), leaves)

    (ours, our_grads), (theirs, their_grads) = both(batched), both(looped)
    difference = ((ours - theirs).abs().max() / theirs.abs().max()).item()
    # of each gradient, relative to its largest entry
    pairs = zip(our_grads, their_grads, strict=True)
    gradients = max(((a - b).abs().max() / b.abs().max()).item() for a, b in pairs)
    times = best({"loop": lambda: both(looped), "batched": lambda: both(batched)}, options.turns)
    ratio = times["loop"] / times["batched"]
    values = 3 * options.size**2
    row = {
        "batch x values (missing) x factors": f"{len(x)} x {values} ({values // 4}) x {options.factors}",
        "loop of LowRankMultivariateNormal (ms)": f"{1e3 * times['loop']:.1f}",
        "lacuna (ms)": f"{1e3 * times['batched']:.1f}",
        "times faster": f"{ratio:.1f}",
        "largest difference": f"{difference:.0e}",
        "of gradients": f"{gradients:.0e}",
        "device": f"{options.device}, {torch.get_num_threads()} thread(s)",
    }
    other = "loop of LowRankMultivariateNormal"
    report(
        "NLL of missing pixels with gradients", other, times["batched"], times["loop"], "s", 1 / EXPECTED, show=False
    )
    print(text_table([row]))
    return 0 if max(difference, gradients) < 1e-4 and ratio >= EXPECTED else 1


if __name__ == "__main__":
    sys.exit(main())
