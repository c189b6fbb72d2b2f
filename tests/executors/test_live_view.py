"""The live view tells the truth about a graph of runs, on a terminal and without one, and costs next to nothing."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from lacuna.executors.base import Job
from lacuna.executors.live_view import HEARTBEAT, LiveView
from lacuna.executors.schedule import BLOCKED, DONE, FAILED, INTERRUPTED, RUNNING, WAITING, Schedule, Task
from lacuna.runs.recipe import Recipe
from lacuna.runs.settings import Settings
from tests.executors.test_schedule import Fake
from tests.runs.real import ROOT

WIDTH = 150


class Clock:
    """Time passes when told."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def task(output: Path, name: str, seed: int = 0, epochs: int = 10, cells: tuple[str, ...] = ()) -> Task:
    content = {
        "task": {"name": "density"},
        "density": {"name": name, "training": {"epochs": epochs}},
        "data": {"name": "digits"},
        "mask": {"name": "square"},
        "budget": "paper",
        "seed": seed,
    }
    return Task(Job(Recipe(content), Settings(output=output)), cells)


def log(made: Task, epoch: int, **metrics: Any) -> None:
    """One more line in the history of a run."""
    path = made.job.folder.path / "metrics.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        file.write(json.dumps({"step": 10 * epoch, **metrics, "epoch": epoch}) + "\n")


def finish(made: Task, **metrics: float) -> None:
    made.job.folder.path.mkdir(parents=True, exist_ok=True)
    (made.job.folder.path / "metrics.json").write_text(json.dumps({"metrics": metrics}))


def change(view: LiveView, made: Task, state: str, clock: Clock, error: str | None = None) -> None:
    """What the schedule does when a task's state changes."""
    made.state, made.error = state, error
    if state == RUNNING:
        made.started = clock()
    elif state != WAITING:
        made.ended = clock()
    view(made)


def terminal(width: int = WIDTH, height: int = 30) -> Console:
    return Console(file=StringIO(), force_terminal=True, width=width, height=height, color_system="standard")


def plain() -> Console:
    return Console(file=StringIO(), force_terminal=False, width=60)


def said(console: Console) -> str:
    """Everything that was written, without the codes that move the cursor."""
    file = console.file
    assert isinstance(file, StringIO)
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", file.getvalue())


def frame(console: Console) -> list[str]:
    """The display as it was drawn last."""
    text = said(console).replace("\r", "")
    start = text.rindex("━")
    return text[text.rfind("\n", 0, start) + 1 :].splitlines()


def test_a_terminal_shows_the_graph_and_what_runs(tmp_path: Path) -> None:
    console, clock = terminal(), Clock()
    first, second, third = (task(tmp_path, name, cells=("t1: MisConv, MNIST", "t2: x")) for name in "abc")
    with LiveView(total=5, cached=2, estimates={}, console=console, clock=clock) as view:
        for one in (first, second, third):
            change(view, one, WAITING, clock)
        change(view, first, RUNNING, clock)
        change(view, second, RUNNING, clock)
        view.tick([first, second])
        lines = frame(console)
        assert "5 runs: 2 done, 2 running, 1 waiting, 0 failed" in lines[0]
        assert "left" not in lines[0], "nothing is known yet, and nothing is made up"
        assert (
            len(lines) == 3
            and "digits · square · a · seed 0" in lines[1]
            and "digits · square · b · seed 0" in lines[2]
        )
        assert "epoch 0/10" in lines[1] and "t1: MisConv, MNIST and 1 more" in lines[1]
        clock.now += 40
        log(first, 3, **{"train/loss": 0.25, "validation/accuracy": 0.9, "validation/loss": 1.0})
        view.tick([first, second])
        lines = frame(console)
        assert "epoch 4/10" in lines[1] and "~60 s left" in lines[1]
        assert "train/loss 0.25  validation/accuracy 0.9" in lines[1]
        assert "epoch 0/10" in lines[2] and "left" not in lines[2]
        change(view, first, DONE, clock)
        view.tick([second])
        lines = frame(console)
        assert "5 runs: 3 done, 1 running, 1 waiting, 0 failed" in lines[0] and len(lines) == 2


def test_without_a_terminal_a_line_when_something_happens(tmp_path: Path) -> None:
    console, clock = plain(), Clock()
    good, bad, late = (task(tmp_path, name, cells=(f"t1: {name}",)) for name in ("good", "bad", "late"))
    with LiveView(total=4, cached=1, estimates={}, console=console, clock=clock) as view:
        for one in (good, bad, late):
            change(view, one, WAITING, clock)
        assert said(console) == ""
        change(view, good, RUNNING, clock)
        for _ in range(3):
            clock.now += 5
            view.tick([good])
        finish(good, **{"complete/accuracy": 0.5, "test/accuracy": 0.875})
        change(view, good, DONE, clock)
        change(view, bad, RUNNING, clock)
        clock.now += 2
        change(view, bad, FAILED, clock, error="Traceback:\n  line 3\nValueError: [not] a [bold]number[/bold]")
        change(view, late, BLOCKED, clock, error="needs bad, which failed")
        assert said(console).splitlines() == [
            "started: digits · square · good · seed 0 (for t1: good)",
            "done: digits · square · good · seed 0 after 15 s, test/accuracy 0.875",
            "started: digits · square · bad · seed 0 (for t1: bad)",
            "failed: digits · square · bad · seed 0 (for t1: bad) after 2 s",
            "  Traceback:",
            "    line 3",
            "  ValueError: [not] a [bold]number[/bold]",
        ]
    assert (
        said(console).splitlines()[-1] == "ended after 17 s: 4 runs: 2 done, 0 running, 0 waiting, 1 failed, 1 blocked"
    )


