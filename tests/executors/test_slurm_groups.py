"""Groups of runs: every run once, after what it needs, never in a circle, no job too full, loads balanced."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from lacuna.executors.base import Job
from lacuna.executors.slurm_groups import Group, Room, make_groups
from tests.executors.graphs import graph, name_of, names

OUTPUT = Path("outputs")


def grouped(needs: dict[str, str], room: Room, seconds: dict[str, float] | None = None) -> list[Group]:
    jobs = graph(OUTPUT, needs)
    return make_groups(jobs, {job.identity: (seconds or {}).get(name_of(job)) for job in jobs}, room)


def test_what_needs_each_other_shares_a_job_where_it_fits() -> None:
    needs = {"a": "", "b": "", "c": "a", "d": "b", "e": "a"}
    groups = grouped(needs, Room(3, 2))
    assert sorted(names(groups)) == ["ace", "bd"] and [group.needs for group in groups] == [(), ()]
    assert [group.at_a_time for group in groups] == [2, 2]
    # one more does not fit: the prerequisite has a job of its own, and the others wait for it
    groups = grouped({**needs, "f": "a", "g": "e"}, Room(3, 2))
    # which do not wait for runs that nobody needs
    assert names(groups) == ["a", "bd", "e", "cf", "g"]
    assert [group.needs for group in groups] == [(), (), (0,), (0,), (2,)]


def test_in_a_table_of_many_runs_those_that_wait_for_the_same_are_together() -> None:
    needs = {"a": "", "b": "", **dict.fromkeys("cdefgh", "a"), **dict.fromkeys("ijklmn", "b"), "o": "ab"}
    groups = grouped(needs, Room(6, 2), {"a": 100, "b": 1})
    first = [group for group in groups if not group.needs]
    assert names(first) == ["ab"] and {group.needs for group in groups} == {(), (0,)}
    by_need = grouped(needs, Room(1, 1))
    assert names(by_need)[:2] == ["a", "b"] and {group.needs for group in by_need[2:]} == {(0,), (1,), (0, 1)}


def test_loads_are_balanced_by_time() -> None:
    seconds = {"a": 60.0, "b": 30, "c": 20, "d": 10, "e": 1, "f": 1}
    groups = grouped(dict.fromkeys(seconds, ""), Room(4, 1), seconds)
    loads = sorted(sum(seconds[name] for name in each) for each in names(groups))
    assert loads == [61, 61]
    # a time limit asks for more jobs, and what is unknown counts as the mean
    groups = grouped(dict.fromkeys("abcdef", ""), Room(6, 1, seconds=60), {"a": 60, "b": 20})
    assert "a" in names(groups) and len(groups) == 4


def test_a_run_of_several_devices_is_alone_on_them() -> None:
    jobs = graph(OUTPUT, {"a": "", "b": "a", "c": ""}, devices=2)
    groups = make_groups(jobs, {}, Room(8, 4))
    assert [group.at_a_time for group in groups] == [1]


def test_prerequisites_that_are_done_or_elsewhere_are_not_waited_for() -> None:
    jobs = graph(OUTPUT, {"a": "", "b": "a", "c": "a"})[1:]
    groups = make_groups(jobs, {}, Room(1, 1))
    assert names(groups) == ["b", "c"] and [group.needs for group in groups] == [(), ()]
    assert make_groups([], {}, Room(1, 1)) == []


@pytest.mark.parametrize("seed", range(30))
def test_laws_on_random_graphs(seed: int) -> None:
    rng = random.Random(seed)
    letters = [f"n{number}." for number in range(rng.randint(1, 40))]
    needs = {name: rng.sample(letters[:n], min(n, rng.choice([0, 0, 1, 2]))) for n, name in enumerate(letters)}
    jobs = graph(OUTPUT, needs)
    room = Room(rng.randint(1, 9), rng.randint(1, 4), rng.choice([float("inf"), 50]))
    seconds = {job.identity: rng.choice([None, rng.uniform(1, 100)]) for job in jobs}
    groups = make_groups(jobs, seconds, room)
    place: dict[str, int] = {job.identity: n for n, group in enumerate(groups) for job in group.jobs}
    assert len(place) == len(jobs) == sum(len(group.jobs) for group in groups)
    for number, group in enumerate(groups):
        assert 1 <= len(group.jobs) <= room.runs and 1 <= group.at_a_time <= room.at_a_time
        assert set(group.needs) == {place[needed] for job in group.jobs for needed in _needed(job)} - {number}
        assert all(need < number for need in group.needs)
        seen: set[str] = set()
        for job in group.jobs:
            assert all(needed in seen or place[needed] != number for needed in _needed(job))
            seen.add(job.identity)


def _needed(job: Job) -> list[str]:
    return [needed.identity for needed in job.recipe.prerequisites.values()]
