"""Durations as text."""

from __future__ import annotations


def duration(seconds: float) -> str:
    """``40 s``, ``12 min`` or ``3 h 20 min``."""
    if seconds < 90:
        return f"{max(round(seconds), 1)} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02d} min"
