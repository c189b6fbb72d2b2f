"""A cluster that is joined: three machines, all of them on this one, which come and go."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lacuna.errors import LacunaError
from lacuna.executors import ray_cluster
from lacuna.executors.base import Resources
from lacuna.executors.on_ray import OnRay
from tests.executors.jobs import alive, do, finish, follow_orders, job, told, wait_for

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def machines() -> Iterator[Any]:
    """A head without cores, as clusters have it, and two machines of one core each."""
    ray_cluster.require_token()
    utils = importlib.import_module("ray.cluster_utils")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        cluster = utils.Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
        for _ in range(2):
            cluster.add_node(num_cpus=1)
        yield cluster
        cluster.shutdown()


@pytest.fixture
def executor(machines: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[OnRay]:
    monkeypatch.setattr(ray_cluster, "REFRESH", 0.0)
    executor = OnRay(address=machines.address, work=follow_orders)
    with executor:
        yield executor


def test_runs_on_all_machines_end_with_us_and_the_cluster_goes_on(machines: Any, tmp_path: Path) -> None:
    with OnRay(address="auto") as found:  # the one that runs here
        assert found.resources(1) == Resources(1)
    for attempt in ("first", "second"):
        output = tmp_path / attempt
        executor = OnRay(address=machines.address, work=follow_orders)
        executor.check([Resources(1)])
        assert executor.slots == 2 + 1
        with pytest.raises(LacunaError, match="no machine on Ray has more than 1 CPU cores"):
            executor.check([Resources(2)])
        for name in ("a", "b"):
            executor.submit(job(output, name, seconds=600))
        while not (told(output / "a") and told(output / "b")):
            assert executor.wait(0.1) == []
        assert len({place.node for place in executor._workers}) == 2
        executor.close()
        pids = [int(told(output / name)[0]["pid"]) for name in ("a", "b")]
        wait_for(lambda pids=pids: not any(alive(pid) for pid in pids))
        assert sorted(path.name for path in output.iterdir()) == ["a", "a.interrupted", "b", "b.interrupted"]


def test_a_run_goes_on_elsewhere_when_its_machine_is_lost(
    machines: Any, executor: OnRay, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    third = machines.add_node(num_cpus=1, num_gpus=1)
    executor.submit(job(tmp_path, "a", Resources(1, 1), seconds=5))
    while not told(tmp_path / "a"):
        executor.wait(0.1)
    assert executor.slots == 1 + 1
    machines.remove_node(third, allow_graceful=False)
    machines.add_node(num_cpus=1, num_gpus=1)
    [outcome] = finish(executor, 1).values()
    assert outcome.done and len(told(tmp_path / "a")) == 2
    said = capsys.readouterr()
    reason = "its worker was lost (its machine no longer answers)"
    assert said.out == "" and said.err == f"d · m · a · seed 0: {reason}; the run is restarted.\n"


def test_a_growing_cluster_is_used(machines: Any, executor: OnRay, tmp_path: Path) -> None:
    executor.check([Resources(1)])
    wait_for(lambda: executor.slots == 3 + 1)
    machines.add_node(num_cpus=2)
    wait_for(lambda: executor.slots == 5 + 1)
    jobs = [job(tmp_path, f"j{i}", company=5) for i in range(5)]
    assert all(outcome.done for outcome in do(executor, *jobs))
