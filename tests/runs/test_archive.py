"""The archive: numbers and their provenance in one small file a run, merged by name, never changed in silence."""

from __future__ import annotations

import json
import math
import shutil
import socket
from pathlib import Path
from typing import Any

import pytest

import lacuna
from lacuna import files
from lacuna.errors import LacunaError
from lacuna.runs.archive import FULL, archive_runs, main, pack, unpack
from lacuna.runs.archive_record import read_archived
from lacuna.runs.recipe import VERSION, Recipe
from lacuna.runs.results import rows
from tests.runs import real
from tests.tables.finished import ATTEMPT, DONE, begin, finish

METRICS = {"test/accuracy": 0.5, "complete/accuracy": 0.75}
WHERE = {"path", "archived"}


@pytest.fixture(scope="module")
def recipe(digits_root: Path) -> Recipe:
    """At the full budget, with a density before it."""
    return real.recipe("experiment=digits_misconv", f"data.root={digits_root}")


@pytest.fixture
def places(tmp_path: Path) -> tuple[Path, Path]:
    return tmp_path / "outputs", tmp_path / "results"


def evaluate(run: Path, name: str, value: float) -> None:
    record = {"mask": {"name": "noise", "rate": 0.9}, "split": "test", "metrics": {"accuracy": value}, "images": 40}
    files.write_json(run / "evaluations" / f"{name}.json", record)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    return all(
        one[key] == other[key] or (one[key] != one[key] and other[key] != other[key]) for key in set(one) - WHERE
    )


def test_the_archive_alone_says_what_the_runs_said(recipe: Recipe, places: tuple[Path, Path], tmp_path: Path) -> None:
    output, results = places
    for each, value in ((recipe, 0.5), (recipe.prerequisites["density"], 0.25), (recipe.with_seed(1), 0.125)):
        evaluate(finish(each, output, {"test/accuracy": value, "complete/accuracy": 0.75}), "noise-test-1", value)
    report = archive_runs(output, results)
    assert set(report.written) == {f.stem for f in results.iterdir()} and len(report.written) == 3
    before, after = rows(output), rows(tmp_path / "nowhere", results)
    assert len(after) == len(before) == 9
    key = lambda row: (row["identity"], row["metric"], str(row["evaluation"]))  # noqa: E731
    for one, other in zip(sorted(before, key=key), sorted(after, key=key), strict=True):
        assert same(one, other) and other["archived"] and not one["archived"]
        assert Path(other["path"]).parent == results
    # together they are no more than either; the run's own directory is what counts
    both = rows(output, results)
    assert sorted(map(key, both)) == sorted(map(key, before)) and not any(row["archived"] for row in both)
    frame = lacuna.results(tmp_path / "nowhere", results)
    assert len(frame) == 9 and frame["archived"].all()
    assert len(lacuna.results(tmp_path / "nowhere", None)) == 0


def test_nothing_of_the_machine_is_archived(recipe: Recipe, places: tuple[Path, Path]) -> None:
    output, results = places
    host = socket.gethostname()
    attempt = {**ATTEMPT, "host": host, "command": [str(output / "train.py")], "platform": "x", "gpus": ["A GPU"]}
    content = {**recipe.config, "data": {**recipe.config["data"], "path": str(output / "mine")}}
    path = finish(Recipe(content), output, METRICS, attempts=[attempt], status={**DONE, "host": host})
    (path / "model.safetensors").write_bytes(b"0" * 100)
    assert archive_runs(output, results).written == [recipe.name]
    (file,) = results.iterdir()
    text = file.read_text()
    assert str(output.parent) not in text and f'"{host}"' not in text and "train.py" not in text
    run = read_archived(file)
    assert run.recipe.identity == recipe.identity and run.hardware == ("A GPU",) and run.seconds == 100
    # a path that is part of what the run is cannot be dropped, so the run cannot be archived
    weights = Recipe({**recipe.config, "features": {"name": "facenet", "weights": "/home/me/w.pt"}})
    finish(weights, output, METRICS)
    report = archive_runs(output, results)
    assert report.unchanged == [recipe.name] and not report.written
    (sentence,) = report.refused
    assert "/home/me/w.pt" in sentence and weights.name in sentence


