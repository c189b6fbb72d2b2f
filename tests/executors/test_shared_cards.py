"""Real workers that share the GPUs of a machine by the shares they ask for (no GPU is needed for that)."""

from __future__ import annotations

from pathlib import Path

import pytest

from lacuna.executors.base import Job, Outcome, Resources
from lacuna.executors.schedule import DONE, Schedule
from lacuna.executors.shared_cards import SharedCards
from tests.executors.jobs import alive, do, finish, follow_orders, job, pid, told, wait_for

QUARTER, HALF, WHOLE, BOTH = (Resources(1, gpus) for gpus in (0.25, 0.5, 1.0, 2.0))


def test_shares_fill_the_cards_and_whole_ones_wait(tmp_path: Path) -> None:
    with SharedCards(work=follow_orders, cards=["3", "5"]) as executor:
        executor.check([QUARTER, HALF, WHOLE, BOTH])
        schedule = Schedule(executor)
        small = [job(tmp_path, f"a{n}", QUARTER, company=6) for n in range(4)]
        for each in [*small, *(job(tmp_path, f"b{n}", HALF, company=6) for n in range(2))]:
            schedule.add(each)
        # neither of these two begins before the six have ended, though a quarter would find a place first
        schedule.add(job(tmp_path, "c", WHOLE))
        schedule.add(job(tmp_path, "d", BOTH))
        while schedule.active:
            assert schedule.advance(60)
        assert {task.state for task in schedule.tasks.values()} == {DONE}
        found = {name: told(tmp_path / name)[0] for name in ("a0", "a1", "a2", "a3", "b0", "b1", "c", "d")}
        seen = {name: each["CUDA_VISIBLE_DEVICES"] for name, each in found.items()}
        assert sorted(seen[f"a{n}"] for n in range(4)) == ["3", "3", "5", "5"]
        assert sorted([seen["b0"], seen["b1"]]) == ["3", "5"] and seen["c"] in ("3", "5")
        assert sorted(seen["d"].split(",")) == ["3", "5"]
        # the idle ones ended to make room
        assert [name for name, each in found.items() if alive(each["pid"])] == ["d"]


def test_a_worker_is_kept_for_its_share_only(tmp_path: Path) -> None:
    with SharedCards(work=follow_orders, cards=["0"]) as executor:
        for name, asked in (("a", QUARTER), ("b", QUARTER), ("c", HALF), ("d", WHOLE)):
            assert executor.takes(job(tmp_path, name, asked))
            assert do(executor, job(tmp_path, name, asked))[0].done
            if name == "c":  # there was room for both
                assert alive(pid(tmp_path, "a")) and alive(pid(tmp_path, "c"))
        assert pid(tmp_path, "a") == pid(tmp_path, "b")
        assert not alive(pid(tmp_path, "a")) and not alive(pid(tmp_path, "c"))
        executor.submit(job(tmp_path, "e", HALF, seconds=600))
        assert executor.takes(job(tmp_path, "f", HALF)) and not executor.takes(job(tmp_path, "f", WHOLE))
        with pytest.raises(RuntimeError, match="no room"):
            executor.submit(job(tmp_path, "f", WHOLE))


def too_little_memory(job: Job) -> Outcome:
    """What a run does whose share is too small."""
    if job.resources.gpus < 1 and job.settings.trainer.get("large"):
        follow_orders(job)
        return Outcome(job.identity, "Traceback ...\ntorch.OutOfMemoryError: CUDA out of memory. Tried to allocate")
    return follow_orders(job)


def test_a_run_out_of_memory_goes_on_with_a_whole_card(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with SharedCards(work=too_little_memory, cards=["0"]) as executor:
        executor.submit(job(tmp_path, "a", QUARTER, seconds=1))
        executor.submit(job(tmp_path, "b", QUARTER, large=True))
        ended = finish(executor, 1)  # b has failed by now, and waits for a to end
        assert all(outcome.done for outcome in ended.values()) and len(told(tmp_path / "b")) == 1
        assert not executor.takes(job(tmp_path, "c", QUARTER))
        assert [outcome.done for outcome in finish(executor, 1).values()] == [True]
        first, second = told(tmp_path / "b")
        assert second["pid"] not in (first["pid"], pid(tmp_path, "a"))
        assert executor.takes(job(tmp_path, "c", QUARTER))
    assert "d · m · b · seed 0: its share of a GPU has too little memory" in capsys.readouterr().err


def test_stop_ends_what_runs_and_what_waits_for_a_whole_card(tmp_path: Path) -> None:
    executor = SharedCards(work=too_little_memory, cards=["0"])
    executor.submit(job(tmp_path, "a", QUARTER, seconds=600))
    executor.submit(job(tmp_path, "b", QUARTER, large=True))
    wait_for(lambda: told(tmp_path / "a") and told(tmp_path / "b"))
    while executor.takes(job(tmp_path, "c", QUARTER)):  # until b has failed
        assert executor.wait(0.1) == []
    executor.stop()
    outcomes = finish(executor, 2)
    assert len(outcomes) == 2 and all(outcome.interrupted for outcome in outcomes.values())
    executor.close()
    assert (tmp_path / "a.interrupted").exists() and executor.wait(0) == []
