"""The tables of the PRFlow paper: three numbers of the same runs, judged by one net, behind the paper's masks."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from lacuna.config.composer import Composer
from lacuna.config.paths import CONFIGS
from lacuna.papers import paper_table
from lacuna.runs.settings import Settings
from lacuna.tables.gather import gather
from lacuna.tables.request import find_tables
from lacuna.tables.spec import TableSpec
from lacuna.training.run import execute
from tests.tables.finished import plan

NAMES = [name for name in CONFIGS.options("table") if name.startswith("prflow/")]
COMPOSER = Composer(CONFIGS, "reproduce")
RATES = [0.6, 0.7, 0.8, 0.9]
FITTED = ("mean", "gaussian", "knn", "linear")


def specs(name: str) -> list[TableSpec]:
    return find_tables(COMPOSER.base([f"table={name}"])["table"], COMPOSER)


@pytest.mark.parametrize("name", NAMES)
def test_a_column_is_the_papers_rate(name: str) -> None:
    for table in specs(name):
        rates = [column.set["mask.rate"] for column in table.columns]
        some = table.figure is not None or "ablations" in name
        assert rates == RATES or (some and set(rates) < set(RATES))
        if table.paper is None:
            continue
        assert [column.paper for column in table.columns] == paper_table(table.paper)["columns"]
        data = table.paper.rpartition("/")[2]
        assert table.name == table.paper.replace("/", "_").replace("_", "/", 1)
        assert {column.value for column in table.columns} == {{"celeba": "celeba32"}.get(data, data)}


def test_every_table_of_the_paper_is_there() -> None:
    found = {table.paper for table in specs("prflow/all") if table.paper}
    printed = {1: ("mnist", "cifar10", "celeba"), 2: ("mnist", "cifar10", "celeba"), 3: ("mnist", "cifar10")}
    assert found == {f"prflow/table{number}/{data}" for number, sets in printed.items() for data in sets}
    everything = specs("all")
    assert found < {table.paper for table in everything}
    metrics = {table.name: (table.metric, table.better) for table in everything}
    assert metrics["prflow/table1_mnist"] == ("test/rmse", "min")
    assert metrics["prflow/table2_mnist"] == ("test/fid", "min")
    assert metrics["prflow/table3_mnist"] == ("test/scc", "max")


def test_the_papers_methods_have_their_printed_numbers() -> None:
    for table in specs("prflow/all"):
        if table.paper is None:
            continue
        printed = {row.key for row in table.rows for column in table.columns if table.printed(row, column) is not None}
        assert printed == set(paper_table(table.paper)["rows"]) == {"misgan", "pbigan", "mcflow", "prflow"}


def test_three_tables_are_of_the_same_runs(digits_root: Path, tmp_path: Path) -> None:
    chosen = [
        dataclasses.replace(table, rows=tuple(row for row in table.rows if row.key in (*FITTED, "dmfa")))
        for table in specs("prflow/digits")
    ]
    assert len(chosen) == 3
    found = plan(digits_root, tmp_path, *chosen)
    tasks = [run.recipe.task for run in found.runs.values()]
    assert {task: tasks.count(task) for task in tasks} == {"classify": 1, "density": 4, "impute": 4 * 5}
    for run in found.runs.values():
        if run.recipe.task == "impute":
            assert len(run.cells) == 3 and run.recipe.config["mask"]["type"] == "masks.Bernoulli"
    hidden = [run.recipe.config["density"]["hold_out"] for run in found.runs.values() if run.recipe.task == "density"]
    schemes = [scheme for hide in hidden for scheme in hide["schemes"]]
    assert len(schemes) == 3 * 4 and all(scheme["type"] == "masks.Bernoulli" for scheme in schemes)


def test_a_digits_table_is_filled(digits_root: Path, tmp_path: Path) -> None:
    tables = [
        dataclasses.replace(
            table, rows=tuple(row for row in table.rows if row.key in FITTED), columns=table.columns[::3]
        )
        for table in specs("prflow/digits")
    ]
    made = plan(digits_root, tmp_path, *tables)
    settings = Settings(tmp_path, digits_root, download=False, trainer={"accelerator": "cpu", "progress": False})
    for run in made.runs.values():
        execute(run.recipe, settings, announce=False)
    rmse, fid, _ = gather(made)
    for table in (rmse, fid):
        means = [cell.mean for cell in table.cells]
        assert len(means) == 2 * len(FITTED) and all(mean is not None and mean > 0 for mean in means)
    # the more is missing, the worse linear interpolation is
    linear = [cell.mean for cell in rmse.cells if cell.cell.row.key == "linear"]
    assert linear[1] is not None and linear[0] is not None and linear[1] > linear[0] + 0.05
