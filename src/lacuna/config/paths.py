"""Where lacuna's own config files are."""

from __future__ import annotations

from pathlib import Path

from lacuna.config.folders import Configs

_PACKAGE = Path(__file__).resolve().parents[1]

CONFIGS = Configs.of(_PACKAGE / "configs" if (_PACKAGE / "configs").is_dir() else _PACKAGE.parents[1] / "configs")
"""The config files: of the installed package, in a checkout those of the repository."""
