"""The schedule keeps the order of needs, the executor's places full, and failures where they happen."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from lacuna.executors.base import Executor, Job, Outcome, Resources
from lacuna.executors.schedule import BLOCKED, DONE, FAILED, INTERRUPTED, Schedule, Task
from lacuna.runs.recipe import Recipe
from lacuna.runs.settings import Settings


def content(name: str, **needs: dict) -> dict:
    found = {"task": {"name": "density"}, "density": {"name": name}, "data": {"name": "d"}, "mask": {"name": "m"}}
    return {**found, "budget": "paper", "seed": 0, **({"prerequisites": needs} if needs else {})}


def job(content: dict) -> Job:
    return Job(Recipe(content), Settings(output=Path("nowhere")))


class Fake(Executor):
    """Ends its jobs last in, first out, as told."""

    def __init__(self, slots: int, failing: Iterable[str] = (), interrupted: Iterable[str] = ()) -> None:
        self.places, self.failing, self.stopped = slots, set(failing), set(interrupted)
        self.running: list[Job] = []
        self.log: list[str] = []
        self.most = 0

    def resources(self, devices: int) -> Resources:
        return Resources()

    def check(self, wanted: Iterable[Resources]) -> None:
        pass

    @property
    def slots(self) -> int:
        return self.places

    def submit(self, job: Job) -> None:
        self.running.append(job)
        self.most = max(self.most, len(self.running))
        self.log.append(name(job))

    def wait(self, timeout: float) -> list[Outcome]:
        job = self.running.pop()
        if name(job) in self.stopped:
            return [Outcome(job.identity, "interrupted", interrupted=True)]
        return [Outcome(job.identity, "it broke" if name(job) in self.failing else None)]

    def stop(self) -> None:
        self.stopped |= {name(job) for job in self.running}

    def close(self) -> None:
        pass


def name(job: Job) -> str:
    return str(job.recipe.config["density"]["name"])


def run(executor: Fake, *contents: dict) -> dict[str, Task]:
    seen: list[tuple[str, str]] = []
    schedule = Schedule(executor, [lambda task: seen.append((name(task.job), task.state))])
    for one in contents:
        schedule.add(job(one), [f"cell of {one['density']['name']}"])
    rounds = 0
    while schedule.active:
        schedule.advance(0.01)
        rounds += 1
        assert rounds < 1000
    tasks = {name(task.job): task for task in schedule.tasks.values()}
    assert all(seen[-1][1] == tasks[seen[-1][0]].state for _ in [0])
    return tasks


A = content("a")
B = content("b", density=A)
C = content("c", density=A, other=B)
D = content("d")


def test_needed_jobs_are_done_before_what_needs_them() -> None:
    executor = Fake(2)
    tasks = run(executor, A, B, C, D)
    assert {task.state for task in tasks.values()} == {DONE}
    order = executor.log
    assert order.index("a") < order.index("b") < order.index("c")


def test_places_are_filled_but_not_overfilled() -> None:
    executor = Fake(3)
    run(executor, *(content(f"x{i}") for i in range(10)))
    assert executor.most == 3 and len(executor.log) == 10


def test_a_failure_blocks_only_what_needs_it() -> None:
    executor = Fake(1, failing=["a"])
    tasks = run(executor, A, B, C, D)
    assert tasks["a"].state == FAILED and tasks["a"].error == "it broke"
    assert tasks["b"].state == tasks["c"].state == BLOCKED and "failed" in str(tasks["b"].error)
    assert tasks["d"].state == DONE
    assert executor.log == ["a", "d"]


def test_an_interrupted_need_blocks_as_well_and_is_no_failure() -> None:
    tasks = run(Fake(1, interrupted=["a"]), A, B)
    assert (tasks["a"].state, tasks["b"].state) == (INTERRUPTED, BLOCKED)


def test_a_need_that_was_not_added_was_finished_before() -> None:
    executor = Fake(1)
    assert run(executor, B)["b"].state == DONE
    assert executor.log == ["b"]


def test_jobs_may_come_later_and_twice() -> None:
    executor = Fake(1, failing=["a"])
    schedule = Schedule(executor)
    first = schedule.add(job(D), ["one"])
    assert schedule.add(job(D), ["two"]) is first and first.cells == ("one", "two")
    schedule.add(job(A))
    while schedule.active:
        schedule.advance(0.01)
    late = schedule.add(job(B))
    assert late.state == BLOCKED and not schedule.active
    assert executor.log == ["d", "a"]
