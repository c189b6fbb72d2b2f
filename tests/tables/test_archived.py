"""Tables from the archive: archived runs count as done for their numbers, and are run where more of them is needed."""

from __future__ import annotations

import csv
import io
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from lacuna.config.compose import compose
from lacuna.config.paths import CONFIGS
from lacuna.report.formats import as_csv, as_text
from lacuna.report.plan_text import plan_text
from lacuna.report.table_page import table_page
from lacuna.runs.archive import archive_runs
from lacuna.runs.recipe import Recipe
from lacuna.tables import gather as gathering
from lacuna.tables.estimate import Estimates
from lacuna.tables.gather import BLOCKED, archive_note, gather
from lacuna.tables.plan import ARCHIVED, DONE, TODO, UNNEEDED, Plan
from lacuna.tables.spec import TableSpec
from lacuna.verbs import train
from lacuna.verbs.reproduce import main
from tests.tables.finished import begin, finish, plan
from tests.tables.planning import spec

BUDGETS = ("smoke",)


def archived(root: Path, tmp_path: Path, *specs: TableSpec, only: str = "", **more: Any) -> Plan:
    """A plan whose runs (those whose name begins with ``only``) are archived, each with a number of its own."""
    before = plan(root, tmp_path / "elsewhere", *specs, **more)
    for number, run in enumerate(before.runs.values()):
        if run.recipe.name.startswith(only):
            finish(run.recipe, tmp_path / "elsewhere", {"test/accuracy": number / 16, "test/nll": number})
    archive_runs(tmp_path / "elsewhere", tmp_path / "results", BUDGETS)
    return plan(root, tmp_path / "outputs", *specs, archive=tmp_path / "results", **more)


def states(found: Plan) -> dict[str, str]:
    return {run.recipe.group: run.state for run in found.runs.values()}


def test_what_is_archived_is_not_run_and_its_numbers_are_there(digits_root: Path, tmp_path: Path) -> None:
    found = archived(digits_root, tmp_path)
    assert set(states(found).values()) == {ARCHIVED} and found.unfinished() == []
    assert found.counts == {ARCHIVED: len(found.runs)}
    text = plan_text(found, lambda recipe: 1.0)
    assert f"{len(found.runs)} runs: {len(found.runs)} archived" in text and "time left" not in text
    (here,), (there,) = gather(found), gather(plan(digits_root, tmp_path / "elsewhere"))
    assert [cell.values for cell in here.cells] == [cell.values for cell in there.cells]
    assert all(cell.state == DONE and cell.n == 1 for cell in here.cells)
    assert not (tmp_path / "outputs").exists()
    # and every form of the table says where the numbers are from
    note = archive_note(here)
    assert "5 of 5" in note and "results/" in note and note in as_text(here) and archive_note(there) == ""
    assert [row["archived"] for row in csv.DictReader(io.StringIO(as_csv(here)))] == [
        cell.cell.recipes[0].name for cell in here.cells
    ]
    page = table_page(here, tmp_path / "outputs" / "tables" / "x")
    assert note in page and "A CPU" in page and "abc123" in page
    links = {link for link in re.findall(r'href="([^"#]+)"', page) if "results" in link or "runs" in link}
    assert len(links) == len(here.runs)
    assert all((tmp_path / "outputs" / "tables" / "x" / link).resolve().is_file() for link in links)


def test_a_finished_run_counts_before_the_archive(digits_root: Path, tmp_path: Path) -> None:
    found = archived(digits_root, tmp_path)
    cell = found.tables[0].cells[0]
    finish(cell.recipes[0], tmp_path / "outputs", {"test/accuracy": 0.875})
    (result,) = gather(found)
    assert result.cells[0].mean == 0.875 and not result.cells[0].done[0].archived
    assert found.counts == {DONE: 1, ARCHIVED: len(found.runs) - 1} and "4 of 5" in archive_note(result)


def test_weights_are_made_only_where_something_needs_them(digits_root: Path, tmp_path: Path) -> None:
    found = archived(digits_root, tmp_path)
    density = next(run for run in found.runs.values() if run.recipe.task == "density" and "square" in run.recipe.name)
    classifier = next(run for run in found.runs.values() if density.recipe.identity in _needs(run.recipe))
    (tmp_path / "results" / f"{classifier.recipe.name}.json").unlink()
    gathering.find_states(found)
    assert [run.recipe.identity for run in found.unfinished()] == [density.recipe.identity, classifier.recipe.identity]
    assert (density.state, classifier.state) == (TODO, TODO)
    # its training may fail: what needs it is blocked, and its own archived number stays
    path = begin(density.recipe, tmp_path / "outputs", {"state": "failed", "attempts": 1, "error": "OOM"})
    (result,) = gather(found)
    blocked = result.runs[classifier.recipe.identity]
    assert blocked.state == BLOCKED and "OOM" in blocked.why
    (own,) = gather(plan(digits_root, tmp_path / "outputs", density_table(), archive=tmp_path / "results"))
    assert own.cells[0].values and own.cells[0].state == DONE
    # the other way round, nobody needs a density whose classifiers are all archived
    shutil.rmtree(path)
    only = archived(digits_root, tmp_path / "second", only="digits-square-misconv")
    made = {run.recipe.task for run in only.runs.values() if run.state == UNNEEDED}
    assert made == {"density"} and not any(run.recipe.identity == density.recipe.identity for run in only.unfinished())