def test_without_a_terminal_it_says_once_a_minute_that_it_lives(tmp_path: Path) -> None:
    console, clock = plain(), Clock()
    one, other = task(tmp_path, "one"), task(tmp_path, "other")
    estimates = {one.job.identity: 200.0, other.job.identity: 100.0}
    with LiveView(2, 0, estimates, console, clock) as view:
        change(view, one, WAITING, clock)
        change(view, other, WAITING, clock)
        change(view, one, RUNNING, clock)
        for _ in range(2 * int(HEARTBEAT)):
            clock.now += 1
            view.tick([one])
    lines = said(console).splitlines()
    assert lines[1:-1] == [
        "2 runs: 0 done, 1 running, 1 waiting, 0 failed; ~4 min left",
        "2 runs: 0 done, 1 running, 1 waiting, 0 failed; ~3 min left",
    ]


def test_an_error_is_shown_at_once_above_the_display(tmp_path: Path) -> None:
    console, clock = terminal(), Clock()
    bad = task(tmp_path, "bad", cells=("misconv/table1: k-NN, SVHN",))
    with LiveView(1, 0, {}, console, clock) as view:
        change(view, bad, WAITING, clock)
        change(view, bad, RUNNING, clock)
        view.tick([bad])
        before = len(said(console))
        change(view, bad, FAILED, clock, error="Traceback:\nOSError: no space")
        new = said(console)[before:]
        assert (
            "failed: digits · square · bad · seed 0 (for misconv/table1: k-NN, SVHN)" in new
            and "OSError: no space" in new
        )
        view.tick([])
        assert "1 failed" in frame(console)[0] and len(frame(console)) == 1


@pytest.mark.parametrize(("width", "height", "running"), [(40, 10, 3), (80, 6, 50), (20, 24, 1)])
def test_it_never_grows_out_of_the_terminal(width: int, height: int, running: int, tmp_path: Path) -> None:
    console, clock = terminal(width, height), Clock()
    tasks = [
        task(tmp_path, "with_a_very_long_name", seed, cells=("a table: with a long label, too",))
        for seed in range(running)
    ]
    with LiveView(running, 0, {}, console, clock) as view:
        for one in tasks:
            change(view, one, RUNNING, clock)
            log(one, 2, loss=1.0)
        view.tick(tasks)
        lines = frame(console)
        assert max(map(len, lines)) <= width and len(lines) < height
        assert (f"... and {running - (height - 3)} more" in lines[-1]) == (running > height - 3)


def test_leaving_in_anger_restores_the_terminal_and_says_how_far_it_was(tmp_path: Path) -> None:
    console, clock = terminal(), Clock()
    one, other = task(tmp_path, "one"), task(tmp_path, "other")
    with pytest.raises(KeyboardInterrupt), LiveView(2, 0, {}, console, clock) as view:
        change(view, one, RUNNING, clock)
        change(view, other, WAITING, clock)
        view.tick([one])
        change(view, one, INTERRUPTED, clock)
        raise KeyboardInterrupt
    raw = console.file.getvalue()  # type: ignore[attr-defined]
    assert raw.rfind("\x1b[?25h") > raw.rfind("\x1b[?25l"), "the cursor is shown again"
    assert "stopped after 1 s: 2 runs: 0 done, 0 running, 1 waiting, 0 failed, 1 interrupted" in said(console)


def test_it_follows_a_schedule(tmp_path: Path) -> None:
    console = plain()
    executor = Fake(2, failing=["x3"])
    jobs = [task(tmp_path, f"x{number}").job for number in range(6)]
    with LiveView(len(jobs), 0, {}, console) as view:
        schedule = Schedule(executor, [view])
        for job in jobs:
            schedule.add(job)
        while schedule.active:
            schedule.advance(0.01)
            view.tick(schedule.running())
    lines = said(console).splitlines()
    assert sum(line.startswith("started:") for line in lines) == 6
    assert sum(line.startswith("done:") for line in lines) == 5
    assert lines[-1].endswith("6 runs: 5 done, 0 running, 0 waiting, 1 failed")


def test_jobs_that_come_later_count(tmp_path: Path) -> None:
    console, clock = plain(), Clock()
    with LiveView(total=1, cached=0, estimates={}, console=console, clock=clock) as view:
        for number in range(3):
            made = task(tmp_path, f"x{number}")
            for state in (WAITING, RUNNING, DONE):
                change(view, made, state, clock)
    assert said(console).splitlines()[-1].endswith("3 runs: 3 done, 0 running, 0 waiting, 0 failed")


def test_nothing_is_drawn_before_the_loop_looks(tmp_path: Path) -> None:
    """A graph of thousands is taken up without thousands of pictures of it."""
    console, clock = terminal(), Clock()
    with LiveView(500, 0, {}, console, clock) as view:
        before = len(said(console))
        for number in range(500):
            change(view, task(tmp_path, f"x{number}"), WAITING, clock)
        assert len(said(console)) == before
        view.tick([])
        assert "500 waiting" in frame(console)[0]


def test_it_imports_no_torch() -> None:
    script = (
        "import sys, lacuna.executors.live_view; "
        "print(sorted({'torch', 'pytorch_lightning', 'ray', 'pandas'} & set(sys.modules)))"
    )
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT)
    assert found.stdout == "[]\n"
