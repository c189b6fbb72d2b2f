"""Which values of a metric are better, by its name. Dashboards show the best value of every run."""

from __future__ import annotations

LARGER = ("accuracy", "balanced_accuracy", "psnr", "ssim", "ssim_range2", "scc")
SMALLER = ("loss", "mse", "rmse", "sse", "nll", "nll_per_dim", "bits_per_dim", "fid", "fid_best", "reconstruction")


def direction(name: str) -> str | None:
    """``max`` or ``min``, of a metric ``split/quantity``; None where neither is better."""
    quantity = name.rsplit("/", 1)[-1]
    return "max" if quantity in LARGER else "min" if quantity in SMALLER else None
