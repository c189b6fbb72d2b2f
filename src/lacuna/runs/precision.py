"""The key ``precision``: which values there are, and which of them no method here can use. Imports no torch."""

from __future__ import annotations

from typing import Any

from lacuna.errors import LacunaError

DOUBLE = "64-true"
HALF_SCALED = "16-mixed"
"""The precision that scales the loss, so that gradients do not vanish."""
CHOICES = ("32-true", "bf16-mixed", HALF_SCALED, DOUBLE)
ALIASES = {
    "32": "32-true",
    "64": DOUBLE,
    "16": HALF_SCALED,
    "bf16": "bf16-mixed",
    "float32": "32-true",
    "float64": DOUBLE,
}
"""Lightning's short names, and torch's, with the meaning that Lightning gives them."""
ALL_HALF = {"bf16-true": "bf16-mixed", "16-true": HALF_SCALED}
"""Precisions that hold weights in half precision -> what comes nearest."""


def precision_of(value: Any) -> str:
    """The precision that a config names, one of :data:`CHOICES`.

    Raises:
        LacunaError: there is none of that name, or it holds weights in half precision.
    """
    name = ALIASES.get(str(value), str(value))
    if name in ALL_HALF:
        raise LacunaError(
            f"precision={value} holds weights in half precision, in which small updates are lost and a mixture's "
            f"covariances cannot be inverted: use precision={ALL_HALF[name]}."
        )
    if name not in CHOICES:
        raise LacunaError(f"precision={value} is none of {', '.join(CHOICES)}.")
    return name
