"""Base class of tasks that measure something without training: no data set, no weights, no epochs."""

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
        LacunaError: the recipe cannot be measured; checked before anything is written.
    """

    def __init__(self, config: Mapping[str, Any], device: torch.device) -> None:
        self.config, self.device = config, device

    @abstractmethod
    def measure(self, folder: Path) -> dict[str, float]:
        """The final metrics of the run; further results are written to ``folder``."""

    @abstractmethod
    def draw(self, folder: Path) -> dict[str, Path]:
        """Write pictures of the results to ``folder``; returns name -> file."""
