"""A table says what the run directories say: mean, spread, and for every hole its reason."""

from __future__ import annotations

import dataclasses
import shutil
import statistics
from pathlib import Path

import pytest
from scipy import stats

from lacuna.report.table_notes import marks_rule
from lacuna.runs.recipe import Recipe
from lacuna.tables import gather as gathering
from lacuna.tables.best import paper_interval, table_marks
from lacuna.tables.estimate import Estimates
from lacuna.tables.gather import CellResult, TableResult, gather
from lacuna.tables.plan import Plan
from lacuna.throughput.measurements import Measurements
from lacuna.throughput.rows import seconds_of
from lacuna.throughput.step_kinds import kind_key, stored_in
from tests.tables.finished import ATTEMPT, DONE, begin, finish, plan
from tests.tables.planning import spec
from tests.throughput.made_up import GIB, row

SEEDS = (0, 1, 2)


def key(cell) -> tuple[str, str]:
    return cell.row.key, cell.column.key


def recipes(found: Plan) -> dict[tuple[str, str], tuple[Recipe, ...]]:
    return {key(cell): cell.recipes for cell in found.tables[0].cells}


def cells(result: TableResult) -> dict[tuple[str, str], CellResult]:
    return {key(cell.cell): cell for cell in result.cells}


def fill(found: Plan, values: dict[tuple[str, str], tuple[float, ...]]) -> None:
    """Finish the runs of some cells, one value a seed."""
    for where, given in values.items():
        for recipe, value in zip(recipes(found)[where], given, strict=False):
            finish(recipe, found.output, {"test/accuracy": value})


def test_mean_spread_and_difference(digits_root: Path, tmp_path: Path) -> None:
    found = plan(digits_root, tmp_path, seeds=SEEDS)
    values = (0.7, 0.9, 0.5)
    fill(found, {("zero", "square"): values})
    table = dataclasses.replace(
        found.tables[0],
        cells=tuple(dataclasses.replace(cell, paper=0.6) for cell in found.tables[0].cells),
    )
    (result,) = gather(dataclasses.replace(found, tables=(table,)))
    cell = cells(result)["zero", "square"]
    assert cell.values == dict(zip(SEEDS, values, strict=True)) and (cell.n, cell.wanted) == (3, 3)
    assert cell.mean == pytest.approx(0.7) and cell.sd == pytest.approx(statistics.stdev(values))
    assert cell.difference == pytest.approx(0.1) and cell.test_images == 500
    assert (cell.state, cell.reason) == ("done", "")
    hole = cells(result)["zero", "noise"]
    assert (hole.mean, hole.sd, hole.difference, hole.n, hole.state) == (None, None, None, 0, "to do")


def test_one_seed_has_no_spread_and_says_how_many_are_missing(digits_root: Path, tmp_path: Path) -> None:
    found = plan(digits_root, tmp_path, seeds=SEEDS)
    fill(found, {("zero", "square"): (0.7,)})
    cell = cells(gather(found)[0])["zero", "square"]
    assert (cell.n, cell.sd, cell.reason) == (1, None, "seeds 1, 2 to do")


def test_every_hole_says_why(digits_root: Path, tmp_path: Path) -> None:
    found = plan(digits_root, tmp_path)
    (failed,), (needing,) = recipes(found)["zero", "square"], recipes(found)["misconv", "square"]
    (without,), (damaged,) = recipes(found)["zero", "noise"], recipes(found)["gt", "square"]
    error = 'Traceback (most recent call last):\n  File "x.py"\nLacunaError: no space left on disk.'
    begin(failed, tmp_path, {"state": "failed", "error": error})
    begin(needing.prerequisites["density"], tmp_path, {"state": "failed", "error": "RuntimeError: boom"})
    finish(without, tmp_path, {"test/loss": 1.0})
    finish(damaged, tmp_path, {"test/accuracy": 1.0})
    (tmp_path / "runs" / damaged.name / "metrics.json").write_text("{")
    found_cells = cells(gather(found)[0])
    said = {where: (cell.state, cell.reason) for where, cell in found_cells.items()}
    assert said["zero", "square"] == ("failed", "failed: no space left on disk.")
    state, reason = said["misconv", "square"]
    assert state == "blocked" and needing.prerequisites["density"].name in reason and "RuntimeError: boom" in reason
    assert said["zero", "noise"] == ("no metric", "no metric: the run has no test/accuracy")
    assert said["gt", "square"][0] == "damaged" and "metrics.json is damaged" in said["gt", "square"][1]
    assert said["misconv", "noise"] == ("to do", "to do")
    assert all(cell.mean is None for cell in found_cells.values())


