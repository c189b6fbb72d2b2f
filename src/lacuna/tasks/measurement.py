"""What every task shares that measures something and trains nothing: no data set, no weights, no epochs."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch


class Measurement(ABC):
    """Measures what its recipe says, on one device.

    Args:
        config: the recipe.
        device: where to measure.

    Raises:
        LacunaError: what is asked for cannot be measured; found out here, before anything is written.
    """

    def __init__(self, config: Mapping[str, Any], device: torch.device) -> None:
        self.config, self.device = config, device

    @abstractmethod
    def measure(self, folder: Path) -> dict[str, float]:
        """The final metrics of the run; whatever else is worth keeping goes to ``folder``."""

    @abstractmethod
    def draw(self, folder: Path) -> dict[str, Path]:
        """Write pictures of what was measured for people to look at; name -> file."""
