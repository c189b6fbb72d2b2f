"""Cells become runs: equal ones once, needed ones first, finished ones not at all; and planning needs no torch."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from lacuna.drawing.durations import duration
from lacuna.errors import LacunaError
from lacuna.executors.run_plan import run_plan
from lacuna.executors.time_limit import TimeLimit
from lacuna.report.plan_text import plan_text
from lacuna.runs.folder import RunFolder
from lacuna.runs.steps import Trainings
from lacuna.tables.plan import DONE, FAILED, PARTLY, TODO, find_states
from tests.runs.real import ROOT, recipe
from tests.tables.planning import plan, spec


def finish(folder: RunFolder, recipe_content: dict) -> None:
    folder.path.mkdir(parents=True)
    (folder.path / "recipe.json").write_text(json.dumps(recipe_content))
    (folder.path / "metrics.json").write_text('{"metrics": {}}')


def test_equal_runs_are_merged_and_needed_ones_come_first(digits_root: Path, tmp_path: Path) -> None:
    found = plan(digits_root, tmp_path, seeds=(0, 1))
    # zero and MisConv under two masks, a density each; nothing is missing for gt, whatever the column says
    by_group = {}
    for run in found.runs.values():
        by_group.setdefault(run.recipe.group, []).append(run.recipe.config["seed"])
    assert {group: len(seeds) for group, seeds in by_group.items()} == {
        "digits-square-zero-smoke": 2,
        "digits-noise-zero-smoke": 2,
        "digits-square-dmfa-smoke": 2,
        "digits-noise-dmfa-smoke": 2,
        "digits-square-misconv-smoke": 2,
        "digits-noise-misconv-smoke": 2,
        "digits-none-gt-smoke": 2,
    }
    order = list(found.runs)
    for identity, run in found.runs.items():
        for needed in run.recipe.prerequisites.values():
            assert order.index(needed.identity) < order.index(identity)
            assert needed.config["seed"] == run.recipe.config["seed"]


def test_two_tables_share_their_runs(digits_root: Path, tmp_path: Path) -> None:
    one = plan(digits_root, tmp_path)
    two = plan(digits_root, tmp_path, spec(), spec(name="tests/other", metric="complete/accuracy"))
    assert list(one.runs) == list(two.runs)
    run = next(run for run in two.runs.values() if run.recipe.group == "digits-square-zero-smoke")
    assert run.cells == ["tests/table: zero, square", "tests/other: zero, square"]


def test_a_cell_is_the_run_that_train_would_make(digits_root: Path, tmp_path: Path) -> None:
    found = plan(digits_root, tmp_path, seeds=(7,))
    cell = next(cell for cell in found.tables[0].cells if cell.label == "MisConv, noise")
    words = ("experiment=digits_misconv", "mask=noise", "budget=smoke", "seed=7", f"data.root={digits_root}")
    assert cell.recipes == (recipe(*words),)


def test_overrides_reach_every_cell_that_has_the_key(digits_root: Path, tmp_path: Path) -> None:
    found = plan(digits_root, tmp_path, values={"stem.formula": "paper"}, choices=("density=dmfa_own",))
    stems = {
        run.recipe.config["stem"]["name"]: run.recipe.config["stem"]
        for run in found.runs.values()
        if run.recipe.task == "classify"
    }
    assert stems["misconv"]["formula"] == "paper" and "formula" not in stems["zero"]
    with pytest.raises(LacunaError, match=r"stem\.forumla: no cell of these tables"):
        plan(digits_root, tmp_path, values={"stem.forumla": "paper"})
    with pytest.raises(LacunaError, match=r"net\.training\.epochs=many must be a whole number"):
        plan(digits_root, tmp_path, values={"net.training.epochs": "many"})


def test_states_are_read_from_the_directories(digits_root: Path, tmp_path: Path) -> None:
    found = plan(digits_root, tmp_path)
    assert found.counts == {TODO: 7}
    done, failed, begun = list(found.runs.values())[:3]
    finish(done.folder, dict(done.recipe.config))
    failed.folder.path.mkdir(parents=True)
    (failed.folder.path / "status.json").write_text('{"state": "failed"}')
    begun.folder.checkpoints.mkdir(parents=True)
    (begun.folder.checkpoints / "last.ckpt").write_text("x")
    (begun.folder.path / "status.json").write_text('{"state": "running"}')  # killed: nobody has its lock
    find_states(found)
    assert [done.state, failed.state, begun.state] == [DONE, FAILED, PARTLY]
    assert found.counts == {TODO: 4, DONE: 1, FAILED: 1, PARTLY: 1}
    assert done not in found.unfinished() and len(found.unfinished()) == 6


def test_data_that_are_not_here_leave_holes_unless_results_know_them(digits_root: Path, tmp_path: Path) -> None:
    empty = tmp_path / "no data"
    found = plan(empty, tmp_path)
    assert found.missing_data == ("digits",) and not found.runs
    assert all(cell.recipes == () for cell in found.tables[0].cells)
    assert not empty.exists()
    here = plan(digits_root, tmp_path)
    run = next(iter(here.runs.values()))
    finish(run.folder, dict(run.recipe.config))
    assert list(plan(empty, tmp_path).runs) == list(here.runs)


def test_plan_text_shows_tree_counts_and_time(digits_root: Path, tmp_path: Path) -> None:
    found = plan(digits_root, tmp_path, seeds=(0, 1, 2, 3))
    first = next(iter(found.runs.values()))
    finish(first.folder, dict(first.recipe.config))
    find_states(found)
    text = plan_text(found, lambda recipe: 30.0 if recipe.task == "classify" else None, slots=2)
    lines = text.splitlines()
    at = lines.index("digits · square 25 % · DMFA · budget smoke x 4 seeds  [4 to do]")
    assert lines[at + 1] == "  digits · square 25 % · MisConv · budget smoke x 4 seeds  [4 to do, ~30 s each]"
    assert "digits · square 25 % · zero imputation · budget smoke x 4 seeds  [1 done, 3 to do, ~30 s each]" in lines
    assert "seeds 0 to 3" in text
    assert lines[-2] == "28 runs: 1 done, 27 to do"
    # 19 classifiers at 30 s, two at a time; 8 densities are unknown and count as much
    assert lines[-1] == "time left: ~7 min with 2 at a time (19 of 27 runs timed)"
    # seconds of a GPU each, on two GPUs
    shared = plan_text(found, lambda recipe: 30.0, gpus=2).splitlines()
    assert shared[-1] == "time left: ~7 min on 2 GPUs, shared by several runs each"


@pytest.mark.parametrize(
    ("seconds", "words"), [(0.2, "1 s"), (89, "89 s"), (90, "2 min"), (5000, "83 min"), (12000, "3 h 20 min")]
)
def test_durations(seconds: float, words: str) -> None:
    assert duration(seconds) == words


def test_published_data_that_are_not_here_are_planned_from_their_counts(digits_root: Path, tmp_path: Path) -> None:
    here = plan(digits_root, tmp_path)
    for run in here.runs.values():
        finish(run.folder, {**run.recipe.config, "data": {}})  # nobody can say of which data they are
    found = plan(tmp_path / "no data", tmp_path, assume_data=True)
    assert (found.missing_data, found.assumed_data) == ((), ("digits",))
    assert [run.recipe.group for run in found.runs.values()] == [run.recipe.group for run in here.runs.values()]
    assert found.counts == {TODO: 7} and not set(found.runs) & set(here.runs)
    text = plan_text(found, lambda recipe: None, trainings=Trainings(tmp_path / "no data"))
    assert "data not on this machine: digits (planned from the published numbers of images" in text
    # 48 training images of smoke, one epoch in batches of 24 and 32
    assert "digits · square 25 % · zero imputation · budget smoke  [to do; 1 epoch x 2 batches = 2 steps]" in text
    with pytest.raises(ValueError, match="cannot be run"):
        run_plan(found, {}, TimeLimit())
    assert not (tmp_path / "no data").exists()


@pytest.mark.parametrize(("table", "runs", "here"), [("demo", 8, True), ("demo_generate", 9, True), ("demo", 8, False)])
def test_the_command_plans_without_torch_and_writes_nothing_but_its_cache(
    table: str, runs: int, here: bool, digits_root: Path, tmp_path: Path
) -> None:
    root = digits_root if here else tmp_path / "no data"
    words = [f"table={table}", "budget=smoke", "plan=true", f"output={tmp_path / 'out'}", f"data.root={root}"]
    code = (
        "import sys; from lacuna.verbs.command import verb\n"
        f"code = verb('reproduce', 'lacuna.verbs.reproduce:main')({words!r})\n"
        "heavy = {'torch', 'pandas', 'ray', 'optuna', 'matplotlib'} & set(sys.modules)\n"
        "assert code == 0 and not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert f"{runs} runs: {runs} to do" in done.stdout and "training: " in done.stdout
    assert ("planned from the published numbers of images" in done.stdout) != here
    assert {path.name for path in (tmp_path / "out").iterdir()} == {".cache"}
