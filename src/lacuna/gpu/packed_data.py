"""Prepare packed images for runs: one process of ``scripts/prepare.py`` for each data set, in the background."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from lacuna.gpu.child_environment import ROOT


@dataclass(frozen=True)
class PackedSet:
    """A data set in the folder of packed images: its function in ``load.py``, and flags for ``scripts/prepare.py``."""

    function: str
    flags: tuple[str, ...] = ()


SETS = {
    "mnist": PackedSet("load_mnist"),
    "cifar10": PackedSet("load_cifar10", ("--lossy", "--note", "a JPEG copy")),
    "svhn": PackedSet("load_svhn", ("--sample", "--note", "a part of the test set, split anew")),
}


class DataPreparation:
    """Data sets that are being prepared.

    Args:
        data: the folder with ``load.py``; None: nothing is prepared.
        root: the data folder of the runs.
        names: of the data sets, in ``SETS``.
    """

    def __init__(self, data: Path | None, root: Path, names: tuple[str, ...]) -> None:
        self.failed: dict[str, str] = {}
        self._running: dict[str, subprocess.Popen[str]] = {}
        if data is None:
            self.failed = dict.fromkeys(names, "data=DIR is not set")
            return
        for name in names:
            reader = f"{data / 'load.py'}:{SETS[name].function}"
            command = [sys.executable, str(ROOT / "scripts" / "prepare.py"), name, "--root", str(root), "--no-download"]
            command += ["--reader", reader, *SETS[name].flags]
            pipes = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE}
            self._running[name] = subprocess.Popen(command, text=True, **pipes)  # type: ignore[call-overload]

    def wait(self, seconds: float) -> dict[str, str]:
        """Wait for all data sets, ``seconds`` for each; those that failed, and why."""
        for name, process in self._running.items():
            try:
                _, text = process.communicate(timeout=max(0.1, seconds))
            except subprocess.TimeoutExpired:
                self.failed[name] = "was not prepared in time"
                continue
            if process.returncode:
                self.failed[name] = (text.strip().splitlines() or [f"exit code {process.returncode}"])[-1]
        return self.failed

    def close(self) -> None:
        """Kill the running processes."""
        for process in self._running.values():
            if process.poll() is None:
                process.kill()
                process.communicate()
