"""Where lacuna's own config files are."""

from __future__ import annotations

from pathlib import Path

from lacuna.config.folders import Configs

CONFIGS = Configs.of(Path(__file__).resolve().parents[3] / "configs")
"""The config files of this repository."""
