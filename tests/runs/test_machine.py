"""What a machine has, as told by its files."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from lacuna.runs import machine
from lacuna.runs.machine import cores, gpu_count


@pytest.fixture
def devices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine with three GPUs, and what else the driver leaves in ``/dev``."""
    monkeypatch.setattr(machine, "DEVICES", tmp_path)
    for name in ("nvidia0", "nvidia1", "nvidia2", "nvidiactl", "nvidia-uvm", "nvidia0_caps", "null"):
        (tmp_path / name).touch()
    return tmp_path


@pytest.mark.parametrize(
    "visible, number",
    [(None, 3), ("0,1,2", 3), ("2", 1), (" 1 , 2 ", 2), ("", 0), ("-1", 0), ("GPU-5a1b,GPU-7c2d", 2), ("0,1,2,3,4", 3)],
)
def test_gpus(visible: str | None, number: int, devices: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert gpu_count() == number


def test_no_gpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "DEVICES", tmp_path)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    assert gpu_count() == 0


@pytest.fixture
def bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A process bound to 8 cores; its control group's folder."""
    monkeypatch.setattr(machine, "CGROUP", tmp_path)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    return tmp_path


@pytest.mark.parametrize(
    "limit, number",
    [
        ("max 100000", 8),
        ("200000 100000", 2),
        ("150000 100000", 2),
        ("50 100", 1),
        ("6400000 100000", 8),
        ("?", 8),
    ],
)
def test_cores_within_a_container(limit: str, number: int, bound: Path) -> None:
    assert cores() == 8
    (bound / "cpu.max").write_text(f"{limit}\n")
    assert cores() == number


@pytest.mark.parametrize("quota, number", [("-1", 8), ("300000", 3)])
def test_cores_within_an_older_container(quota: str, number: int, bound: Path) -> None:
    (bound / "cpu").mkdir()
    (bound / "cpu" / "cpu.cfs_quota_us").write_text(f"{quota}\n")
    (bound / "cpu" / "cpu.cfs_period_us").write_text("100000\n")
    assert cores() == number


def test_cores_of_a_slurm_job(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Where SLURM does not bind processes to their cores, it says how many they have."""
    monkeypatch.setattr(machine, "CGROUP", tmp_path)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(8)))
    monkeypatch.setenv("SLURM_CPUS_ON_NODE", "3")
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    assert cores() == 8
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    assert cores() == 3
    for given in ("64", "0", "many", ""):
        monkeypatch.setenv("SLURM_CPUS_ON_NODE", given)
        assert cores() == 8
