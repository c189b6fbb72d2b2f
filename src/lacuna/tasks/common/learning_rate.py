"""How the learning rate changes from step to step: warm-up, then a schedule that ends at 0."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any


def share_of_rate(training: Mapping[str, Any], step: int, batches: int) -> float:
    """The share of its learning rate with which a training makes a step.

    With W = ``warmup`` x batches of an epoch and T steps in all, step t has the share (t + 1) / W as long as that is
    below 1. From W on, u = (t - W) / (T - W) of the rest is done, and the share is (1 + cos(pi u)) / 2
    (``schedule: cosine``; Loshchilov and Hutter 2017, one cycle), 1 - u (``linear``) or 1.

    Args:
        training: settings with ``epochs`` and maybe ``schedule`` and ``warmup``.
        step: number of the step in the whole training, from 0.
        batches: of an epoch.
    """
    warmup, total = training.get("warmup", 0.0) * batches, training["epochs"] * batches
    if step + 1 < warmup:
        return float((step + 1) / warmup)
    done = min(1.0, max(0.0, (step - warmup) / (total - warmup)))
    schedule = training.get("schedule")
    if schedule == "cosine":
        return 0.5 * (1 + math.cos(math.pi * done))
    return 1 - done if schedule == "linear" else 1.0
