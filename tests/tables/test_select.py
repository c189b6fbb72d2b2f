"""``rates=`` and ``rows=``: other columns of a table of rates, fewer rows of any, never in the full table's place."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from lacuna.config.compose import compose
from lacuna.config.composer import Composer
from lacuna.config.help import examples, usage
from lacuna.config.paths import CONFIGS
from lacuna.errors import LacunaError
from lacuna.report.table_notes import protocol, warning
from lacuna.tables.gather import gather
from lacuna.tables.request import find_tables
from lacuna.tables.select import has_rates, selected
from lacuna.tables.spec import TableSpec
from tests.tables.finished import plan

COMPOSER = Composer(CONFIGS, "reproduce")


def specs(name: str) -> list[TableSpec]:
    return find_tables(COMPOSER.base([f"table={name}"])["table"], COMPOSER)


def test_columns_of_rates_are_replaced() -> None:
    (table,) = specs("prflow/table1_mnist")
    (found,) = selected([table], rates=[0.5, 0.9, 0.975])
    assert [(c.key, c.label, c.paper) for c in found.columns] == [
        ("p50", "50 %", "0.5"), ("p90", "90 %", "0.9"), ("p97.5", "97.5 %", "0.975"),
    ]  # fmt: skip
    assert [column.set for column in found.columns] == [{"mask.rate": rate} for rate in (0.5, 0.9, 0.975)]
    assert {column.value for column in found.columns} == {"mnist"}
    prflow = next(row for row in found.rows if row.key == "prflow")
    # a printed rate keeps the paper's number, the others have none
    assert [found.printed(prflow, column) for column in found.columns] == [
        None, table.printed(prflow, table.columns[3]), None,
    ]  # fmt: skip
    assert found.rows == table.rows and found.printed(prflow, found.columns[1]) is not None


def test_only_tables_of_rates_change() -> None:
    before = specs("all")
    after = selected(before, rates=[0.5])
    assert [table.name for table in after] == [table.name for table in before]
    for old, new in zip(before, after, strict=True):
        assert has_rates(old) == old.name.startswith("prflow/")
        assert len(new.columns) == 1 if has_rates(old) else new == old


@pytest.mark.parametrize("name", ["prflow/digits_rmse", "prflow/table1_cifar10"])
def test_what_changes_nothing_is_the_full_table(name: str) -> None:
    (table,) = specs(name)
    rows = [row.key for row in table.rows]
    assert selected([table], rates=[0.6, 0.7, 0.8, 0.9], rows=rows[::-1]) == [table]
    assert selected([table]) == [table]


def test_rows_are_chosen_in_the_tables_order() -> None:
    tables = specs("all")
    chosen = {
        table.name: rows
        for table in tables
        if (rows := [row.key for row in table.rows if row.key in ("prflow", "linear")])
    }
    found = selected(tables, rows=["prflow", "linear"])
    assert {table.name: [row.key for row in table.rows] for table in found} == chosen
    assert chosen["prflow/table1_mnist"] == ["linear", "prflow"] and "misconv/table1" not in chosen
    (one,) = selected(specs("demo"), rows="misconv")
    assert [row.key for row in one.rows] == ["misconv"] and one.columns == specs("demo")[0].columns


@pytest.mark.parametrize("rates", [[], [0.0], [1], [0.5, 0.5], ["half"], "0.5", [True], [float("nan")], {"a": 0.5}])
def test_rates_that_are_none(rates: Any) -> None:
    with pytest.raises(LacunaError, match=r"must be different missing rates.*rates=\[0\.5,0\.95\]"):
        selected(specs("prflow/table1_mnist"), rates=rates)


def test_mistakes_are_one_sentence() -> None:
    with pytest.raises(LacunaError, match=r"rates=\[0\.5\]: the columns of demo are not missing rates"):
        selected(specs("demo"), rates=[0.5])
    with pytest.raises(LacunaError, match=r"none of the tables has a row 'linaer'; the rows are mean, ring"):
        selected(specs("prflow/digits_rmse"), rows=["linear", "linaer"])
    for rows in ([], ["linear", "linear"]):
        with pytest.raises(LacunaError, match=r"must be different keys of rows, as in rows=\[mean,ring\]"):
            selected(specs("prflow/digits_rmse"), rows=rows)


@pytest.mark.slow
def test_a_part_never_takes_the_place_of_the_table(digits_root: Path, tmp_path: Path) -> None:
    full = specs("prflow/digits_rmse")
    kinds = [
        selected(full, rows=["linear"]),
        selected(full, rates=[0.5]),
        selected(full, rates=[0.5], rows=["linear"]),
        selected(full, rates=[0.6, 0.8], rows=["linear"]),
        selected(full, rows=["linear", "ring"]),
    ]
    plans = [plan(digits_root, tmp_path, *found) for found in (selected(full, rows=["linear", "mean"]), *kinds)]
    folders = {made.tables[0].folder for made in plans}
    assert len(folders) == len(plans) and "prflow/digits_rmse-smoke" not in folders
    assert all(folder.startswith("prflow/digits_rmse-smoke-") for folder in folders)


def test_other_rates_are_other_runs_and_said(digits_root: Path, tmp_path: Path) -> None:
    made = plan(digits_root, tmp_path, *selected(specs("prflow/digits_rmse"), rates=[0.5, 0.6], rows=["linear"]))
    cells = made.tables[0].cells
    rates = [cell.recipes[0].config["mask"]["rate"] for cell in cells]
    assert rates == [0.5, 0.6] and [cell.label for cell in cells] == [
        "linear interpolation, 50 %", "linear interpolation, 60 %",
    ]  # fmt: skip
    usual = plan(digits_root, tmp_path, *selected(specs("prflow/digits_rmse"), rows=["linear"]))
    assert cells[1].recipes == usual.tables[0].cells[0].recipes  # the runs of the full table serve
    (result,) = gather(made)
    assert ("selection", "rates: 50 %, 60 %; rows: linear interpolation") in protocol(result)
    points = warning(result)
    assert points is not None and not any("changed by the user" in point for point in points[1])


def test_the_help_says_both_without_torch(tmp_path: Path) -> None:
    text = usage("reproduce", CONFIGS)
    assert "rates=[0.5,0.95]" in text and "rows=[linear" in text
    for line in examples("reproduce", CONFIGS):
        words = line.split()[2:]
        words = words[: words.index("--")] if "--" in words else words
        config = compose(CONFIGS, "reproduce", words)
        if config["rates"] is not None or config["rows"] is not None:
            assert selected(find_tables(config["table"], COMPOSER), config["rates"], config["rows"])
    code = (
        "import sys, reproduce; words = ['table=prflow/digits_rmse', 'rates=[0.5]', 'rows=[linear]', 'plan=true', "
        f"'output={tmp_path}', 'data.root={tmp_path}']; "
        "assert reproduce.main(['--help']) == 0 and reproduce.main(words) == 0; assert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=CONFIGS.main.parent, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
