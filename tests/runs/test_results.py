"""The results store: what is finished is there, what is not is not, and nothing on disk can stop the reading."""

from __future__ import annotations

import json
import math
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import lacuna
from lacuna import files
from lacuna.runs.recipe import Recipe
from lacuna.runs.results import COLUMNS, finished_runs, rows
from tests.runs import real
from tests.tables.finished import ATTEMPT, DONE, begin, finish

METRICS = {"test/accuracy": 0.5, "complete/accuracy": 0.75, "validation/accuracy": 0.25}


@pytest.fixture(scope="module")
def recipe(digits_root: Path) -> Recipe:
    return real.recipe("experiment=digits_zero", "budget=smoke", f"data.root={digits_root}")


def changed(recipe: Recipe, **data: str) -> Recipe:
    return Recipe({**recipe.config, "data": {**recipe.config["data"], **data}})


def test_a_run_has_one_row_a_metric(recipe: Recipe, tmp_path: Path) -> None:
    path = finish(recipe, tmp_path, METRICS)
    found = {row["metric"]: row for row in rows(tmp_path)}
    assert {metric: row["value"] for metric, row in found.items()} == METRICS
    row = found["test/accuracy"]
    assert set(row) == set(COLUMNS)
    assert row["identity"] == recipe.identity == row["run"].rsplit("-", 1)[-1]
    assert (row["data"], row["mask"], row["method"], row["budget"]) == ("digits", "square", "zero", "smoke")
    assert (row["images"], row["seed"], row["seconds"], row["path"]) == (500, 0, 100.0, str(path))
    assert (row["commit"], row["cpu"], row["gpus"]) == ("abc123", "A CPU", None)
    # what the metric was taken on is not what the run was trained on
    assert row["tested_on"] == "square" and found["complete/accuracy"]["tested_on"] == "none"
    assert found["complete/accuracy"]["images"] == 500 and found["validation/accuracy"]["images"] is None


def test_evaluations_are_rows_too(recipe: Recipe, tmp_path: Path) -> None:
    path = finish(recipe, tmp_path, METRICS)
    record = {"mask": {"name": "noise", "rate": 0.9}, "split": "test", "metrics": {"accuracy": 0.125}, "images": 40}
    files.write_json(path / "evaluations" / "noise-test-1.json", record)
    (row,) = [row for row in rows(tmp_path) if row["evaluation"]]
    assert (row["metric"], row["value"], row["tested_on"], row["images"]) == ("test/accuracy", 0.125, "noise", 40)
    assert row["mask"] == "square" and row["evaluation"] == "noise-test-1"


def test_the_frame_says_what_the_rows_say(recipe: Recipe, tmp_path: Path) -> None:
    finish(recipe, tmp_path, METRICS)
    frame = lacuna.results(tmp_path, None)
    assert tuple(frame.columns) == COLUMNS and frame["images"].dtype == "Int64"
    assert dict(zip(frame["metric"], frame["value"], strict=True)) == METRICS
    assert frame["started"].iloc[0].hour == 10
    empty = lacuna.results(tmp_path / "nowhere", None)
    assert tuple(empty.columns) == COLUMNS and len(empty) == 0


def test_unfinished_runs_are_not_there_and_no_news(recipe: Recipe, tmp_path: Path, capsys) -> None:
    path = begin(recipe, tmp_path)
    (path / ".metrics.json.abc").write_text('{"metrics": {"test/acc')  # a writer killed half-way
    (tmp_path / "runs" / "just-made").mkdir()
    (tmp_path / "runs" / "just-made" / ".lock").touch()
    assert rows(tmp_path) == [] and capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("metrics.json", "{"),
        ("metrics.json", "[]"),
        ("metrics.json", '{"metrics": {"test/accuracy": "good"}}'),
        ("metrics.json", '{"metrics": null}'),
        ("recipe.json", "{}"),
        ("recipe.json", "null"),
        ("recipe.json", None),
    ],
)
def test_a_damaged_run_is_left_out_by_name(
    name: str, content: str | None, recipe: Recipe, tmp_path: Path, capsys
) -> None:
    good = finish(recipe.with_seed(1), tmp_path, METRICS)
    bad = finish(recipe, tmp_path, METRICS)
    (bad / name).unlink()
    if content is not None:
        (bad / name).write_text(content)
    assert {row["run"] for row in rows(tmp_path)} == {good.name}
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and bad.name in err


def test_what_is_no_run_is_left_out_by_name(recipe: Recipe, tmp_path: Path, capsys) -> None:
    good = finish(recipe, tmp_path, METRICS)
    (tmp_path / "runs" / "photos").mkdir()
    (tmp_path / "runs" / "photos" / "cat.png").write_bytes(b"\x89PNG")
    (tmp_path / "runs" / "notes.txt").write_text("mine")
    (tmp_path / "runs" / ".hidden").write_text("")
    assert {row["run"] for row in rows(tmp_path)} == {good.name}
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2 and "notes.txt" in lines[0] and "photos" in lines[1]


