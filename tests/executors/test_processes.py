"""Several workers at a time on this machine: side by side, each job once, stopped together in good order."""

from __future__ import annotations

from pathlib import Path

import pytest

from lacuna.config.compose import compose
from lacuna.config.paths import CONFIGS
from lacuna.errors import LacunaError
from lacuna.executors import processes
from lacuna.executors.base import Outcome, Resources
from lacuna.executors.processes import Processes
from lacuna.registry import build
from lacuna.runs.machine import cores
from tests.executors.jobs import alive, do, follow_orders, job, leave_together, told, wait_for


def test_jobs_run_side_by_side_and_share_the_gpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "visible_gpus", lambda: ["3", "5"])
    with Processes(runs=3, cpus=1, work=follow_orders) as executor:
        together = [job(tmp_path, name, company=3) for name in ("a", "b", "c")]  # none ends before all have begun
        assert [outcome.done for outcome in do(executor, *together)] == [True] * 3
        found = [told(tmp_path / name)[0] for name in ("a", "b", "c")]
        assert len({each["pid"] for each in found}) == 3
        assert sorted(each["CUDA_VISIBLE_DEVICES"] for each in found) == ["3", "3", "5"]
        assert {each["OMP_NUM_THREADS"] for each in found} == {"1"}
        # workers are kept; one that died or failed is replaced, and the others do not notice
        ended = do(executor, job(tmp_path, "d", deaths=1), job(tmp_path, "e", fail="mend this."), job(tmp_path, "f"))
        assert [outcome.error for outcome in ended] == [None, "mend this.", None]
        assert told(tmp_path / "f")[0]["pid"] in {each["pid"] for each in found}


def test_no_more_than_so_many(tmp_path: Path) -> None:
    with Processes(runs=1, work=follow_orders) as executor:
        assert executor.slots == 1 and executor.wait(0) == []
        executor.submit(job(tmp_path, "a", seconds=60))
        with pytest.raises(RuntimeError, match="1 jobs at a time"):
            executor.submit(job(tmp_path, "b"))
        assert executor.wait(0.01) == []


def test_close_interrupts_all_of_them(tmp_path: Path) -> None:
    executor = Processes(runs=2, gpus=0, work=follow_orders)
    for name in ("a", "b"):
        executor.submit(job(tmp_path, name, seconds=600))
    wait_for(lambda: told(tmp_path / "a") and told(tmp_path / "b"))
    executor.close()
    for name in ("a", "b"):
        assert (tmp_path / f"{name}.interrupted").exists() and told(tmp_path / name)[0]["CUDA_VISIBLE_DEVICES"] == ""
        assert not alive(told(tmp_path / name)[0]["pid"])
    executor.close()
    assert executor.wait(0) == list[Outcome]()


def test_idle_workers_end_side_by_side(tmp_path: Path) -> None:
    with Processes(runs=2, cpus=1, work=leave_together) as executor:
        assert all(outcome.done for outcome in do(executor, *(job(tmp_path, name, company=2) for name in ("a", "b"))))
    assert len(list(tmp_path.glob("left-*"))) == 2


def test_what_it_takes_and_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    executor = build("executor", compose(CONFIGS, "reproduce", ["executor=processes", "executor.gpus=0"])["executor"])
    assert isinstance(executor, Processes) and executor.slots == cores()
    assert executor.resources(1).gpus == 0
    monkeypatch.setattr(processes, "gpu_count", lambda: 2)
    monkeypatch.setattr(processes, "cores", lambda: 16)
    assert (Processes().slots, Processes(gpus=0).slots, Processes().resources(1)) == (8, 16, Resources(2, 1.0))
    with pytest.raises(LacunaError, match=r"trainer\.devices=1"):
        executor.resources(2)
    with pytest.raises(LacunaError, match=r"executor\.gpus=2"):
        executor.check([Resources(1, 2)])
    with pytest.raises(LacunaError, match=r"executor\.cpus=17"):
        executor.check([Resources(17)])
    for key, value in (("runs", 0), ("cpus", 0.5), ("retries", -1), ("gpus", 1.5)):
        with pytest.raises(LacunaError, match=rf"executor\.{key}="):
            Processes(**{key: value})  # type: ignore[arg-type]
