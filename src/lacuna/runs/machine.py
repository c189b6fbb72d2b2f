"""CPU cores and GPUs of this machine, and the environment of its processes; without torch."""

from __future__ import annotations

import contextlib
import math
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

CGROUP = Path("/sys/fs/cgroup")
DEVICES = Path("/dev")


def cores() -> int:
    """CPU cores that this process may use: its affinity, limited by its container's quota and by its SLURM job."""
    bound = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, math.ceil(min(bound, _quota(), _slurm_cores())))


def _slurm_cores() -> float:
    """CPUs of this machine that SLURM gave to the job; not every cluster binds its processes to them.

    Not ``SLURM_CPUS_PER_TASK``: a script that SLURM runs once has the CPUs of all tasks.
    """
    given = os.environ.get("SLURM_CPUS_ON_NODE", "")
    return float(given) if given.isdecimal() and int(given) and "SLURM_JOB_ID" in os.environ else math.inf


def _quota() -> float:
    """CPU time per second that the control group (version 2 or 1) allows; infinite without a limit."""
    version_1 = CGROUP / "cpu" / "cpu.cfs_quota_us", CGROUP / "cpu" / "cpu.cfs_period_us"
    files = (CGROUP / "cpu.max",) if (CGROUP / "cpu.max").exists() else version_1
    try:
        quota, period = " ".join(path.read_text(encoding="utf-8") for path in files).split()
        return float(quota) / float(period) if float(quota) > 0 else math.inf
    except (OSError, ValueError, ZeroDivisionError):  # "max" is no number, either
        return math.inf


def gpu_count() -> int:
    """NVIDIA GPUs that a process started here would see."""
    return len(visible_gpus())


def visible_gpus() -> list[str]:
    """The NVIDIA GPUs that a process started here would see, as ``CUDA_VISIBLE_DEVICES`` names them."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    present = [path for path in DEVICES.glob("nvidia[0-9]*") if re.fullmatch(r"nvidia\d+", path.name)]
    if visible is None:
        return [str(number) for number in range(len(present))]
    return [word.strip() for word in visible.split(",") if word.strip() not in ("", "-1")][: len(present)]


@contextlib.contextmanager
def environment(values: Mapping[str, str]) -> Iterator[None]:
    """Environment variables of processes started now."""
    before = {key: os.environ.get(key) for key in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for key, value in before.items():
            if value is None:
                del os.environ[key]
            else:
                os.environ[key] = value
