"""The result files: a JSON file for each part, rewritten at every change, and ``summary.txt`` with a line for each."""

from __future__ import annotations

import importlib.metadata
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lacuna import files

SUMMARY = "summary.txt"
PACKAGES = ("torch", "torchvision", "pytorch-lightning", "numpy", "hydra-core")
RUNNING, DONE, STOPPED, FAILED = "running", "done", "out of time", "failed"


def machine(accelerator: str) -> dict[str, Any]:
    """Hardware and software of this machine, without importing torch."""
    from lacuna.runs.environment import hardware
    from lacuna.runs.machine import cores, gpu_count

    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = "missing"
    return {
        "hardware": hardware(accelerator),
        "gpus": 0 if accelerator == "cpu" else gpu_count(),
        "cpu": hardware("cpu"),
        "cores": cores(),
        "python": platform.python_version(),
        "versions": versions,
    }


class Results:
    """Writes the result files of a folder.

    Args:
        folder: of the files.
        about: machine and options, at the beginning of every file.
    """

    def __init__(self, folder: Path, about: Mapping[str, Any]) -> None:
        self.folder, self.about = folder, dict(about)
        self.lines: dict[str, str] = {}

    def write(self, part: str, state: str, line: str, content: Mapping[str, Any]) -> None:
        """Replace ``<part>.json`` and the part's line in the summary."""
        files.write_json(
            self.folder / f"{part}.json", {**self.about, "part": part, "state": state, "line": line, **content}
        )
        self.lines[part] = f"{part} ({state}): {line}"
        files.write_text(self.folder / SUMMARY, "\n".join(self.lines.values()) + "\n")
