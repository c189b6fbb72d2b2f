"""A table's config says what it means, and the papers' numbers stand where the paper has them."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from lacuna.config.composer import Composer
from lacuna.config.paths import CONFIGS
from lacuna.errors import LacunaError
from lacuna.papers import paper_table
from lacuna.tables.request import find_tables
from lacuna.tables.spec import TableSpec
from tests.tables.planning import spec

NAMES = CONFIGS.options("table")
COMPOSER = Composer(CONFIGS, "reproduce")


def specs(name: str) -> list[TableSpec]:
    return find_tables(COMPOSER.base([f"table={name}"])["table"], COMPOSER)


@pytest.mark.parametrize("name", NAMES)
def test_every_table_is_called_as_its_file_or_lists_others(name: str) -> None:
    found = specs(name)
    assert [table.name for table in found] == [name] or "tables" in COMPOSER.base([f"table={name}"])["table"]
    for table in found:
        assert table.rows and table.columns
        for row in table.rows:
            for column in table.columns:
                assert table.figure is not None or table.cell_metric(row, column), (name, row.key, column.key)


@pytest.mark.parametrize("name", [n for n in NAMES if n.startswith("misconv/table")])
def test_every_cell_of_a_papers_table_has_its_printed_number(name: str) -> None:
    for table in specs(name):
        assert table.paper is not None
        for row in table.rows:
            for column in table.columns:
                ours_alone = column.paper not in paper_table(table.paper)["columns"]
                assert ours_alone or table.printed(row, column) is not None, (row.key, column.key)
        assert any(table.printed(row, column) is not None for row in table.rows for column in table.columns)


def test_printed_numbers_are_the_papers() -> None:
    # read off the PDF: MisConv table 1 row PC, table 9 row MisConv; PRFlow table 1, MNIST at 90 %
    (table,) = specs("misconv/table1")
    rows, columns = {a.key: a for a in table.rows}, {a.key: a for a in table.columns}
    assert table.printed(rows["partial"], columns["svhn"]) == 0.376
    (table,) = specs("misconv/table9")
    rows, columns = {a.key: a for a in table.rows}, {a.key: a for a in table.columns}
    assert table.printed(rows["misconv"], columns["noise"]) == 0.966
    block = paper_table("prflow/table1/mnist")
    assert block["rows"]["prflow"][block["columns"].index("0.9")] == 0.2059


def test_only_takes_rows_and_columns_in_its_order() -> None:
    whole = spec()
    found = spec(only={"rows": ["gt", "zero"], "columns": ["noise"]})
    assert found.rows == (whole.rows[2], whole.rows[0]) and found.columns == whole.columns[1:]
    assert spec(only={"rows": ["gt"]}).columns == whole.columns
    with pytest.raises(LacunaError, match=r"only\.rows=\['gt', 'best'\] must be different keys of zero, misconv, gt"):
        spec(only={"rows": ["gt", "best"]})
    with pytest.raises(LacunaError, match=r"only\.row is unknown"):
        spec(only={"row": ["gt"]})


def test_the_papers_numbers_are_those_handed_over() -> None:
    given = Path(__file__).resolve().parents[3] / "shared" / "papers" / "tables.yaml"
    if not given.exists():
        pytest.skip("the papers' numbers are not beside this checkout")
    from lacuna.papers import SETTINGS, papers

    numbers = {key: value for key, value in papers().items() if key != SETTINGS}
    assert numbers == yaml.safe_load(given.read_text())


def test_rows_and_columns_may_differ_in_all_they_may() -> None:
    table = spec(
        cell=["experiment={column}_{row}"],
        columns={"a": {"as": "digits", "metric": "x", "digits": 1}, "b": {"as": "mnist", "set": {"mask.rate": 0.5}}},
        rows={"r": {"as": "zero", "choose": ["mask=noise"], "set": {"net.training.lr": 0.1}, "better": "min"}},
    )
    row, (a, b) = table.rows[0], table.columns
    assert table.choices(row, a) == ("experiment=digits_zero", "mask=noise")
    assert table.values(row, b) == {"mask.rate": 0.5, "net.training.lr": 0.1}
    assert (table.cell_metric(row, a), table.cell_metric(row, b)) == ("x", "test/accuracy")
    assert (table.cell_digits(row, a), table.cell_digits(row, b)) == (1, 3)
    assert table.cell_better(row, a) == "min"
    assert table.printed(row, a) is None


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"colums": {}}, "unknown key 'colums'"),
        ({"rows": {}}, "has no rows"),
        ({"better": "more"}, "better=more"),
        ({"compare": "cells"}, "compare=cells"),
        ({"rows": {"zero": {"lable": "x"}}}, "rows.zero has an unknown key 'lable'"),
        ({"figure": {"kind": "pie"}}, "needs a kind, one of panels, first_layers, masks, boxes"),
        ({"figure": "boxes"}, "needs a kind"),
        ({"figure": {"kind": "boxes", "maps": 3}}, "figure.maps is not an option of boxes; its options are series"),
    ],
)
def test_a_mistake_in_a_table_is_one_sentence(changes: dict, words: str) -> None:
    with pytest.raises(LacunaError, match=words):
        spec(**changes)


def test_a_paper_that_prints_no_such_table() -> None:
    with pytest.raises(LacunaError, match="misconv/table11"):
        paper_table("misconv/table11")
