"""Settings of quick runs."""

from __future__ import annotations

from pathlib import Path

from lacuna.runs.settings import Settings

FAST = {"accelerator": "cpu", "progress": False}


def elsewhere(settings: Settings, output: Path) -> Settings:
    """The same settings with another output folder and a checkpoint after every step."""
    return Settings(output, settings.data_root, download=False, trainer={**FAST, "checkpoint_seconds": 0})
