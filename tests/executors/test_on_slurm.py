"""A graph of runs as SLURM jobs: on a cluster in miniature, and on submitit's own local one."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lacuna.errors import LacunaError
from lacuna.executors import slurm_jobs, slurm_queue
from lacuna.executors.base import Job, Resources
from lacuna.executors.on_slurm import OnSlurm
from lacuna.executors.schedule import BLOCKED, DONE, FAILED, Schedule
from lacuna.executors.time_limit import TimeLimit, run_until_limit
from tests.executors import fake_slurm
from tests.executors.graphs import graph, name_of, pretend, told
from tests.executors.jobs import finish, wait_for

pytest.importorskip("submitit")
pytestmark = pytest.mark.slow

NEEDS = {"a": "", "b": "", "c": "a", "d": "a", "e": "ab", "f": "e", "g": ""}


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder of a cluster in miniature."""
    folder = tmp_path / "cluster"
    for key, value in fake_slurm.install(folder).items():
        monkeypatch.setenv(key, value)
    monkeypatch.setattr(slurm_queue.SlurmQueue, "poll_seconds", 0.3)
    monkeypatch.setattr(slurm_jobs, "LATE", 0.5)
    yield folder
    fake_slurm.end_all(folder)


@pytest.fixture
def output(tmp_path: Path) -> Path:
    (tmp_path / "out").mkdir()
    return tmp_path / "out"


def executor(cluster: str = "slurm", **more: Any) -> OnSlurm:
    values = {"gpus": 0, "cpus": 1, "runs": 2, "runs_per_gpu": 2, "work": pretend}
    return OnSlurm(cluster=cluster, **{**values, **more})


def do(executor: OnSlurm, jobs: list[Job], limit: TimeLimit | None = None) -> dict[str, tuple[str, str | None]]:
    """What ``reproduce`` does with jobs; their states and errors by name."""
    with executor:
        executor.check([Resources(1)])
        executor.begin(jobs, {})
        schedule = Schedule(executor)
        for job in jobs:
            schedule.add(job)
        if executor.detached:
            while schedule.advance(0):
                pass
        else:
            run_until_limit(schedule, limit or TimeLimit(1), lambda: None, lambda text: None)
    return {name_of(task.job): (task.state, task.error) for task in schedule.tasks.values()}


def states(found: dict[str, tuple[str, str | None]]) -> dict[str, str]:
    return {name: state for name, (state, _) in found.items()}


@pytest.mark.parametrize("cluster", ["slurm", "local"])
def test_each_run_is_done_once_after_what_it_needs(cluster: str, slurm: Path, output: Path) -> None:
    found = do(executor(cluster), graph(output, NEEDS))
    assert found == dict.fromkeys(NEEDS, (DONE, None))
    assert {name: told(output, name) for name in NEEDS} == {name: ["begun", "done"] for name in NEEDS}
    if cluster == "slurm":
        given = [fake_slurm.parameters(slurm, id).get("dependency") for id in fake_slurm.ids(slurm)]
        assert given == [None, None, "afterany:100", "afterany:100", "afterany:102"]  # ab, g, e, cd, f


def test_a_failed_run_holds_up_only_those_that_need_it(slurm: Path, output: Path) -> None:
    found = do(executor(), graph(output, NEEDS, fail=["b"]))
    assert states(found) == {**dict.fromkeys("acdg", DONE), "b": FAILED, "e": BLOCKED, "f": BLOCKED}
    assert found["b"][1] == "mend this." and told(output, "e") == [] == told(output, "f")
    # the same command tries it again
    (output / "mended").touch()
    assert states(do(executor(), graph(output, NEEDS, fail=["b"]))) == dict.fromkeys(NEEDS, DONE)
    assert told(output, "b") == ["begun", "begun", "done"] and told(output, "a") == ["begun", "done"]


