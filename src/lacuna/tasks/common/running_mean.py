"""Epoch means that are part of checkpoints, unlike those of Lightning's ``log(on_epoch=True)``."""

from __future__ import annotations

from typing import Any

import torch


class RunningMean(torch.nn.Module):
    """The mean of a metric since the last :meth:`compute`, on the device; it can be resumed exactly.

    It is not part of the state_dict, since it belongs to the training, not to the model. Sums are float64 if the
    device supports it. Only :meth:`compute` synchronises.
    """

    def __init__(self) -> None:
        super().__init__()
        self._total: torch.Tensor | None = None
        self._count: torch.Tensor | None = None

    @torch.no_grad()
    def update(self, value: torch.Tensor, count: int | torch.Tensor = 1) -> None:
        """Add the mean ``value`` (scalar tensor) of ``count`` items; with a count of 0 nothing is added."""
        dtype = torch.float32 if value.device.type == "mps" else torch.float64
        value = value.detach().to(dtype)
        # full() is a fill kernel: no copy from the host, hence no synchronisation
        number = (
            count.to(value.device, dtype)
            if isinstance(count, torch.Tensor)
            else torch.full((), float(count), dtype=dtype, device=value.device)
        )
        amount = torch.where(number > 0, value * number, torch.zeros_like(value))
        if self._total is None or self._count is None:
            self._total, self._count = amount, number
        else:
            self._total = self._total.to(value.device) + amount
            self._count = self._count.to(value.device) + number

    def compute(self) -> float:
        """The mean over all ranks, NaN if nothing was added; then reset.

        Under DDP every rank must call this, and must have called :meth:`update` at least once.
        """
        if self._total is None or self._count is None:
            return float("nan")
        pair = torch.stack([self._total, self._count])
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            torch.distributed.all_reduce(pair)
        self._total = self._count = None
        total, count = pair.tolist()
        return float(total / count) if count else float("nan")

    @property
    def total(self) -> torch.Tensor | None:
        """The sum so far, on the device; None if nothing was added."""
        return self._total

    def training_state(self) -> dict[str, Any]:
        """Sum and count, for a checkpoint."""
        return {"total": self._total, "count": self._count}

    def load_training_state(self, state: dict[str, Any]) -> None:
        """Restore what :meth:`training_state` returned."""
        self._total, self._count = state["total"], state["count"]