def test_again_is_nothing_and_other_numbers_are_said(recipe: Recipe, places: tuple[Path, Path]) -> None:
    output, results = places
    run = finish(recipe, output, METRICS)
    archive_runs(output, results)
    first = contents(results)
    assert archive_runs(output, results).unchanged == [recipe.name] and contents(results) == first
    finish(recipe, output, METRICS, attempts=[{**ATTEMPT, "cpu": "Another"}])  # the same numbers elsewhere
    assert archive_runs(output, results).unchanged == [recipe.name] and contents(results) == first
    finish(recipe, output, {**METRICS, "test/accuracy": 0.625}, attempts=[{**ATTEMPT, "cpu": "Another"}])
    report = archive_runs(output, results)
    assert contents(results) == first and not report.written and not report.unchanged
    (sentence,) = report.conflicts
    assert all(word in sentence for word in ("test/accuracy", "0.5", "0.625", "A CPU", "Another", recipe.name))
    # evaluations are added; one that is there keeps its numbers, too
    finish(recipe, output, METRICS)
    evaluate(run, "noise-test-1", 0.5)
    assert archive_runs(output, results).written == [recipe.name]
    evaluate(run, "noise-test-1", 0.25)
    (sentence,) = archive_runs(output, results).conflicts
    assert "noise-test-1" in sentence
    assert read_archived(results / f"{recipe.name}.json").evaluations["noise-test-1"]["metrics"] == {"accuracy": 0.5}


def test_what_cannot_be_archived_stops_nobody_else(recipe: Recipe, places: tuple[Path, Path], capsys) -> None:
    output, results = places
    damaged = finish(recipe.with_seed(1), output, METRICS)
    (damaged / "metrics.json").write_text("{")
    old = Recipe({**recipe.config, "version": VERSION - 1})
    finish(old, output, METRICS)
    begin(recipe.with_seed(2), output)  # not done: no news
    assert main([f"output={output}", f"results={results}"]) == 1  # nothing was archived at all
    finish(recipe, output, METRICS)
    finish(Recipe({**recipe.config, "budget": "quick"}), output, METRICS)
    capsys.readouterr()
    assert main([f"output={output}", f"results={results}"]) == 0
    assert [path.stem for path in results.iterdir()] == [recipe.name]
    said = capsys.readouterr()
    lines = said.err.splitlines()
    assert len(lines) == 3 and damaged.name in said.err and old.name in said.err and "1 at budget=quick" in said.err
    assert f"version {VERSION - 1}, not {VERSION}" in said.err and "1 archived" in said.out
    assert main([f"output={output}", f"results={results}", "budgets=[quick]"]) == 0
    assert len(list(results.iterdir())) == 2


@pytest.mark.parametrize("budget", FULL)
def test_every_full_budget_is_archived(budget: str, recipe: Recipe, places: tuple[Path, Path]) -> None:
    finish(Recipe({**recipe.config, "budget": budget}), places[0], METRICS)
    assert len(archive_runs(*places).written) == 1


def test_archives_of_two_machines_become_one(recipe: Recipe, tmp_path: Path) -> None:
    for machine, seeds in (("here", (0, 1)), ("there", (1, 2))):
        for seed in seeds:
            finish(recipe.with_seed(seed), tmp_path / machine, {"test/accuracy": seed / 8})
        archive_runs(tmp_path / machine, tmp_path / f"results-{machine}")
    copied = tmp_path / "copied"
    for machine in ("here", "there"):
        shutil.copytree(tmp_path / f"results-{machine}", copied, dirs_exist_ok=True)
    file = tmp_path / "there.jsonl"
    assert pack(tmp_path / "results-there", file) == 2 == len(file.read_text().splitlines())
    merged = tmp_path / "results-here"
    report = unpack(file, merged)
    assert (len(report.written), len(report.unchanged)) == (1, 1) and contents(merged) == contents(copied)
    assert sorted(row["value"] for row in rows(tmp_path / "nowhere", merged)) == [0, 1 / 8, 2 / 8]
    # once more changes nothing; half a line is refused and the others are taken
    assert len(unpack(file, merged).unchanged) == 2 and contents(merged) == contents(copied)
    first, second = file.read_text().splitlines()
    file.write_text(f"{first[:100]}\n{second}\n")
    report = unpack(file, tmp_path / "new")
    assert len(report.written) == 1 and len(report.refused) == 1 and "line 1" in report.refused[0]


