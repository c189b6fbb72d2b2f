"""One of several jobs is stopped: it can save its state, its neighbours notice nothing, and more jobs follow."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from lacuna.executors.base import Executor, Resources
from lacuna.executors.inline import Inline
from lacuna.executors.on_ray import OnRay
from lacuna.executors.processes import Processes
from lacuna.executors.schedule import DONE, INTERRUPTED, Schedule
from lacuna.executors.shared_cards import SharedCards
from tests.executors.jobs import do, finish, follow_orders, job, told
from tests.executors.test_shared_cards import QUARTER, too_little_memory

EXECUTORS: dict[str, Callable[[], Executor]] = {
    "processes": lambda: Processes(runs=2, cpus=1, work=follow_orders),
    "shared_cards": lambda: SharedCards(cpus=1, work=follow_orders, cards=["0"]),
    "ray": lambda: OnRay(local_cpus=2, work=follow_orders),
}


@pytest.mark.parametrize("kind", EXECUTORS)
def test_one_of_two_is_stopped_and_the_other_goes_on(kind: str, tmp_path: Path) -> None:
    if kind == "ray":
        pytest.importorskip("ray")
    with EXECUTORS[kind]() as executor:
        assert executor.cancels
        asked = QUARTER if kind == "shared_cards" else Resources(1)
        bad, good, later = (job(tmp_path, name, asked, seconds=s) for name, s in (("a", 600), ("b", 4), ("c", 0)))
        executor.submit(bad)
        executor.submit(good)
        while not (told(tmp_path / "a") and told(tmp_path / "b")):
            assert executor.wait(0.1) == []
        executor.cancel(bad.identity)
        ended = finish(executor, 2)
        assert ended[bad.identity].interrupted and ended[good.identity].done
        assert (tmp_path / "a.interrupted").exists() and not (tmp_path / "b.interrupted").exists()
        assert len(told(tmp_path / "a")) == 1  # it was not restarted
        assert do(executor, later)[0].done
        assert executor.wait(0) == []


def test_one_worker_does_the_next_job_afterwards(tmp_path: Path) -> None:
    with Inline(cpus=1, work=follow_orders) as executor:
        bad = job(tmp_path, "a", seconds=600)
        executor.submit(bad)
        executor.cancel("another")
        while not told(tmp_path / "a"):
            assert executor.wait(0.1) == []
        executor.cancel(bad.identity)
        assert finish(executor, 1)[bad.identity].interrupted
        # stopping is over: a death of the next worker is one, and its job is restarted
        assert do(executor, job(tmp_path, "b", deaths=1))[0].done and len(told(tmp_path / "b")) == 2


def test_a_job_that_waits_for_a_whole_card_ends_at_once(tmp_path: Path) -> None:
    with SharedCards(cpus=1, work=too_little_memory, cards=["0"]) as executor:
        busy, large = job(tmp_path, "a", QUARTER, seconds=600), job(tmp_path, "b", QUARTER, large=True)
        executor.submit(busy)
        executor.submit(large)
        while executor.takes(job(tmp_path, "c", QUARTER)):  # until b has failed
            assert executor.wait(0.1) == []
        executor.cancel(large.identity)
        assert finish(executor, 1)[large.identity].interrupted
        executor.cancel(busy.identity)
        assert finish(executor, 1)[busy.identity].interrupted


def test_a_job_that_waits_is_given_up_without_the_executor(tmp_path: Path) -> None:
    with Inline(cpus=1, work=follow_orders) as executor:
        schedule = Schedule(executor)
        first, second = job(tmp_path, "a"), job(tmp_path, "b")
        schedule.add(first)
        schedule.add(second)
        schedule.cancel(second.identity)
        while schedule.active:
            schedule.advance(1.0)
        assert [schedule.tasks[each.identity].state for each in (first, second)] == [DONE, INTERRUPTED]
        schedule.cancel(first.identity)  # too late: nothing happens
        assert schedule.tasks[first.identity].state == DONE and not told(tmp_path / "b")