def test_a_metric_that_is_no_number_is_a_hole(digits_root: Path, tmp_path: Path) -> None:
    found = plan(digits_root, tmp_path)
    (recipe,) = recipes(found)["zero", "square"]
    path = finish(recipe, tmp_path, {"test/accuracy": 0.5})
    for value in ("NaN", "Infinity"):
        (path / "metrics.json").write_text(f'{{"metrics": {{"test/accuracy": {value}}}, "data": {{}}}}')
        cell = cells(gather(found)[0])["zero", "square"]
        assert cell.mean is None and cell.state == "no metric"


def test_cells_without_data_have_no_number(tmp_path: Path) -> None:
    (result,) = gather(plan(tmp_path / "no-data", tmp_path / "out"))
    assert {(cell.state, cell.reason) for cell in result.cells} == {("no data", "the data are not on this machine")}


def test_a_table_is_a_function_of_the_directories(digits_root: Path, tmp_path: Path) -> None:
    found = plan(digits_root, tmp_path / "out", seeds=(0, 1))
    everything = {where: (0.5, 0.6) for where in recipes(found)}
    fill(found, everything)
    before = [(cell.mean, cell.state) for cell in gather(found)[0].cells]
    assert all(mean is not None for mean, _ in before)
    moved = shutil.move(tmp_path / "out" / "runs", tmp_path / "runs")
    assert all(cell.mean is None for cell in gather(found)[0].cells)
    shutil.move(moved, tmp_path / "out" / "runs")
    assert [(cell.mean, cell.state) for cell in gather(found)[0].cells] == before


def test_every_run_is_read_once(digits_root: Path, tmp_path: Path, monkeypatch) -> None:
    """However many cells it is in."""
    tables = [spec(name=f"tests/{i}") for i in range(3)]
    found = plan(digits_root, tmp_path, *tables, seeds=(0, 1))
    fill(found, {where: (0.5, 0.6) for where in recipes(found)})
    read: list[Path] = []
    original = gathering.read_run
    monkeypatch.setattr(gathering, "read_run", lambda path, recipe: read.append(path) or original(path, recipe))
    results = gather(found)
    assert sum(len(cell.done) for result in results for cell in result.cells) == 3 * 12
    # the complete digits of the reference are the same in both columns
    assert len(read) == len(set(read)) == 2 * 5


def test_references_and_other_data_do_not_compete(digits_root: Path, tmp_path: Path) -> None:
    found = plan(digits_root, tmp_path, seeds=SEEDS)
    near = (0.801, 0.800, 0.799)
    fill(found, {where: near for where in recipes(found)})
    fill(found, {("misconv", "square"): (0.901, 0.900, 0.899), ("gt", "square"): (0.99, 0.99, 0.99)})
    marks = table_marks(gather(found)[0])
    assert marks["misconv", "square"] == "best"
    assert marks["zero", "noise"] == marks["misconv", "noise"] == "tie"
    assert not {where for where in marks if where[0] == "gt"}
    # the same numbers on other images are another question
    table = found.tables[0]
    moved = []
    for cell in table.cells:
        if key(cell) == ("zero", "square"):
            other = [{**r.config, "data": {**r.config["data"], "fingerprint": "another"}} for r in cell.recipes]
            cell = dataclasses.replace(cell, recipes=tuple(map(Recipe, other)))
            found.runs.update({r.identity: _planned(found, r) for r in cell.recipes})
            for recipe in cell.recipes:
                finish(recipe, tmp_path, {"test/accuracy": 0.1})
        moved.append(cell)
    (result,) = gather(dataclasses.replace(found, tables=(dataclasses.replace(table, cells=tuple(moved)),)))
    assert ("misconv", "square") not in table_marks(result)


