"""Double precision: torch's default type while a run builds its models and reads its images."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch

from lacuna.runs.precision import DOUBLE


@contextmanager
def default_type(config: Mapping[str, Any]) -> Iterator[None]:
    """With ``precision: 64-true`` in a recipe, what is made inside has type float64, models and images included.

    Other precisions change nothing: weights and images are float32, and Lightning casts in half precision.
    """
    before = torch.get_default_dtype()
    if config["precision"] == DOUBLE:
        torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(before)