def density_table() -> TableSpec:
    return spec(
        cell=["experiment=digits_dmfa"], metric="test/nll", rows={"dmfa": {}}, columns={"square": {"label": "square"}}
    )


def _needs(recipe: Recipe) -> set[str]:
    return {needed.identity for needed in recipe.prerequisites.values()}


def test_a_figure_needs_more_than_numbers(digits_root: Path, tmp_path: Path) -> None:
    figure = spec(
        name="tests/figure", metric=None, figure={"kind": "panels"}, rows={"zero": {}}, columns={"square": {}}
    )
    found = archived(digits_root, tmp_path, figure)
    assert [run.state for run in found.runs.values()] == [TODO] and len(found.unfinished()) == 1
    (result,) = gather(found)
    assert result.cells[0].state == TODO and "archived" in result.cells[0].reason and not result.cells[0].done
    finish(found.unfinished()[0].recipe, tmp_path / "outputs", {})
    (result,) = gather(found)
    assert result.cells[0].state == DONE and found.unfinished() == []


def test_without_the_data_the_archive_says_which_they_were(digits_root: Path, tmp_path: Path) -> None:
    there = archived(digits_root, tmp_path)
    here = plan(tmp_path / "no-data", tmp_path / "outputs", archive=tmp_path / "results")
    assert set(here.runs) == set(there.runs) and here.unfinished() == [] and here.missing_data == ()
    assert plan(tmp_path / "no-data", tmp_path / "outputs").missing_data == ("digits",)
    # a sample of the set is not mistaken for the whole of it
    run = next(iter(there.runs.values()))
    content = {**run.recipe.config, "data": {**run.recipe.config["data"], "fingerprint": "sample"}}
    finish(Recipe(content), tmp_path / "sample", {}, complete=False, images={"test": 100}, stored={"test": 100})
    archive_runs(tmp_path / "sample", tmp_path / "results", BUDGETS)
    again = plan(tmp_path / "no-data", tmp_path / "outputs", archive=tmp_path / "results")
    assert set(again.runs) == set(there.runs)


def test_a_damaged_archive_is_named_once_and_its_run_is_done_anew(digits_root: Path, tmp_path: Path, capsys) -> None:
    found = archived(digits_root, tmp_path)
    name = found.tables[0].cells[0].recipes[0].name
    (tmp_path / "results" / f"{name}.json").write_text("{")
    found = plan(digits_root, tmp_path / "outputs", archive=tmp_path / "results")
    gather(found)
    gather(found)
    assert [run.recipe.name for run in found.unfinished()] == [name]
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and name in err


def test_archived_seconds_are_estimates(digits_root: Path, tmp_path: Path) -> None:
    found = archived(digits_root, tmp_path)
    recipe = found.tables[0].cells[0].recipes[0].with_seed(7)
    assert Estimates(tmp_path / "outputs")(recipe) is None
    assert Estimates(tmp_path / "outputs", archive=tmp_path / "results")(recipe) == 100


@pytest.fixture
def words(digits_root: Path, tmp_path: Path) -> list[str]:
    return [
        "budget=smoke", "trainer.accelerator=cpu", f"data.root={digits_root}", "data.download=false",
        f"output={tmp_path / 'outputs'}", f"results={tmp_path / 'results'}",
    ]  # fmt: skip


def test_reproduce_shows_archived_numbers_without_a_run(words: list[str], tmp_path: Path, capsys) -> None:
    config = compose(CONFIGS, "reproduce", ["table=demo", "rows=[zero,mask]", *words])
    from lacuna.config.composer import Composer
    from lacuna.tables.request import find_tables, run_options
    from lacuna.verbs.reproduce import plan_tables, selected

    specs = selected(find_tables(config["table"], Composer(CONFIGS, "reproduce")), None, ["zero", "mask"])
    for run in plan_tables(specs, Composer(CONFIGS, "train"), run_options(config, prepare=False)).runs.values():
        finish(run.recipe, tmp_path / "elsewhere", {"test/accuracy": 0.5, "complete/accuracy": 0.75})
    archive_runs(tmp_path / "elsewhere", tmp_path / "results", BUDGETS)
    assert main(config) == 0
    out = capsys.readouterr().out
    assert "0.500" in out and "0.750" in out and "from the archive" in out and "missing" not in out
    assert not (tmp_path / "outputs" / "runs").exists()
    assert main({**config, "plan": True}) == 0
    assert "runs: 2 archived" in capsys.readouterr().out
    assert main({**config, "plan": True, "results": None}) == 0
    assert "runs: 2 to do" in capsys.readouterr().out


def test_training_an_archived_run_says_so(digits_root: Path, tmp_path: Path, words: list[str], capsys) -> None:
    config = compose(CONFIGS, "train", ["experiment=digits_zero", *words])
    recipe = train.resolve(config, train.prepare_data(config))
    train._print_archived(recipe, config)
    assert capsys.readouterr().out == ""
    finish(recipe, tmp_path / "elsewhere", {"test/accuracy": 0.5})
    archive_runs(tmp_path / "elsewhere", tmp_path / "results", BUDGETS)
    train._print_archived(recipe, config)
    out = capsys.readouterr().out
    assert out.count("\n") == 1 and f"{recipe.name}.json" in out
    finish(recipe, tmp_path / "outputs", {"test/accuracy": 0.5})
    assert train.main(config) == 0  # it is done here, so nothing is trained
    assert "are archived" not in capsys.readouterr().out