def test_one_seed_has_no_mark_and_leaves_its_column_without_a_winner(digits_root: Path, tmp_path: Path) -> None:
    rows = {"zero": {}, "mask": {}, "misconv": {}}
    high, low = (0.901, 0.900, 0.899), (0.801, 0.800, 0.799)
    one = {(row, "square"): (value,) for row, value in (("zero", 0.1), ("mask", 0.5), ("misconv", 0.9))}
    three = {("misconv", "noise"): high, ("zero", "noise"): low}
    found = plan(digits_root, tmp_path, spec(rows=rows), seeds=SEEDS)
    fill(found, {**one, **three, ("mask", "noise"): (0.99,)})
    (result,) = gather(found)
    # in `square` nothing can be compared; in `noise` the mask may be better than MisConv, or worse than zeros
    assert table_marks(result) == {("misconv", "noise"): "tie"}
    assert "a number of one seed has no bold number" in marks_rule(result)
    fill(found, {("mask", "noise"): (0.5, 0.501, 0.499)})
    assert table_marks(gather(found)[0]) == {("misconv", "noise"): "best"}


@pytest.mark.parametrize(("compare", "line"), [("columns", "column"), ("rows", "row")])
def test_the_caption_says_that_one_seed_is_not_compared(
    compare: str, line: str, digits_root: Path, tmp_path: Path
) -> None:
    found = plan(digits_root, tmp_path, spec(compare=compare), seeds=SEEDS)
    fill(found, {where: (0.5,) for where in recipes(found)})
    (result,) = gather(found)
    assert table_marks(result) == {}
    rule = marks_rule(result)
    assert rule.startswith("none: ") and f"two numbers in a {line}, with two or more seeds" in rule
    fill(found, {where: (0.5, 0.51, 0.52) for where in recipes(found)})
    rule = marks_rule(gather(found)[0])
    assert rule.startswith(f"bold: significantly better than all others in its {line};") and "Welch" in rule
    assert f"5% for each {line}, without correction for the number of {line}s" in rule and "one seed" not in rule


def test_the_interval_of_a_difference_to_print_is_students(digits_root: Path, tmp_path: Path) -> None:
    found = plan(digits_root, tmp_path, seeds=SEEDS)
    values = (0.70, 0.74, 0.73)
    fill(found, {("zero", "square"): values, ("zero", "noise"): (0.7,), ("misconv", "square"): values})
    printed = {("zero", "square"): 0.6, ("zero", "noise"): 0.6, ("misconv", "noise"): 0.6}
    given = tuple(dataclasses.replace(cell, paper=printed.get(key(cell))) for cell in found.tables[0].cells)
    (result,) = gather(dataclasses.replace(found, tables=(dataclasses.replace(found.tables[0], cells=given),)))
    intervals = {where: paper_interval(cell) for where, cell in cells(result).items()}
    low, high = stats.ttest_1samp(values, 0.6).confidence_interval(0.95)
    assert intervals.pop(("zero", "square")) == pytest.approx((low - 0.6, high - 0.6))
    # neither one seed, nor a number that no paper prints, nor a hole has one
    assert set(intervals.values()) == {None}


def _planned(found: Plan, recipe: Recipe):
    return dataclasses.replace(next(iter(found.runs.values())), recipe=recipe)


# ---------------------------------------------------------------- estimates


def test_an_estimate_is_the_median_of_runs_like_it(digits_root: Path, tmp_path: Path) -> None:
    found = plan(digits_root, tmp_path, seeds=(0, 1, 2, 3))
    first, second, third, fourth = recipes(found)["zero", "square"]
    assert Estimates(tmp_path)(fourth) is None
    for recipe, minutes in ((first, 1), (second, 2), (third, 9)):
        ended = f"2026-11-20T10:0{minutes}:00+00:00"
        finish(recipe, tmp_path, {"test/accuracy": 0.5}, status={**DONE, "ended": ended})
    estimate = Estimates(tmp_path)
    assert estimate(fourth) == 120
    # twice the epochs take twice as long; another mask changes nothing; another method is another matter
    net = dict(fourth.config["net"])
    longer = {**net, "training": {**net["training"], "epochs": 2 * net["training"]["epochs"]}}
    assert estimate(Recipe({**fourth.config, "net": longer})) == 240
    assert estimate(recipes(found)["zero", "noise"][0]) == 120
    assert estimate(recipes(found)["misconv", "square"][0]) is None


