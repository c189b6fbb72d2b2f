"""The folder of config files, and a digest of it that shows whether any file has changed."""

from __future__ import annotations

import hashlib
from pathlib import Path

CONFIGS = Path(__file__).resolve().parents[3] / "configs"
"""The config files of this repository."""


def digest(configs: Path) -> str:
    """12 hexadecimal digits from the names, sizes and times of all config files."""
    rows = []
    for path in sorted(configs.rglob("*.yaml")):
        stat = path.stat()
        rows.append(f"{path} {stat.st_size} {stat.st_mtime_ns}")
    return hashlib.sha256("\n".join([str(configs.resolve()), *rows]).encode()).hexdigest()[:12]
