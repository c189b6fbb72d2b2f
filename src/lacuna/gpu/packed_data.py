"""Packed images made ready for runs: one ``scripts/prepare.py`` a data set, in the background."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from lacuna.gpu.child_environment import ROOT


@dataclass(frozen=True)
class Packed:
    """How a data set lies in the folder of packed images: its function in ``load.py``, and what ``prepare`` is told."""

    function: str
    flags: tuple[str, ...] = ()


SETS = {
    "mnist": Packed("load_mnist"),
    "cifar10": Packed("load_cifar10", ("--lossy", "--note", "a JPEG copy")),
    "svhn": Packed("load_svhn", ("--sample", "--note", "a part of the test set, split anew")),
}


class Preparing:
    """Data sets on their way.

    Args:
        data: the folder with ``load.py``; None: nothing is prepared.
        root: the data folder of the runs.
        names: of ``SETS``.
    """

    def __init__(self, data: Path | None, root: Path, names: tuple[str, ...]) -> None:
        self.failed: dict[str, str] = {}
        self._running: dict[str, subprocess.Popen[str]] = {}
        if data is None:
            self.failed = dict.fromkeys(names, "no data=DIR was given")
            return
        for name in names:
            reader = f"{data / 'load.py'}:{SETS[name].function}"
            command = [sys.executable, str(ROOT / "scripts" / "prepare.py"), name, "--root", str(root), "--no-download"]
            command += ["--reader", reader, *SETS[name].flags]
            pipes = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE}
            self._running[name] = subprocess.Popen(command, text=True, **pipes)  # type: ignore[call-overload]

    def wait(self, seconds: float) -> dict[str, str]:
        """Wait so long for all of them; those that are not there, and why."""
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
        """End what still runs."""
        for process in self._running.values():
            if process.poll() is None:
                process.kill()
                process.communicate()