def test_no_half_written_file_gives_a_wrong_number(recipe: Recipe, tmp_path: Path) -> None:
    path = finish(recipe, tmp_path, METRICS)
    whole = {name: (path / name).read_bytes() for name in ("metrics.json", "recipe.json", "status.json")}
    truth = {row["metric"]: row["value"] for row in rows(tmp_path)}
    for name, content in whole.items():
        for end in range(0, len(content), 23):
            (path / name).write_bytes(content[:end])
            for row in rows(tmp_path):
                assert row["value"] == truth[row["metric"]]
        (path / name).write_bytes(content)
    # but for the white space at its end, no beginning of a JSON object is one
    (path / "metrics.json").write_bytes(whole["metrics.json"].rstrip()[:-1])
    assert rows(tmp_path) == []


def test_stores_are_merged_by_copying_folders(recipe: Recipe, tmp_path: Path, capsys) -> None:
    here, there, both = (tmp_path / name for name in ("here", "there", "both"))
    for seed, store in ((0, here), (1, here), (1, there), (2, there)):
        finish(recipe.with_seed(seed), store, {"test/accuracy": seed / 10})
    for store in (here, there):
        shutil.copytree(store / "runs", both / "runs", dirs_exist_ok=True)
    values = {row["identity"]: row["value"] for store in (here, there) for row in rows(store)}
    assert {row["identity"]: row["value"] for row in rows(both)} == values and len(rows(both)) == 3
    # the same run under another name counts once, wherever it stands in the alphabet
    for name in ("a-copy", "z-copy"):
        shutil.copytree(both / "runs" / recipe.name, both / "runs" / name)
    assert {row["run"] for row in rows(both)} == {recipe.with_seed(seed).name for seed in range(3)}
    err = capsys.readouterr().err
    assert "a-copy" in err and "z-copy" in err
    # alone, a renamed folder is the run it holds
    shutil.rmtree(both / "runs" / recipe.name)
    assert len(rows(both)) == 3 and "a-copy" in {row["run"] for row in rows(both)}


@pytest.mark.parametrize(
    ("attempts", "status"),
    [
        ([ATTEMPT, {**ATTEMPT, "cpu": "Another"}], {**DONE, "attempts": 2}),
        ([ATTEMPT], {**DONE, "attempts": 2}),
        ([ATTEMPT], {key: value for key, value in DONE.items() if key != "ended"}),
        ([ATTEMPT], {**DONE, "ended": "yesterday"}),
        ([ATTEMPT], {**DONE, "state": "running"}),
    ],
)
def test_a_time_is_only_that_of_a_run_in_one_go(attempts, status, recipe: Recipe, tmp_path: Path) -> None:
    finish(recipe, tmp_path, METRICS, attempts=attempts, status=status)
    found = rows(tmp_path)
    assert found and all(math.isnan(row["seconds"]) for row in found)
    assert found[0]["cpu"] == ", ".join(attempt["cpu"] for attempt in attempts)


@pytest.mark.parametrize(
    ("kind", "used", "stored", "complete"),
    [
        ("digits.Digits", 500, 500, True),
        ("digits.Digits", 400, 500, False),  # the run's budget took fewer
        ("svhn.SVHN", 26_032, 26_032, True),
        ("svhn.SVHN", 1_136, 1_136, False),  # the prepared set holds fewer than were published
    ],
)
def test_complete_means_all_published_test_images(
    kind: str, used: int, stored: int, complete: bool, recipe: Recipe, tmp_path: Path
) -> None:
    finish(changed(recipe, type=kind), tmp_path, METRICS, images={"test": used}, stored={"test": stored})
    (run,) = finished_runs(tmp_path)
    assert run.complete is complete
    assert {row["complete"] for row in rows(tmp_path)} == {complete}


def test_reading_results_needs_no_torch(recipe: Recipe, tmp_path: Path) -> None:
    finish(recipe, tmp_path, METRICS)
    code = "import sys, lacuna; n = len(lacuna.results(sys.argv[1], None)); print(n, 'torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True)
    assert done.stdout.split() == ["3", "False"], done.stderr


@pytest.mark.slow
def test_a_real_run_is_in_the_results(digits_root: Path, tmp_path: Path) -> None:
    words = (*real.TINY, f"data.root={digits_root}", f"output={tmp_path}")
    assert real.train("experiment=digits_zero", *words) == 0
    assert real.train("experiment=digits_zero", *words, "seed=1") == 0
    frame = lacuna.results(tmp_path, None)
    assert sorted(frame["seed"].unique()) == [0, 1] and frame["family"].nunique() == 1
    for (path, metric), value in frame.set_index(["path", "metric"])["value"].items():
        assert json.loads((Path(path) / "metrics.json").read_text())["metrics"][metric] == value
    assert set(frame["images"].dropna()) == {48} and not frame["complete"].any()
    assert (frame["seconds"] >= 0).all() and frame["commit"].notna().all()
