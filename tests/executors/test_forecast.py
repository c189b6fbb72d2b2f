"""How far a run is, and when a graph of them will be done."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lacuna.executors.forecast import Forecast, Remaining, timed_text
from lacuna.executors.run_progress import TAIL, RunProgress, last_row
from lacuna.executors.schedule import DONE, RUNNING, Task
from tests.executors.test_live_view import log, task


def started(made: Task, at: float) -> RunProgress:
    made.state, made.started = RUNNING, at
    epochs = made.job.recipe.training["epochs"]
    return RunProgress(made.job.folder.path / "metrics.jsonl", epochs, at)


def done(made: Task, begin: float, end: float) -> Task:
    made.state, made.started, made.ended = DONE, begin, end
    return made


# ---------------------------------------------------------------------- the tail of a history


def test_the_last_whole_line_is_found_whatever_stands_before_and_behind_it(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    assert last_row(path) == {}
    path.write_text("")
    assert last_row(path) == {}
    path.write_text('{"epoch": 0')
    assert last_row(path) == {}, "half a line is none"
    row = {"epoch": 7, "loss": 0.5}
    path.write_text('{"epoch": 6}\n' + json.dumps(row) + '\n{"epoch": 8, "lo')
    assert last_row(path) == row
    path.write_text("x" * (3 * TAIL) + "\n" + json.dumps(row) + "\nnot json\n")
    assert last_row(path) == row


def test_only_the_end_is_read_and_only_when_it_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text("".join(json.dumps({"epoch": epoch}) + "\n" for epoch in range(20_000)))
    sizes: list[int] = []
    opened = Path.open

    def counting(self: Path, *args: str) -> object:
        file = opened(self, *args)
        read = file.read

        def counted(*numbers: int) -> bytes:
            found = read(*numbers)
            sizes.append(len(found))
            return bytes(found)

        monkeypatch.setattr(file, "read", counted, raising=False)
        return file

    class Counting(type(path)):  # type: ignore[misc]
        open = counting

    progress = RunProgress(Counting(path), 30_000, 0.0)
    assert progress.done == 20_000 and sizes == [TAIL]
    for now in range(5):
        progress.update(now)
    assert sizes == [TAIL], "an unchanged file is not opened"
    with path.open("a") as file:
        file.write('{"epoch": 20000}\n')
    progress.update(6)
    assert progress.done == 20_001 and sizes == [TAIL, TAIL]


def test_metrics_are_the_numbers_of_the_last_line(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 4, "train/loss": "nan", "a": 1, "b": "text", "epoch": 0}\n')
    metrics = RunProgress(path, 3, 0.0).metrics
    assert list(metrics) == ["train/loss", "a"] and metrics["a"] == 1.0
    assert metrics["train/loss"] != metrics["train/loss"]


# ---------------------------------------------------------------------- one run


def test_a_steady_run_ends_when_it_said(tmp_path: Path) -> None:
    """20 s of starting, then 7 s an epoch: from the second epoch on the forecast is exact at any moment."""
    made = task(tmp_path, "a", epochs=10)
    progress, end = started(made, 100.0), 100.0 + 20 + 10 * 7
    assert progress.seconds_left(105.0) is None
    for epoch in range(10):
        now = 100.0 + 20 + 7 * (epoch + 1)
        log(made, epoch)
        progress.update(now)
        for later in (0.0, 3.5):
            left = progress.seconds_left(now + later)
            assert left is not None
            if epoch:
                assert left == pytest.approx(max(end - now - later, 0))
            else:  # starting cannot be told from training yet
                assert left == pytest.approx(27 * 9 - later)


def test_a_resumed_run_is_judged_by_its_new_epochs(tmp_path: Path) -> None:
    made = task(tmp_path, "a", epochs=10)
    for epoch in range(4):
        log(made, epoch)
    progress = started(made, 100.0)
    assert progress.resumed and progress.done == 4 and progress.seconds_left(101.0) is None
    log(made, 4)
    progress.update(110.0)
    assert progress.seconds_left(110.0) == pytest.approx(5 * 10.0)


def test_a_run_that_fell_back_to_a_checkpoint_starts_counting_there(tmp_path: Path) -> None:
    made = task(tmp_path, "a", epochs=10)
    for epoch in range(6):
        log(made, epoch)
    progress = started(made, 0.0)
    (made.job.folder.path / "metrics.jsonl").write_text('{"epoch": 1}\n')
    progress.update(5.0)
    assert progress.seconds_left(6.0) is None
    log(made, 2)
    progress.update(9.0)
    assert progress.seconds_left(9.0) == pytest.approx(7 * 4.0)


def test_a_run_without_epochs_says_nothing_by_itself(tmp_path: Path) -> None:
    made = task(tmp_path, "a")
    progress = RunProgress(made.job.folder.path / "metrics.jsonl", None, 0.0)
    log(made, 0)
    progress.update(5.0)
    assert progress.seconds_left(6.0) is None


# ---------------------------------------------------------------------- a graph


def test_what_ended_here_corrects_what_was_expected(tmp_path: Path) -> None:
    slow, *rest = (task(tmp_path, name) for name in "abcd")
    forecast = Forecast({made.job.identity: 10.0 for made in (slow, *rest)})
    before = forecast.remaining(rest, {}, 0.0)
    assert before.seconds(1) == pytest.approx(30.0) and before.seconds(3) == pytest.approx(10.0)
    forecast.learn(done(slow, 0.0, 25.0))
    assert forecast.remaining(rest, {}, 25.0).seconds(1) == pytest.approx(75.0)


def test_what_runs_corrects_it_too(tmp_path: Path) -> None:
    first, second = task(tmp_path, "a", epochs=10), task(tmp_path, "b")
    forecast = Forecast({first.job.identity: 10.0, second.job.identity: 20.0})
    progress = started(first, 0.0)
    for epoch in (0, 1):
        log(first, epoch)
        progress.update(3.0 * (epoch + 1))
    left = forecast.remaining([second], {first.job.identity: (first, progress)}, 6.0)
    assert left.running == pytest.approx((24.0,)) and left.waiting == pytest.approx((60.0,))


def test_other_seeds_tell_how_long_an_unknown_run_takes(tmp_path: Path) -> None:
    seeds = [task(tmp_path, "a", seed) for seed in range(4)]
    other = task(tmp_path, "b")
    forecast = Forecast(dict.fromkeys((made.job.identity for made in (*seeds, other)), None))
    assert forecast.remaining([*seeds, other], {}, 0.0).seconds(1) is None
    forecast.learn(done(seeds[0], 0.0, 12.0))
    forecast.learn(done(seeds[1], 12.0, 32.0))
    left = forecast.remaining([*seeds[2:], other], {}, 32.0)
    assert (left.timed, left.unknown) == (2, 1)
    assert left.seconds(1) == pytest.approx(3 * 16.0), "the unknown run counts as the mean of the others"


def test_without_epochs_the_expected_time_runs_down(tmp_path: Path) -> None:
    made = task(tmp_path, "a")
    progress = started(made, 50.0)
    forecast = Forecast({made.job.identity: 30.0})
    assert forecast.seconds_left(made, progress, 60.0) == pytest.approx(20.0)
    assert forecast.seconds_left(made, progress, 99.0) == 0.0


def test_places_share_the_work_but_not_a_run() -> None:
    assert Remaining((100.0, 10.0), (40.0,), 0).seconds(1) == 150.0
    assert Remaining((40.0, 40.0), (40.0,), 0).seconds(2) == 60.0
    assert Remaining((100.0, 10.0), (40.0,), 0).seconds(8) == 100.0
    assert Remaining((), (), 0).seconds(4) == 0.0
    assert Remaining((), (), 3).seconds(4) is None
    assert Remaining((10.0,), (30.0,), 2).seconds(1) == 80.0


def test_the_text_says_how_many_runs_an_estimate_rests_on() -> None:
    assert timed_text(40, 0) == "" and timed_text(12, 28) == " (12 of 40 runs timed)"


@pytest.mark.parametrize("slots", [1, 2, 4])
def test_equal_runs_on_equal_places_end_when_it_said(slots: int, tmp_path: Path) -> None:
    """12 runs of 30 s in as many rounds as it takes: from the end of the first round the forecast is exact."""
    runs = [task(tmp_path, "a", seed) for seed in range(12)]
    forecast = Forecast({})
    rounds = len(runs) // slots
    for number in range(rounds):
        begin = 30.0 * number
        now = runs[number * slots : (number + 1) * slots]
        running = {made.job.identity: (made, started(made, begin)) for made in now}
        if number:
            left = forecast.remaining(runs[(number + 1) * slots :], running, begin + 12.0)
            assert left.seconds(slots) == pytest.approx(30.0 * rounds - begin - 12.0)
        for made in now:
            forecast.learn(done(made, begin, begin + 30.0))
