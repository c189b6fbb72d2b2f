"""Values of an image in the input's own type, and the way to [0, 1] and back that keeps observed ones as they were."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lacuna.errors import LacunaError

ROUNDING = 1e-5
"""By how much floats in [0, 1] may leave it, as rounding does."""


@dataclass(frozen=True)
class Scale:
    """The type of an image's values and their range.

    Args:
        dtype: boolean, whole numbers or floats.
        low: the value that becomes 0.
        high: the value that becomes 1.
    """

    dtype: np.dtype[np.generic]
    low: float
    high: float

    def unit(self, values: np.ndarray) -> np.ndarray:
        """The values in [0, 1]: float64 where they are, or whole numbers beyond 16 bits; float32 otherwise."""
        whole = self.dtype.kind in "iu" and max(abs(self.low), abs(self.high)) > 2**16
        double = whole or self.dtype == np.float64
        floats: np.ndarray = values.astype(np.float64 if double else np.float32)
        if self.low:
            floats = floats - self.low
        width = self.high - self.low
        return floats if width == 1 else floats / width

    def back(self, unit: np.ndarray) -> np.ndarray:
        """Values in [0, 1] in the own type: rounded where it holds whole numbers, never out of the range."""
        values: np.ndarray = unit.clip(0, 1) * (self.high - self.low) + self.low
        if self.dtype.kind in "iub":
            values = np.rint(values)
        return values.clip(self.low, self.high).astype(self.dtype)

    def __str__(self) -> str:
        return f"{self.dtype} {self.low:g}..{self.high:g}"


def scale_of(values: np.ndarray, observed: np.ndarray, what: str, given: Sequence[float] | None = None) -> Scale:
    """The scale of an image, from its type and, for floats beyond [0, 1], from its observed values.

    Args:
        values: of any shape.
        observed: bool, broadcastable to ``values``.
        what: names the image in messages.
        given: (low, high), which the user says; None: as the type has it.

    Raises:
        LacunaError: another type, infinite values, or values outside the range.
    """
    kind, dtype = values.dtype.kind, values.dtype.newbyteorder("=")
    if kind not in "biuf" or dtype.itemsize > 8:
        raise LacunaError(f"{what} holds {values.dtype} values: images are whole numbers or floats (NaN = missing).")
    seen = values[np.broadcast_to(observed, values.shape)]
    least, most = (float(seen.min()), float(seen.max())) if seen.size else (0.0, 0.0)
    if not np.isfinite((least, most)).all():
        raise LacunaError(f"{what} has infinite values: write NaN where a pixel is missing.")
    if given is not None:
        low, high = (float(end) for end in given)
        if least < low or most > high:
            raise LacunaError(f"{what} has values from {least:g} to {most:g}, outside range=[{low:g},{high:g}].")
    elif kind == "f":
        low, high = min(0.0, least), max(1.0, most)
        if low < -ROUNDING or high > 1 + ROUNDING:
            low, high = least, most
    else:
        tops = {"b": [1], "u1": [255], "u2": [65535]}.get(dtype.str[1:] if kind != "b" else "b", [255, 65535])
        top = next((top for top in tops if least >= 0 and most <= top), None)
        if top is None:
            raise LacunaError(
                f"{what} holds {values.dtype} values from {least:g} to {most:g}, beyond 16 bits: say their range with "
                "range=[low,high]."
            )
        low, high = 0.0, float(top)
    return Scale(dtype, low, high if high > low else low + 1)
