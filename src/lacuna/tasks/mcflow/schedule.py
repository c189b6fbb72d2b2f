"""When MCFlow and PRFlow impute all training images anew, and when their training ends."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch

from lacuna.errors import LacunaError


class Schedule(torch.nn.Module):
    """Refreshes of the imputed images (after epochs first, first x factor, ...) and early stopping.

    MCFlow's code uses first = factor = 2: refreshes after epochs 2, 4, 8, ..., 256 of 500. PRFlow's paper does not give
    a schedule.

    Early stopping watches the epoch mean of J2, the reconstruction loss. Training ends when the best value of the last
    epochs is less than ``improvement`` (relative) better than the best before them. "The last epochs" are ``patience``
    epochs or the fraction ``share`` of those since the last refresh, whichever is more. Before ``refreshes`` refreshes
    training does not end, because J2 jumps at each. PRFlow's paper: "until little change is observed"; the numbers in
    ``configs/imputer/prflow.yaml`` are our interpretation.

    Args:
        spec: ``refresh: {first, factor, reset_flow}`` (reset_flow: whether the flow is initialised anew at a refresh)
            and ``stop: {improvement, patience, share, refreshes}`` or None.

    Raises:
        LacunaError: a value is out of its range.
    """

    def __init__(self, spec: Mapping[str, Any]) -> None:
        super().__init__()
        self.first, self.factor, self.stop = spec["refresh"]["first"], spec["refresh"]["factor"], spec["stop"]
        for name, value, least in (("first", self.first, 1), ("factor", self.factor, 2)):
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise LacunaError(
                    f"imputer.training.refresh.{name}={value} must be a whole number of at least {least}."
                )
        self.reset_flow = spec["refresh"]["reset_flow"]
        if not isinstance(self.reset_flow, bool):
            raise LacunaError(f"imputer.training.refresh.reset_flow={self.reset_flow} must be true or false.")
        for name, value in (self.stop or {}).items():
            if isinstance(value, bool) or not (isinstance(value, int | float) and 0 <= value < math.inf):
                raise LacunaError(f"imputer.training.stop.{name}={value} must be a number of at least 0.")
        self.refreshes = 0
        self._history: list[float] = []  # epoch means of J2 since the last refresh

    def refresh_due(self, epochs: int) -> bool:
        """Whether the images are imputed anew after ``epochs`` epochs."""
        return bool(epochs == self.first * self.factor**self.refreshes)

    def refreshed(self) -> None:
        """Record that the images have been imputed anew."""
        self.refreshes, self._history = self.refreshes + 1, []

    def done(self, reconstruction: float) -> bool:
        """Record an epoch's mean of J2; returns whether training ends after this epoch."""
        self._history.append(reconstruction)
        if self.stop is None or self.refreshes < self.stop["refreshes"]:
            return False
        window = max(1, round(self.stop["patience"]), math.ceil(self.stop["share"] * len(self._history)))
        if len(self._history) <= window:
            return False
        return bool(min(self._history[-window:]) > (1 - self.stop["improvement"]) * min(self._history[:-window]))

    def training_state(self) -> dict[str, Any]:
        """The state that a checkpoint keeps."""
        return {"refreshes": self.refreshes, "history": list(self._history)}

    def load_training_state(self, state: dict[str, Any]) -> None:
        """Restore what :meth:`training_state` returned."""
        self.refreshes, self._history = state["refreshes"], list(state["history"])
