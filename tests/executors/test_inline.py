"""One worker, kept as long as it is healthy: reused, replaced when it is lost, stopped in good order."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from lacuna.errors import LacunaError
from lacuna.executors import inline
from lacuna.executors.base import Job, Outcome, Resources
from lacuna.executors.inline import Inline
from lacuna.executors.worker import run_job
from lacuna.runs.machine import cores
from tests.executors.jobs import alive, do, finish, follow_orders, job, told, wait_for
from tests.runs.real import ROOT


@pytest.fixture
def executor() -> Iterator[Inline]:
    executor = Inline(work=follow_orders)
    with executor:
        yield executor


def pid(tmp_path: Path, name: str) -> int:
    return int(told(tmp_path / name)[-1]["pid"])


def test_a_worker_of_our_own_does_one_job_after_another(executor: Inline, tmp_path: Path) -> None:
    asked = Resources(3)
    for name in ("a", "b"):
        assert do(executor, job(tmp_path, name, asked)) == [Outcome(job(tmp_path, name).identity)]
    assert pid(tmp_path, "a") == pid(tmp_path, "b") != os.getpid()
    found = told(tmp_path / "b")[0]
    assert found["OMP_NUM_THREADS"] == "3" and not found["torch"]
    # another number of threads is set before anything has read it
    do(executor, job(tmp_path, "c", Resources(2)))
    assert pid(tmp_path, "c") != pid(tmp_path, "b") and told(tmp_path / "c")[0]["OMP_NUM_THREADS"] == "2"
    assert not alive(pid(tmp_path, "b"))


def test_the_environment_is_as_before(executor: Inline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    do(executor, job(tmp_path, "a", Resources(2)))
    assert "OMP_NUM_THREADS" not in os.environ and told(tmp_path / "a")[0]["CUDA_VISIBLE_DEVICES"] == "0,1"
    with Inline(gpus=0, work=follow_orders) as without:
        do(without, job(tmp_path, "b", Resources(2)))
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "0,1" and told(tmp_path / "b")[0]["CUDA_VISIBLE_DEVICES"] == ""


def test_a_job_is_taken_up_again_when_its_process_dies(executor: Inline, tmp_path: Path) -> None:
    assert do(executor, job(tmp_path, "a", deaths=2))[0].done
    assert len({found["pid"] for found in told(tmp_path / "a")}) == 3
    # each job has its own tries
    assert do(executor, job(tmp_path, "b", deaths=2))[0].done


def test_but_not_for_ever(tmp_path: Path) -> None:
    with Inline(retries=1, work=follow_orders) as executor:
        first, second = job(tmp_path, "a", deaths=9), job(tmp_path, "b")
        [outcome] = do(executor, first)
        assert not outcome.done and not outcome.interrupted
        assert outcome.error == "its process died 2 times (killed by signal 9): perhaps there is too little memory."
        assert len(told(tmp_path / "a")) == 2
        assert do(executor, second)[0].done


def test_a_worker_killed_between_two_jobs_is_replaced(executor: Inline, tmp_path: Path) -> None:
    do(executor, job(tmp_path, "a"))
    os.kill(pid(tmp_path, "a"), signal.SIGKILL)
    assert do(executor, job(tmp_path, "b"))[0].done
    assert pid(tmp_path, "b") != pid(tmp_path, "a")


def test_after_a_failure_the_process_is_a_new_one(executor: Inline, tmp_path: Path) -> None:
    [outcome] = do(executor, job(tmp_path, "a", fail="mend this."))
    assert outcome.error == "mend this." and not outcome.interrupted
    assert not alive(pid(tmp_path, "a"))
    assert do(executor, job(tmp_path, "b"))[0].done


def test_one_job_at_a_time(executor: Inline, tmp_path: Path) -> None:
    assert executor.slots == 1 and executor.wait(0) == []
    executor.submit(job(tmp_path, "a", seconds=60))
    with pytest.raises(RuntimeError, match="one job"):
        executor.submit(job(tmp_path, "b"))
    assert executor.wait(0.01) == []


def test_close_interrupts_what_runs(tmp_path: Path) -> None:
    executor = Inline(work=follow_orders)
    executor.submit(job(tmp_path, "a", seconds=600))
    wait_for(lambda: told(tmp_path / "a"))
    executor.close()
    assert (tmp_path / "a.interrupted").exists() and not alive(pid(tmp_path, "a"))
    executor.close()
    assert executor.wait(0) == []


def test_close_kills_what_does_not_hear(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inline, "GRACE", 0.5)
    executor = Inline(work=_deaf)
    executor.submit(job(tmp_path, "a"))
    wait_for(lambda: told(tmp_path / "a"))
    executor.close()
    assert not alive(pid(tmp_path, "a"))


def _deaf(job: Job) -> Outcome:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    follow_orders(job)
    time.sleep(600)
    return Outcome(job.identity)


def test_an_interrupted_worker_says_so(executor: Inline, tmp_path: Path) -> None:
    executor.submit(job(tmp_path, "a", seconds=600))
    wait_for(lambda: told(tmp_path / "a"))
    for _ in range(2):  # the terminal's word and ours
        os.kill(pid(tmp_path, "a"), signal.SIGINT)
    [outcome] = finish(executor, 1).values()
    assert outcome.interrupted
    assert do(executor, job(tmp_path, "b"))[0].done


def test_no_worker_outlives_its_parent(tmp_path: Path) -> None:
    code = (
        "import sys, pathlib\nfrom tests.executors.jobs import *\nfrom lacuna.executors.inline import Inline\n"
        "if __name__ == '__main__':\n    e = Inline(work=follow_orders)\n"
        "    e.submit(job(pathlib.Path(sys.argv[1]), 'a', seconds=600))\n    e.wait(600)\n"
    )
    script = tmp_path / "driver.py"
    script.write_text(code)
    path = os.pathsep.join([str(ROOT), str(ROOT / "src")])
    with subprocess.Popen(
        [sys.executable, str(script), str(tmp_path)], env={**os.environ, "PYTHONPATH": path}
    ) as driver:
        wait_for(lambda: told(tmp_path / "a"))
        driver.kill()
    wait_for(lambda: not alive(pid(tmp_path, "a")))
    assert (tmp_path / "a.interrupted").exists()


def test_what_a_run_asks_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inline, "gpu_count", lambda: 2)
    assert [Inline().resources(devices).gpus for devices in (1, 2, 3)] == [1, 2, 2]
    assert Inline().resources(1).cpus == cores()
    assert Inline(cpus=1, gpus=0.5).resources(1) == Resources(1, 0.5)
    Inline().check([Resources(1, 2), Resources(cores())])
    with pytest.raises(LacunaError, match=r"executor\.gpus=3: this machine has 2 GPUs"):
        Inline().check([Resources(1), Resources(1, 3)])
    with pytest.raises(LacunaError, match=r"executor\.cpus=1000000: this machine has \d+ cores"):
        Inline().check([Resources(1_000_000)])


@pytest.mark.parametrize("key, value", [("cpus", 0), ("cpus", 1.5), ("retries", -1), ("gpus", 1.5), ("gpus", True)])
def test_values_that_cannot_be(key: str, value: float) -> None:
    with pytest.raises(LacunaError, match=rf"^executor\.{key}={value} must be null"):
        Inline(**{key: value})  # type: ignore[arg-type]


class TestWork:
    """What the real worker makes of errors."""

    def test_a_sentence_for_mistakes(self, tmp_path: Path) -> None:
        outcome = run_job(job(tmp_path, "a", threads="many"))
        assert outcome.error == "trainer.threads=many must be null or a whole number of at least 1."
        assert not outcome.interrupted

    @pytest.mark.parametrize("error", [ValueError("unforeseen"), SystemExit(3)])
    def test_a_traceback_for_what_nobody_foresaw(
        self, error: BaseException, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        outcome = self.raising(error, tmp_path, monkeypatch)
        assert outcome.error is not None and outcome.error.startswith("Traceback") and not outcome.interrupted
        assert f"{type(error).__name__}: {error}" in outcome.error

    def test_interrupted_is_no_failure(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        outcome = self.raising(KeyboardInterrupt(), tmp_path, monkeypatch)
        assert outcome.interrupted and not outcome.done

    def raising(self, error: BaseException, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Outcome:
        def execute(*args: object, **kwargs: object) -> None:
            raise error

        monkeypatch.setattr("lacuna.training.run.execute", execute)
        monkeypatch.setattr("lacuna.runs.environment.set_up", lambda threads: None)  # of this process
        return run_job(job(tmp_path, "a", threads=1))