def test_an_estimate_prefers_this_machine_and_one_attempt(digits_root: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("lacuna.tables.estimate.hardware", lambda accelerator: "A CPU")
    found = plan(digits_root, tmp_path, seeds=(0, 1, 2, 3))
    first, second, third, fourth = recipes(found)["zero", "square"]
    quick = {**DONE, "ended": "2026-11-20T10:00:10+00:00"}
    gpu = {**ATTEMPT, "gpus": ["A GPU"]}
    finish(first, tmp_path, {"test/accuracy": 0.5}, attempts=[gpu], status=quick)
    assert Estimates(tmp_path)(fourth) == 10  # better than nothing
    finish(second, tmp_path, {"test/accuracy": 0.5})
    assert Estimates(tmp_path)(fourth) == 100
    finish(third, tmp_path, {"test/accuracy": 0.5}, attempts=[ATTEMPT] * 2, status={**quick, "attempts": 2})
    assert Estimates(tmp_path)(fourth) == 100


def test_an_estimate_prefers_the_same_batch_size(digits_root: Path, tmp_path: Path) -> None:
    found = plan(digits_root, tmp_path, seeds=(0, 1))
    first, second = recipes(found)["zero", "square"]
    net = second.config["net"]
    larger = {**net, "training": {**net["training"], "batch_size": 4096}}
    second = Recipe({**second.config, "net": larger})
    finish(first, tmp_path, {"test/accuracy": 0.5})
    assert Estimates(tmp_path)(second) == 100
    finish(second, tmp_path, {"test/accuracy": 0.5}, status={**DONE, "ended": "2026-11-20T10:00:10+00:00"})
    assert Estimates(tmp_path)(second.with_seed(7)) == 10
    assert Estimates(tmp_path)(first.with_seed(7)) == 100


def test_an_estimate_from_measured_steps_is_steps_times_milliseconds(
    digits_root: Path, tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.setattr("lacuna.tables.estimate.hardware", lambda accelerator: "A GPU")
    found = plan(digits_root, tmp_path, seeds=(0, 1))
    first, second = recipes(found)["zero", "square"]
    finish(first, tmp_path, {"test/accuracy": 0.5})
    measured = {**row(50.0, 1.0, n2=60.0, n4=80.0, n8=400.0), "images": 24, "begin_seconds": 3.0}
    Measurements("A GPU", 40 * GIB, {kind_key(second): measured}).save(tmp_path)
    images, batch = second.config["data"]["train_images"], second.training["batch_size"]
    steps, begin = second.training["epochs"] * -(-images // batch), 3.0 * images / 24
    alone = Estimates(tmp_path, root=digits_root)
    assert alone(second) == alone.wall(second) == pytest.approx(steps * 0.050 + begin)
    # with four at a time each takes longer, and a fourth of the GPU
    shared = Estimates(tmp_path, root=digits_root, shared=True)
    assert shared.wall(second) == pytest.approx(steps * 0.080 + begin) == pytest.approx(4 * shared(second))
    # the number of steps is that of the data that are here
    larger = {**second.config, "data": {**second.config["data"], "train_images": None}}
    counted = stored_in(digits_root)(larger["data"])["train"] - larger["data"]["validation"]
    assert alone(Recipe(larger)) == pytest.approx(
        second.training["epochs"] * -(-counted // batch) * 0.050 + 3.0 * counted / 24
    )
    # other kinds, and other hardware: from finished runs, if any
    assert shared(recipes(found)["misconv", "square"][0]) is None
    monkeypatch.setattr("lacuna.tables.estimate.hardware", lambda accelerator: "another")
    assert Estimates(tmp_path, shared=True)(second) == 100
    assert seconds_of(second, {}) is None
