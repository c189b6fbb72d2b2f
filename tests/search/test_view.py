"""What a person sees: every trial, the best so far, failures at once, and the time that is left."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from lacuna.search.problem import Problem
from lacuna.search.study import FINISHED, PRUNED, Trial
from lacuna.search.view import SweepView
from tests.search.standin import problem

RAW = {"net.training.lr": 0.0031234567, "net.training.batch_size": 40, "net.dropout": 0.25, "net.hidden": 64}


@pytest.fixture
def searched(digits_root: Path, tmp_path: Path) -> Problem:
    return problem(digits_root, tmp_path)


def trial(number: int) -> Trial:
    return Trial(number, RAW, FINISHED)


def test_elsewhere_a_line_a_trial(searched: Problem) -> None:
    out = io.StringIO()
    times = iter([0.0, 0.0, 600.0, 1200.0])
    view = SweepView(searched, 2, 6, 0.5, Console(file=out, width=40), clock=lambda: next(times))
    with view:
        view.tick(2)
        view.finished(trial(2), 0.25, best=False, trained=False)
        view.finished(trial(3), 0.75, best=True)
        view.failed(trial(4), "one reason\nof two lines")
        view.finished(trial(5), 0.5, best=False)
    lines = out.getvalue().splitlines()
    values = "lr=0.003123  batch_size=40  dropout=0.25  hidden=64"
    assert lines == [
        f"[3/6] trial 2: 0.25  {values}",  # it took no time, which says nothing of the others
        # ten minutes for the first of the three that are missing: twenty more for the other two
        f"[4/6] trial 3: 0.75 (best so far)  {values}, ~20 min left",
        f"trial 4 failed: {values}",
        "  one reason",
        "  of two lines",
        f"[5/6] trial 5: 0.5  {values}, ~10 min left",
    ]


def test_pruned_trials_count_and_tell_their_last_value(searched: Problem) -> None:
    out = io.StringIO()
    with SweepView(searched, 0, 2, None, Console(file=out, width=40), clock=lambda: 0.0) as view:
        view.pruned(Trial(0, RAW, PRUNED, 0.25, epochs=12))
        view.pruned(Trial(1, RAW, PRUNED, epochs=1))
    first, second = out.getvalue().splitlines()
    assert first.startswith("[1/2] trial 0 pruned after 12 epochs: 0.25  lr=0.003123")
    assert second.startswith("[2/2] trial 1 pruned after 1 epoch  lr=0.003123")


def test_on_a_terminal_a_bar(searched: Problem) -> None:
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, width=120, _environ={"TERM": "xterm"})
    with SweepView(searched, 0, 4, None, console) as view:
        view.tick(1)
        view.finished(trial(0), 0.625, best=True)
        view.tick(2)
    text = out.getvalue()
    assert "0/4" in text and "1/4" in text and "2 running" in text
    assert "best validation/accuracy 0.625" in text and "trial 0: 0.625 (best so far)" in text


def test_what_all_trials_build_on_is_announced(digits_root: Path, tmp_path: Path) -> None:
    searched = problem(digits_root, tmp_path, "experiment=digits_misconv")
    out = io.StringIO()
    (recipe,) = searched.recipes(RAW)
    SweepView(searched, 0, 1, console=Console(file=out)).prerequisite(recipe.prerequisites["density"])
    assert (
        "trained first, as a prerequisite of the trials: digits · square 25 % · DMFA · budget smoke · seed 0"
        in out.getvalue()
    )