def test_without_waiting_nothing_is_submitted_twice(slurm: Path, output: Path, capsys: Any) -> None:
    jobs = graph(output, NEEDS, fail=["b"], hold=["g"])
    assert not do(executor(wait=False), jobs).keys() - set(NEEDS)
    assert "with 7 runs submitted" in (first := capsys.readouterr().err) and "go on without" in first
    wait_for(lambda: told(output, "d") == ["begun", "done"] and told(output, "g") == ["begun"])
    # the same command and another one, with runs of its own
    other = graph(output, {"g": "", "h": "g"}, hold=["g"])
    do(executor(wait=False), other)
    do(executor(wait=False), jobs)
    assert "1 job with 1 run submitted" in capsys.readouterr().err
    (output / "go").touch()
    found = do(executor(), [*jobs[:-1], *other])
    assert {name: len(told(output, name)) for name in "acdgh"} == dict.fromkeys("acdgh", 2)
    assert states(found)["h"] == DONE


def test_a_failure_is_told_once_and_then_tried_again(slurm: Path, output: Path) -> None:
    jobs = graph(output, {"a": "", "b": "a", "c": ""}, fail=["a"], hold=["a"])
    do(executor(wait=False, runs=1), jobs)
    (output / "go").touch()
    wait_for(lambda: all((slurm / "jobs" / id / "ended").exists() for id in fake_slurm.ids(slurm)))
    number = len(fake_slurm.ids(slurm))
    found = do(executor(wait=False, runs=1), jobs[:2])
    assert states(found) == {"a": FAILED, "b": BLOCKED} and len(fake_slurm.ids(slurm)) == number
    (output / "mended").touch()
    assert states(do(executor(runs=1), jobs[:2])) == {"a": DONE, "b": DONE}


@pytest.mark.parametrize("cluster", ["slurm", "local"])
def test_stopped_jobs_save_and_the_next_command_goes_on(cluster: str, slurm: Path, output: Path) -> None:
    jobs = graph(output, NEEDS, hold=["a", "g"])
    limit = TimeLimit(1)
    with executor(cluster) as stopped:
        stopped.begin(jobs, {})
        schedule = Schedule(stopped)
        for job in jobs:
            schedule.add(job)
        while not (told(output, "a") and told(output, "g")):
            schedule.advance(0.1)
        schedule.stop()
        run_until_limit(schedule, limit, lambda: None, lambda text: None)
    assert told(output, "a") == told(output, "g") == ["begun", "saved"] and not told(output, "c")
    if cluster == "slurm":
        assert all((slurm / "jobs" / id / "ended").exists() for id in fake_slurm.ids(slurm))
    (output / "go").touch()
    assert states(do(executor(cluster), jobs)) == dict.fromkeys(NEEDS, DONE)
    assert told(output, "a") == ["begun", "saved", "begun", "done"]


def test_before_the_time_limit_runs_save_and_the_same_job_goes_on(slurm: Path, output: Path) -> None:
    """SIGUSR2 is what SLURM sends then; submitit calls ``scontrol requeue``."""
    jobs = graph(output, {"a": "", "b": "a"}, hold=["a"])
    do(executor(wait=False, time=1), jobs)
    wait_for(lambda: told(output, "a") == ["begun"])
    fake_slurm.send(slurm, "100", signal.SIGUSR2)
    wait_for(lambda: told(output, "a") == ["begun", "saved", "begun"])
    (output / "go").touch()
    assert states(do(executor(), jobs)) == {"a": DONE, "b": DONE} and fake_slurm.ids(slurm) == ["100"]


def test_a_run_whose_job_is_lost_gets_another_one(slurm: Path, output: Path, capsys: Any) -> None:
    jobs = graph(output, {"a": "", "b": "a", "c": ""}, killed=["a"])
    assert states(do(executor(runs=1), jobs)) == dict.fromkeys("abc", DONE)
    assert told(output, "a") == ["begun", "begun", "done"]
    assert "its job 100 node_fail; another one takes it up" in capsys.readouterr().err


