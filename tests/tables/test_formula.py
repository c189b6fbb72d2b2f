"""``formula=`` reaches every MisConv layer of a table and nothing else; rows that are about a formula keep theirs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from lacuna.config.compose import compose
from lacuna.config.paths import CONFIGS
from lacuna.errors import LacunaError
from lacuna.tables.options import RunOptions
from lacuna.tables.plan import Plan, plan_tables
from lacuna.tables.request import run_options
from tests.tables import planning
from tests.tables.finished import _composer

ROWS = {"zero": {}, "misconv": {}, "mine": {"as": "misconv", "set": {"stem.formula": "exact"}}}


def options(root: Path, output: Path, *words: str, behind: tuple[str, ...] = ()) -> RunOptions:
    own = ["table=demo", "budget=smoke", f"data.root={root}", f"output={output}", "trainer.accelerator=cpu"]
    config: dict[str, Any] = compose(CONFIGS, "reproduce", [*own, *words])
    return run_options({**config, "overrides": list(behind)}, prepare=False)


def planned(root: Path, output: Path, *words: str, **more: Any) -> Plan:
    return plan_tables([planning.spec(rows=ROWS)], _composer(), options(root, output, *words, **more))


def formulas(plan: Plan) -> dict[str, object]:
    cells = plan.tables[0].cells
    return {cell.row.key: cell.recipes[0].config["stem"].get("formula") for cell in cells}


def test_it_reaches_every_misconv_layer(digits_root: Path, tmp_path: Path) -> None:
    usual = planned(digits_root, tmp_path)
    assert formulas(usual) == {"zero": None, "misconv": "exact", "mine": "exact"}
    authors = planned(digits_root, tmp_path, "formula=authors")
    assert formulas(authors) == {"zero": None, "misconv": "authors", "mine": "exact"}
    # the same as the long word behind --, and another table than the usual one
    long = planned(digits_root, tmp_path, behind=("stem.formula=authors",))
    assert list(long.runs) == list(authors.runs)
    assert long.tables[0].folder == authors.tables[0].folder != usual.tables[0].folder
    assert authors.tables[0].overrides == ("stem.formula=authors",)
    assert planned(digits_root, tmp_path, "formula=exact").tables[0].folder == usual.tables[0].folder


def test_the_same_runs_serve_what_a_row_says_itself(digits_root: Path, tmp_path: Path) -> None:
    def of(plan: Plan, row: str) -> str:
        return next(cell.recipes[0].identity for cell in plan.tables[0].cells if cell.row.key == row)

    usual, paper = planned(digits_root, tmp_path), planned(digits_root, tmp_path, "formula=paper")
    assert of(usual, "mine") == of(usual, "misconv") == of(paper, "mine") != of(paper, "misconv")


@pytest.mark.parametrize(
    ("words", "behind", "sentence"),
    [
        (("formula=printed",), (), "formula=printed must be one of exact, paper, authors"),
        (("formula=paper",), ("stem.formula=authors",), "set the same key"),
    ],
)
def test_a_mistake_is_one_sentence(words: tuple[str, ...], behind: tuple[str, ...], sentence: str, tmp_path) -> None:
    with pytest.raises(LacunaError, match=sentence):
        options(tmp_path, tmp_path, *words, behind=behind)


def test_what_every_row_sets_itself_cannot_be_changed(digits_root: Path, tmp_path: Path) -> None:
    only = planning.spec(rows={"mine": ROWS["mine"]})
    with pytest.raises(LacunaError, match=r"stem\.formula: all cells of these tables that have this key set it"):
        plan_tables([only], _composer(), options(digits_root, tmp_path, "formula=paper"))
