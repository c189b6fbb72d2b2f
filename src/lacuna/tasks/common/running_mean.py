"""Epoch means that are part of checkpoints, unlike those of Lightning's ``log(on_epoch=True)``."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


class RunningMean(torch.nn.Module):
    """The mean of a metric since the last :meth:`compute`, on the device; it can be resumed exactly.

    It is not part of the state_dict, since it belongs to the training, not to the model. Sums are float64 if the
    device supports it, in tensors that stay the same ones, as steps recorded in a CUDA graph need. Only
    :meth:`compute` synchronises.
    """

    def __init__(self) -> None:
        super().__init__()
        self._total: Tensor | None = None
        self._count: Tensor | None = None
        self._one: Tensor | None = None

    def update(self, value: Tensor, count: int | Tensor = 1) -> None:
        """Add the mean ``value`` (scalar tensor) of ``count`` items; with a count of 0 nothing is added."""
        value = value.detach()
        if self._one is None or self._one.device != value.device:
            self._start(value.device)
        assert self._total is not None and self._count is not None and self._one is not None
        if not isinstance(count, Tensor):
            # one call for both sums: amid a network's step each call is slow, for its code has left the cache
            if count:
                torch._foreach_add_([self._total, self._count], [value, self._one], alpha=count)
            return
        number = count.to(self._total.dtype)
        self._total.add_(torch.where(number > 0, value * number, 0))
        self._count.add_(number)

    def _start(self, device: torch.device) -> None:
        """Make the sums, or move those of a checkpoint to the device."""
        dtype = torch.float32 if device.type == "mps" else torch.float64
        zero = torch.zeros((), dtype=dtype, device=device)
        self._total = zero if self._total is None else self._total.to(zero)
        self._count = zero.clone() if self._count is None else self._count.to(zero)
        self._one = torch.ones_like(zero)

    def compute(self) -> float:
        """The mean over all ranks, NaN if nothing was added; then reset.

        Under DDP every rank must call this, and must have called :meth:`update` at least once.
        """
        if self._total is None or self._count is None:
            return float("nan")
        pair = torch.stack([self._total, self._count])
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            torch.distributed.all_reduce(pair)
        self._total.zero_()
        self._count.zero_()
        total, count = pair.tolist()
        return float(total / count) if count else float("nan")

    @property
    def total(self) -> Tensor | None:
        """The sum so far, on the device; None if nothing was ever added."""
        return self._total

    def training_state(self) -> dict[str, Any]:
        """Sum and count, for a checkpoint."""
        return {"total": self._total, "count": self._count}

    def load_training_state(self, state: dict[str, Any]) -> None:
        """Restore what :meth:`training_state` returned."""
        self._total, self._count, self._one = state["total"], state["count"], None