def test_a_cancelled_job_is_not_submitted_again(slurm: Path, output: Path) -> None:
    jobs = graph(output, {"a": "", "b": ""}, hold=["a"])
    do(executor(wait=False, runs=1), jobs)
    wait_for(lambda: told(output, "a"))
    with executor(runs=1) as waiting:
        waiting.begin(jobs, {})
        waiting.submit(jobs[0])
        fake_slurm.scancel(slurm / "jobs", "100")
        until = time.monotonic() + 60
        while not (outcomes := waiting.wait(1)):
            assert time.monotonic() < until
    assert "its job 100 ended too early (cancelled)" in str(outcomes[0].error) and len(fake_slurm.ids(slurm)) == 2


def test_a_single_run_is_given_up_and_the_others_of_its_job_go_on(slurm: Path, output: Path) -> None:
    """As a sweep does with a trial that it prunes; its runs are submitted one by one."""
    jobs = graph(output, {"a": "", "b": "", "c": ""}, hold=["a", "b", "c"])
    with executor(runs=3, runs_per_gpu=2) as waiting:
        for job in jobs:
            waiting.submit(job)
        while not (told(output, "a") and told(output, "b")):
            assert waiting.wait(0.1) == []
        waiting.cancel(jobs[2].identity)  # it has not begun
        waiting.cancel(jobs[0].identity)
        stopped = finish(waiting, 2)
        assert set(stopped) == {jobs[0].identity, jobs[2].identity}
        assert all(outcome.interrupted for outcome in stopped.values())
        (output / "go").touch()
        assert finish(waiting, 1)[jobs[1].identity].done
    assert (told(output, "a"), told(output, "b")) == (["begun", "saved"], ["begun", "done"])
    assert not told(output, "c") and fake_slurm.ids(slurm) == ["100"]


def test_what_is_submitted(slurm: Path, output: Path) -> None:
    jobs = graph(output, {"a": "", "b": "", "c": "a", "d": "b", "e": "", "f": ""}, Resources(3, 0.5))
    given = {"partition": "gpu", "account": "me", "qos": "high", "time": 90, "mem_gb": 12.5, "warning": 120}
    more = {"sbatch": {"constraint": "a100", "exclusive": True}, "setup": ["module load cuda"], "wait": False}
    asked = executor(gpus=1, runs_per_gpu=2, runs=1, jobs=2, **given, **more)
    do(asked, jobs)
    found = [fake_slurm.parameters(slurm, id) for id in fake_slurm.ids(slurm)]
    named = {"partition": "gpu", "account": "me", "qos": "high", "time": "90", "mem": "12800MB", "signal": "USR2@120"}
    named |= {"gpus-per-node": "1", "cpus-per-task": "3", "constraint": "a100", "exclusive": "", "requeue": ""}
    named |= {"nodes": "1", "ntasks-per-node": "1"}
    assert all(named.items() <= each.items() for each in found)
    # two at a time, and the last two need the first two
    waits = [each.get("dependency", "").partition(":")[2] for each in found]
    assert waits == ["", "", "100", "101", "100:102", "101:103"]
    lines = fake_slurm.script(slurm, "100").splitlines()
    assert lines.index("module load cuda") < next(n for n, line in enumerate(lines) if line.startswith("srun"))
    do(executor(runs=2, runs_per_gpu=2, gpus=1, wait=False), graph(output, {"x": "", "y": ""}, Resources(3, 0.5)))
    assert fake_slurm.parameters(slurm, "106")["cpus-per-task"] == "6"


def test_what_slurm_refuses_is_a_sentence(slurm: Path, output: Path) -> None:
    with pytest.raises(LacunaError, match="invalid partition specified: nowhere"):
        do(executor(partition="nowhere"), graph(output, NEEDS))
    assert fake_slurm.ids(slurm) == []
