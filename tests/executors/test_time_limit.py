"""At a time limit nothing more starts, running jobs keep their steps, and the end result is as without a limit."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from lacuna.errors import LacunaError
from lacuna.executors import time_limit
from lacuna.executors.base import Job, Resources
from lacuna.executors.inline import Inline
from lacuna.executors.schedule import BLOCKED, DONE, FAILED, INTERRUPTED, WAITING, Schedule
from lacuna.executors.time_limit import TimeLimit, run_until_limit
from lacuna.runs.folder import RunFolder
from lacuna.runs.recipe import Recipe
from lacuna.runs.settings import Settings
from lacuna.training.run import execute
from tests.executors.jobs import alive, follow_orders, hear_nothing, job, told, wait_for
from tests.executors.test_schedule import Fake, content, name
from tests.executors.test_schedule import job as fake_job
from tests.runs.real import TINY, contents, recipe


class Until(TimeLimit):
    """A limit that is reached as soon as something is so."""

    def __init__(self, ended: Callable[[], bool]) -> None:
        super().__init__(1.0)
        self.ended = ended

    @property
    def seconds_left(self) -> float:
        return 0.0 if self.ended() else 0.05


def states(schedule: Schedule) -> dict[str, str]:
    return {name(task.job): task.state for task in schedule.tasks.values()}


def run(schedule: Schedule, limit: TimeLimit) -> list[str]:
    said: list[str] = []
    run_until_limit(schedule, limit, lambda: None, said.append)
    return said


@pytest.mark.parametrize("minutes", [0, -1, "9", True, float("nan"), float("inf"), [1]])
def test_minutes_that_are_none_are_one_sentence(minutes: object) -> None:
    with pytest.raises(LacunaError, match=r"^minutes=.* must be null or a number above 0"):
        TimeLimit(minutes)


def test_it_counts_from_the_start_of_the_command() -> None:
    now = [100.0]
    limit = TimeLimit(0.2, started=95.0, clock=lambda: now[0])
    assert (limit.seconds_left, limit.reached, limit.text) == (7.0, False, "time limit in 7 s")
    now[0] = 107.5
    assert (limit.seconds_left, limit.reached) == (0.0, True)
    assert not TimeLimit(None).reached and TimeLimit(None).text == ""


def test_nothing_begins_after_its_end_and_what_was_interrupted_blocks_nothing() -> None:
    executor = Fake(2)
    schedule = Schedule(executor)
    first, second = content("first"), content("second")
    for each in (first, second, content("third"), content("child", density=first), content("orphan", density=second)):
        schedule.add(fake_job(each))
    said = run(schedule, Until(lambda: len(executor.running) == 1))  # the Fake ends last in, first out
    assert said == ["time limit of 60 s reached: running runs save their state and stop"]
    assert executor.log == ["first", "second"]
    expected = {"first": INTERRUPTED, "second": DONE, "third": WAITING, "child": WAITING, "orphan": WAITING}
    assert states(schedule) == expected and not schedule.active


def test_a_failure_before_its_end_stays_a_failure() -> None:
    executor = Fake(1, failing=["bad"])
    schedule = Schedule(executor)
    bad = content("bad")
    for each in (bad, content("child", density=bad), content("other")):
        schedule.add(fake_job(each))
    run(schedule, Until(lambda: len(executor.log) == 1))
    assert states(schedule) == {"bad": FAILED, "child": BLOCKED, "other": WAITING}


def test_without_an_end_all_is_done() -> None:
    schedule = Schedule(Fake(2))
    for number in range(5):
        schedule.add(fake_job(content(str(number))))
    assert run(schedule, TimeLimit(None)) == [] and set(states(schedule).values()) == {DONE}


def test_a_worker_stops_and_leaves_no_process(tmp_path: Path) -> None:
    with Inline(work=follow_orders) as executor:
        schedule = Schedule(executor)
        for each in (job(tmp_path, "a", seconds=600), job(tmp_path, "b")):
            schedule.add(each)
        run(schedule, Until(lambda: bool(told(tmp_path / "a"))))
        assert states(schedule) == {"a": INTERRUPTED, "b": WAITING}
        assert not alive(told(tmp_path / "a")[0]["pid"]) and (tmp_path / "a.interrupted").exists()


def test_a_worker_that_has_not_begun_yet_stops_without_a_word(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with Inline(work=follow_orders) as executor:
        schedule = Schedule(executor)
        schedule.add(job(tmp_path, "a", seconds=600))
        schedule.advance(0)  # its interpreter starts
        schedule.stop()
        wait_for(lambda: schedule.advance(1.0) or not schedule.active)
        assert states(schedule) == {"a": INTERRUPTED}
    assert capfd.readouterr().err == ""


def test_what_does_not_stop_in_time_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time_limit, "STOP_WITHIN", 0.2)
    monkeypatch.setattr("lacuna.executors.inline.GRACE", 0.4)
    with Inline(work=hear_nothing) as executor:
        schedule = Schedule(executor)
        schedule.add(job(tmp_path, "a", seconds=600))
        run(schedule, Until(lambda: bool(told(tmp_path / "a"))))
        assert states(schedule) == {"a": INTERRUPTED} and not schedule.active
        assert not alive(told(tmp_path / "a")[0]["pid"])


@pytest.mark.slow
class TestRealRuns:
    """A density and the classifier on top of it, stopped twice."""

    WORDS = (*TINY, "density.training.epochs=20", "net.training.epochs=20", "experiment=digits_misconv")

    @pytest.fixture
    def made(self, digits_root: Path) -> Recipe:
        return recipe(*self.WORDS, f"data.root={digits_root}")

    def settings(self, output: Path, root: Path) -> Settings:
        options = {"accelerator": "cpu", "progress": False, "threads": 1, "checkpoint_seconds": 1e6}
        return Settings(output=output, data_root=root, trainer=options)

    def test_stopped_anywhere_they_end_as_if_nothing_had_happened(
        self, made: Recipe, digits_root: Path, tmp_path: Path
    ) -> None:
        boxed = tmp_path / "boxed"
        settings = self.settings(boxed, digits_root)
        density, classifier = made.prerequisites["density"], made
        folders = [RunFolder.of(boxed, each) for each in (density, classifier)]

        def go_on(limit: TimeLimit) -> list[str]:
            with Inline(cpus=1) as executor:
                schedule = Schedule(executor)
                for each in (density, classifier):
                    if not RunFolder.of(boxed, each).finished:
                        schedule.add(Job(each, settings, Resources(1)))
                run(schedule, limit)
            return [task.state for task in schedule.tasks.values()]

        def lines(folder: RunFolder) -> int:
            history = folder.path / "metrics.jsonl"
            return history.read_bytes().count(b"\n") if history.exists() else 0

        assert go_on(Until(lambda: lines(folders[0]) >= 2)) == [INTERRUPTED, WAITING]
        assert folders[0].status["state"] == "interrupted" and folders[0].resumable
        assert not folders[0].in_use and not folders[1].path.exists()
        assert go_on(Until(lambda: lines(folders[1]) >= 2)) == [DONE, INTERRUPTED]
        whole = self.settings(tmp_path / "whole", digits_root)
        for output in (settings, whole):
            execute(made, output, announce=False)
        for folder, each in zip(folders, (density, classifier), strict=True):
            assert contents(folder.path) == contents(RunFolder.of(whole.output, each).path)
            assert [attempt["resumed"] for attempt in folder.attempts] == [False, True]


def test_its_end_comes_while_a_run_goes_on(tmp_path: Path) -> None:
    with Inline(work=follow_orders) as executor:
        schedule = Schedule(executor)
        schedule.add(job(tmp_path, "a", seconds=600))
        run(schedule, TimeLimit(0.05))
        assert states(schedule) == {"a": INTERRUPTED}
