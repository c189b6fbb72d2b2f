"""The real Ray on this machine, with more cores and GPUs than it has: Ray only counts them."""

from __future__ import annotations

import importlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from lacuna.errors import LacunaError
from lacuna.executors import on_ray
from lacuna.executors.base import Job, Outcome, Resources
from lacuna.executors.inline import Inline
from lacuna.executors.on_ray import OnRay
from lacuna.executors.ray_cluster import Cluster, import_path
from lacuna.executors.schedule import DONE, FAILED, INTERRUPTED, WAITING, Schedule
from lacuna.runs.settings import Settings
from tests.executors.jobs import alive, do, finish, follow_orders, job, pid, told, wait_for
from tests.runs.real import ROOT, TINY, contents, recipe

pytestmark = pytest.mark.slow

CPUS, GPUS = 4, 2


@pytest.fixture(scope="module")
def ray(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModuleType]:
    """Ray, started once for all tests here; the executors find it and leave it as it is."""
    folder = tmp_path_factory.mktemp("path")
    (folder / "found_by_path.py").write_text("from tests.executors.jobs import follow_orders as orders\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(folder))  # which no environment variable tells of
        patch.setenv("RAY_ADDRESS", "127.0.0.1:1")  # a cluster that nobody asked for
        ours = signal.signal(signal.SIGTERM, signal.default_int_handler)
        cluster = Cluster(None, CPUS, GPUS)
        yield cluster.connect()
        cluster.close()
        assert signal.signal(signal.SIGTERM, ours) is signal.default_int_handler
    assert not cluster.connected


@pytest.fixture
def executor(ray: ModuleType) -> Iterator[OnRay]:
    executor = OnRay(work=follow_orders)
    with executor:
        yield executor
    assert ray.is_initialized()


def test_runs_share_gpus_two_by_two(executor: OnRay, tmp_path: Path) -> None:
    names = ["a", "b", "c", "d"]
    asked = Resources(1, 0.5)
    assert all(o.done for o in do(executor, *(job(tmp_path, name, asked, company=4) for name in names)))
    found = [told(tmp_path / name)[0] for name in names]
    assert sorted(each["CUDA_VISIBLE_DEVICES"] for each in found) == ["0", "0", "1", "1"]
    assert len({each["pid"] for each in found}) == 4
    # nothing was imported before the devices were set, and each has the threads it asked for
    assert {(each["torch"], each["OMP_NUM_THREADS"]) for each in found} == {(False, "1")}


def test_a_worker_is_used_again_for_the_same_resources_only(executor: OnRay, tmp_path: Path) -> None:
    all_cores = Resources(CPUS)
    do(executor, job(tmp_path, "a", all_cores))
    do(executor, job(tmp_path, "b", all_cores))
    assert pid(tmp_path, "a") == pid(tmp_path, "b")
    # there is no room for another one: the first must go
    do(executor, job(tmp_path, "c", Resources(2, 2)))
    found = told(tmp_path / "c")[0]
    assert pid(tmp_path, "c") != pid(tmp_path, "b")
    assert (found["OMP_NUM_THREADS"], sorted(found["CUDA_VISIBLE_DEVICES"].split(","))) == ("2", ["0", "1"])
    wait_for(lambda: not alive(pid(tmp_path, "b")))


def test_without_a_gpu_none_is_seen(executor: OnRay, tmp_path: Path) -> None:
    do(executor, job(tmp_path, "a", Resources(1, 0)))
    found = told(tmp_path / "a")[0]
    assert found["CUDA_VISIBLE_DEVICES"] == "" and found["argv"] == sys.argv


def test_a_lost_worker_is_replaced(executor: OnRay, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert do(executor, job(tmp_path, "a", deaths=2))[0].done
    said = capsys.readouterr()
    assert said.out == "" and [line.split(":")[0] for line in said.err.splitlines()] == ["d · m · a · seed 0"] * 2
    assert len({found["pid"] for found in told(tmp_path / "a")}) == 3


def test_but_not_for_ever_and_the_others_go_on(ray: ModuleType, tmp_path: Path) -> None:
    with OnRay(retries=1, work=follow_orders) as executor:
        jobs = [job(tmp_path, "a", deaths=9), job(tmp_path, "b", fail="mend this."), job(tmp_path, "c", seconds=0.5)]
        lost, failed, done = do(executor, *jobs)
        assert lost.error == (
            "its worker on Ray was lost 2 times "
            "(its process was killed or crashed: perhaps there is too little memory)."
        )
        assert len(told(tmp_path / "a")) == 2 and not lost.interrupted
        assert failed.error == "mend this." and done.done
        # after a failure the process is a new one
        do(executor, *(job(tmp_path, f"d{i}") for i in range(3)))
        assert pid(tmp_path, "b") not in {pid(tmp_path, f"d{i}") for i in range(3)}


def test_a_worker_killed_between_two_jobs_is_replaced(executor: OnRay, tmp_path: Path) -> None:
    do(executor, job(tmp_path, "a"))
    os.kill(pid(tmp_path, "a"), signal.SIGKILL)
    assert do(executor, job(tmp_path, "b"))[0].done


def test_what_a_worker_raises_ends_its_job(ray: ModuleType, tmp_path: Path) -> None:
    with OnRay(work=_raise) as executor:
        [outcome] = do(executor, job(tmp_path, "a"))
    assert outcome.error is not None and "ValueError: unforeseen" in outcome.error and not outcome.interrupted


def _raise(job: Job) -> Outcome:
    raise ValueError("unforeseen")


def test_a_graph_of_jobs(executor: OnRay, tmp_path: Path) -> None:
    asked = [Resources(1), Resources(2, 1)]
    jobs = [job(tmp_path, f"j{i}", asked[i % 2], **({"fail": "no."} if i == 3 else {})) for i in range(10)]
    executor.check({each.resources for each in jobs})
    schedule = Schedule(executor)
    for each in jobs:
        schedule.add(each)
    while schedule.active:
        schedule.advance(1.0)
    states = [task.state for task in schedule.tasks.values()]
    assert states == [FAILED if i == 3 else DONE for i in range(10)]


def test_slots_are_what_finds_a_place_and_one_more(executor: OnRay, tmp_path: Path) -> None:
    executor.check([Resources(1, 0.5)])
    assert executor.slots == 4 + 1
    for name in ("a", "b"):
        executor.submit(job(tmp_path, name, Resources(1, 1), seconds=600))
    assert executor.slots == 2 + 1  # the GPUs are taken
    executor.submit(job(tmp_path, "c", Resources(1, 0.5)))
    assert executor.slots == 3


def test_a_big_run_is_not_overtaken_for_ever(executor: OnRay, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(on_ray, "PATIENCE", 0.0)
    before, after = ([job(tmp_path, f"{when}{i}", seconds=0.3) for i in range(2)] for when in ("before", "after"))
    big = job(tmp_path, "big", Resources(CPUS))
    assert all(outcome.done for outcome in do(executor, *before, big, *after))
    began = {path.name: told(path)[0]["began"] for path in tmp_path.iterdir()}
    assert max(began["before0"], began["before1"]) < began["big"] < min(began["after0"], began["after1"])


def test_relative_folders_are_meant_from_here(executor: OnRay, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    [outcome] = do(executor, job(Path("out"), "a"))
    assert outcome.done and told(tmp_path / "out" / "a")[0]["cwd"] == str(tmp_path)
    monkeypatch.chdir("/")
    [outcome] = do(executor, job(Path("tmp") / tmp_path.relative_to("/tmp") / "out", "b"))
    assert outcome.done and told(tmp_path / "out" / "b")


def test_workers_import_what_we_can_import(ray: ModuleType, tmp_path: Path) -> None:
    found_by_path = importlib.import_module("found_by_path")
    with OnRay(work=found_by_path.orders) as executor:
        assert do(executor, job(tmp_path, "a"))[0].done
    entries = import_path().split(os.pathsep)
    assert str(Path(found_by_path.__file__ or "").parent) in entries and str(ROOT) in entries
    assert not [entry for entry in entries if "site-packages" in entry or not Path(entry).is_absolute()]


def test_at_the_end_of_a_time_box_what_runs_stops_and_what_waits_is_left(executor: OnRay, tmp_path: Path) -> None:
    schedule = Schedule(executor)
    names = ["a", "b", "c", "d"]
    for name in names:
        schedule.add(job(tmp_path, name, Resources(2), seconds=600))  # two at a time
    while len([name for name in names if told(tmp_path / name)]) < 2:
        schedule.advance(0.1)
    workers = [told(tmp_path / name)[0]["pid"] for name in ("a", "b")]
    schedule.stop()
    until = time.monotonic() + 120
    while schedule.active and time.monotonic() < until:
        schedule.advance(1.0)
    assert {task.state for task in schedule.tasks.values()} <= {INTERRUPTED, WAITING} and not schedule.active
    assert all((tmp_path / f"{name}.interrupted").exists() for name in ("a", "b"))
    assert not told(tmp_path / "c") and not told(tmp_path / "d")
    wait_for(lambda: not any(map(alive, workers)))


def test_close_interrupts_what_runs(ray: ModuleType, tmp_path: Path) -> None:
    executor = OnRay(work=follow_orders)
    for name in ("a", "b"):
        executor.submit(job(tmp_path, name, seconds=600))
    executor.submit(job(tmp_path, "never", Resources(CPUS)))
    while not (told(tmp_path / "a") and told(tmp_path / "b")):
        assert executor.wait(0.1) == []
    executor.close()
    for name in ("a", "b"):
        assert (tmp_path / f"{name}.interrupted").exists()
        wait_for(lambda name=name: not alive(pid(tmp_path, name)))
    assert not (tmp_path / "never").exists()
    executor.close()
    assert executor.wait(0) == []


def test_close_kills_what_does_not_hear(ray: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(on_ray, "GRACE", 0.5)
    executor = OnRay(work=_deaf)
    executor.submit(job(tmp_path, "a", seconds=600))
    while not told(tmp_path / "a"):
        executor.wait(0.1)
    executor.close()
    wait_for(lambda: not alive(pid(tmp_path, "a")))
    assert not (tmp_path / "a.interrupted").exists()


def _deaf(job: Job) -> Outcome:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    return follow_orders(job)


def test_an_interrupted_run_is_no_failure(executor: OnRay, tmp_path: Path) -> None:
    executor.submit(job(tmp_path, "a", seconds=600))
    while not told(tmp_path / "a"):
        executor.wait(0.1)
    for _ in range(2):
        os.kill(pid(tmp_path, "a"), signal.SIGINT)
    [outcome] = finish(executor, 1).values()
    assert outcome.interrupted
    assert do(executor, job(tmp_path, "b"))[0].done


class TestResources:
    """What runs ask for, and what is refused."""

    def test_of_a_run(self, ray: ModuleType) -> None:
        assert OnRay().resources(1) == Resources(1, 1)
        assert OnRay(cpus=None).resources(1) == Resources(1, 1)
        assert OnRay(cpus=3).resources(2) == Resources(6, 2)
        assert OnRay(gpus=0.25).resources(1) == Resources(1, 0.25)
        assert OnRay(gpus=1).resources(4) == Resources(4, 4)
        assert OnRay(gpus=0, cpus=2).resources(3) == Resources(6, 0)
        with pytest.raises(LacunaError, match=r"^executor\.gpus=0\.5 with trainer\.devices=2: "):
            OnRay(gpus=0.5).resources(2)

    def test_that_no_machine_has(self, ray: ModuleType) -> None:
        OnRay().check([Resources(CPUS, GPUS), Resources(1, 0.5)])
        with pytest.raises(LacunaError, match=r"asks for 5 CPU cores, but no machine .* more than 4 CPU cores: lower"):
            OnRay().check([Resources(1), Resources(CPUS + 1)])
        with pytest.raises(LacunaError, match=r"1 CPU cores and 3 GPUs, but .* more than 2 GPUs: lower executor\.gpus"):
            OnRay().check([Resources(1, GPUS + 1)])


@pytest.fixture
def tiny(digits_root: Path) -> list[str]:
    return [*TINY, f"data.root={digits_root}", "experiment=digits_zero"]


def test_a_real_run_is_the_same_as_inline(ray: ModuleType, tiny: list[str], digits_root: Path, tmp_path: Path) -> None:
    trained = {}
    trainer = {"accelerator": "cpu", "progress": False}
    for name, executor in (("inline", Inline(cpus=1)), ("ray", OnRay(cpus=1, gpus=0))):
        settings = Settings(tmp_path / name, digits_root, trainer=trainer)
        with executor:
            jobs = [Job(recipe(*tiny, f"seed={seed}"), settings, executor.resources(1)) for seed in (0, 1)]
            outcomes = [do(executor, each)[0] for each in jobs]
        assert outcomes == [Outcome(each.identity) for each in jobs]
        trained[name] = [contents(each.folder.path) for each in jobs]
        assert jobs[0].folder.attempts[-1]["command"] == sys.argv
    assert trained["inline"] == trained["ray"] and trained["ray"][0] != trained["ray"][1]


def test_nobody_else_gets_in(ray: ModuleType) -> None:
    address = ray.get_runtime_context().gcs_address
    code = f"import ray; ray.init(address='{address}', log_to_driver=False)"
    others = {key: value for key, value in os.environ.items() if not key.startswith("RAY_")}
    stranger = subprocess.run(
        [sys.executable, "-c", code], env={**others, "RAY_AUTH_MODE": "disabled"}, capture_output=True, text=True
    )
    assert stranger.returncode == 1 and "ConnectionError" in stranger.stderr
    assert ray.is_initialized()