@pytest.mark.parametrize(
    "change",
    [
        {"format": 2},
        {"metrics": {"test/accuracy": "good"}},
        {"metrics": None},
        {"recipe": {}},
        {"name": "../elsewhere"},
        {"seconds": "long"},
        {"evaluations": {"x": {"metrics": {}}}},
        {"attempts": None},
    ],
)
def test_a_damaged_file_is_left_out_by_name(change: dict[str, Any], recipe: Recipe, places, capsys) -> None:
    output, results = places
    finish(recipe, output, METRICS)
    finish(recipe.with_seed(1), output, METRICS)
    archive_runs(output, results)
    bad = results / f"{recipe.name}.json"
    bad.write_text(json.dumps({**json.loads(bad.read_text()), **change}))
    shutil.rmtree(output)
    assert {row["seed"] for row in rows(output, results)} == {1}
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and bad.name in err
    # and it is not written over: who archives anew deletes it first
    finish(recipe, output, METRICS)
    assert len(archive_runs(output, results).refused) == 1
    with pytest.raises(LacunaError, match=bad.name):
        pack(results, output / "file.jsonl")


def test_seconds_are_those_of_all_attempts(recipe: Recipe, places: tuple[Path, Path]) -> None:
    output, results = places
    first = {**ATTEMPT, "started": "2026-11-20T10:00:00+00:00", "ended": "2026-11-20T10:01:00+00:00"}
    second = {**ATTEMPT, "started": "2026-11-21T10:00:00+00:00", "ended": "2026-11-21T10:00:30+00:00"}
    finish(recipe, output, METRICS, attempts=[first, second], status={**DONE, "attempts": 2})
    killed = {key: value for key, value in first.items() if key != "ended"}
    finish(recipe.with_seed(1), output, METRICS, attempts=[killed, second], status={**DONE, "attempts": 2})
    archive_runs(output, results)
    found = {run.recipe.config["seed"]: run.seconds for run in map(read_archived, results.iterdir())}
    assert found[0] == 90 and math.isnan(found[1])
    assert json.loads((results / f"{recipe.with_seed(1).name}.json").read_text())["seconds"] is None


@pytest.mark.parametrize(
    ("word", "part"),
    [("result=x", "results"), ("output", "key=value"), ("budgets=[]", "budgets"), ("budgets=3", "budgets"),
     ("input=nowhere.jsonl", "nowhere.jsonl"), ("output=nowhere", "nowhere"), ("budgets=[", "budgets")],
)  # fmt: skip
def test_mistakes_end_in_a_sentence(word: str, part: str, tmp_path: Path) -> None:
    with pytest.raises(LacunaError, match=part):
        main([f"results={tmp_path}", word] if not word.startswith("result=") else [word])


@pytest.mark.slow
def test_a_real_run_records_when_its_attempt_ended(digits_root: Path, tmp_path: Path) -> None:
    assert real.train("experiment=digits_zero", *real.TINY, f"data.root={digits_root}", f"output={tmp_path}") == 0
    (path,) = (tmp_path / "runs").iterdir()
    (attempt,) = json.loads((path / "environment.json").read_text())["attempts"]
    assert attempt["ended"] >= attempt["started"]
    assert len(archive_runs(tmp_path, tmp_path / "results", budgets=["smoke", "cut"]).written) == 1
