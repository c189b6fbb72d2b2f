"""What a run was made with: commit, versions, hardware; and settings of the process that make it fast."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import gc
import importlib.metadata
import os
import platform
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lacuna
from lacuna.errors import LacunaError
from lacuna.runs.machine import gpu_count

PACKAGES = ("torch", "torchvision", "pytorch-lightning", "numpy", "hydra-core")
COMMIT = "LACUNA_COMMIT"
"""Environment variable with the commit of a copy of the source that has no repository."""


def describe() -> dict[str, Any]:
    """Commit, versions of packages, and hardware, as plain values."""
    import torch

    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return {
        "commit": _commit(),
        "python": platform.python_version(),
        "versions": {"lacuna": lacuna.__version__, **{name: _version(name) for name in PACKAGES}},
        "platform": platform.platform(),
        "cpu": _cpu(),
        "threads": torch.get_num_threads(),
        "gpus": gpus,
        "command": sys.argv,
    }


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _commit() -> str | None:
    here = Path(__file__).resolve().parent
    command = ["git", "-C", str(here), "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        result = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return os.environ.get(COMMIT)  # a copy without its repository
    return result.stdout.strip() or None


@functools.cache
def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def hardware(accelerator: str) -> str:
    """Name of the GPU or CPU that a run with this ``trainer.accelerator`` uses here; without torch."""
    if accelerator in ("auto", "cuda", "gpu") and gpu_count():
        return _gpu()
    return _cpu()


@functools.cache
def _gpu(driver: Path = Path("/proc/driver/nvidia/gpus")) -> str:
    """Names of the kinds of GPUs, from the driver."""
    names = set()
    for path in driver.glob("*/information"):
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
        names |= {line.split(":", 1)[1].strip() for line in lines if line.startswith("Model:")}
    if not names:
        command = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
        try:
            result = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
        except (OSError, subprocess.SubprocessError):
            return "GPU"
        names = {line.strip() for line in result.stdout.splitlines() if line.strip()}
    return ", ".join(sorted(names)) or "GPU"


def set_up(threads: int | None) -> None:
    """Set the number of CPU threads (None: torch's choice) and tune memory allocation.

    Raises:
        LacunaError: ``threads`` is no whole number of at least 1.
    """
    check_threads(threads)
    import torch

    tune_malloc()
    if threads is not None:
        torch.set_num_threads(threads)


def check_threads(threads: int | None) -> None:
    """Check a number of CPU threads, without torch.

    Raises:
        LacunaError: ``threads`` is no whole number of at least 1.
    """
    if threads is not None and (not isinstance(threads, int) or threads < 1):
        raise LacunaError(f"trainer.threads={threads} must be null or a whole number of at least 1.")


@contextlib.contextmanager
def quick_imports() -> Iterator[None]:
    """Collect no garbage while large packages are imported: everything they make stays.

    Looking for garbage takes a fifth of the time that the imports of torch and Lightning take.
    """
    collected = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collected:
            gc.enable()


def tune_malloc() -> bool:
    """Let glibc keep freed memory instead of returning it to the kernel at every step.

    Otherwise large intermediates are mapped and cleared anew each time; convolutions were measured to be up to 10 times
    slower. Returns whether the C library accepted both settings (only glibc does).
    """
    trim_threshold, mmap_threshold, largest = -1, -3, 32 << 20
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):
        return False
    return bool(mallopt(mmap_threshold, largest)) and bool(mallopt(trim_threshold, 2**31 - 1))
