"""The page of gaps says what the runs say: verdicts by noise, signs by direction, nothing where nothing is measured."""

from __future__ import annotations

import dataclasses
import importlib.util
import types
from collections.abc import Mapping
from pathlib import Path

import pytest

from lacuna.tables.gaps import REVERSED, SURVIVES, UNCLAIMED, UNJUDGED, UNMEASURED, VANISHES, Gap, gaps, gaps_page
from lacuna.tables.gather import TableResult, gather
from lacuna.tables.plan import Plan
from tests.runs.real import ROOT
from tests.tables.finished import finish, plan
from tests.tables.planning import spec

ROWS = {"zero": {}, "mask": {}, "misconv": {"label": "MisConv"}, "gt": {"reference": True}}
PAPER = {"zero": 0.80, "mask": 0.95, "misconv": 0.90, "gt": 0.99}
COLUMNS = {"square": {"label": "square"}}


def printed(found: Plan, paper: Mapping[str, float]) -> Plan:
    """The plan with other numbers in print, by row."""
    tables = []
    for table in found.tables:
        cells = tuple(dataclasses.replace(cell, paper=paper.get(cell.row.key)) for cell in table.cells)
        tables.append(dataclasses.replace(table, cells=cells))
    return Plan(tuple(tables), found.output, found.runs)


def result(
    root: Path,
    output: Path,
    values: Mapping[str, tuple[float, ...]],
    *,
    paper: Mapping[str, float] = PAPER,
    metric: str = "test/accuracy",
    **changes: object,
) -> TableResult:
    """A table of made runs: by row, a value for each seed."""
    seeds = tuple(range(max(map(len, values.values()), default=1)))
    made = plan(root, output, spec(rows=ROWS, columns=COLUMNS, metric=metric, **changes), seeds=seeds)
    for cell in made.tables[0].cells:
        for recipe, value in zip(cell.recipes, values.get(cell.row.key, ()), strict=False):
            finish(recipe, output, {metric: value})
    (found,) = gather(printed(made, paper))
    return found


def by_rival(found: TableResult) -> dict[str, Gap]:
    return {gap.rival.key: gap for gap in gaps(found)}


def test_verdicts_over_seeds(digits_root: Path, tmp_path: Path) -> None:
    values = {"zero": (0.7, 0.71, 0.72), "mask": (0.5, 0.51, 0.52), "misconv": (0.9, 0.91, 0.92)}
    found = by_rival(result(digits_root, tmp_path, values))
    assert found.keys() == {"zero", "mask"}  # the upper bound is no rival
    assert (found["zero"].published, found["zero"].ours) == (pytest.approx(0.1), pytest.approx(0.2))
    assert found["zero"].verdict == SURVIVES and found["zero"].seeds == (3, 3)
    # in print the other one is better, here it is not
    assert found["mask"].published == pytest.approx(-0.05) and found["mask"].verdict == REVERSED


def test_a_gap_within_noise_vanishes(digits_root: Path, tmp_path: Path) -> None:
    found = by_rival(result(digits_root, tmp_path, {"zero": (0.80, 0.90), "misconv": (0.86, 0.91)}))
    assert found["zero"].ours == pytest.approx(0.035) and found["zero"].verdict == VANISHES
    assert found["mask"].verdict == UNMEASURED and found["mask"].ours is None and found["mask"].seeds == (0, 0)


@pytest.mark.parametrize(("ours", "verdict"), [(0.75, SURVIVES), (0.71, VANISHES), (0.60, REVERSED)])
def test_one_seed_is_judged_by_its_test_images(ours: float, verdict: str, digits_root: Path, tmp_path: Path) -> None:
    # 500 images: the standard error of a difference around 0.7 is sqrt(2 * 0.21 / 500) = 0.029, 1.96 of them 0.057
    found = by_rival(result(digits_root, tmp_path, {"zero": (0.685,), "misconv": (ours,)}))
    assert found["zero"].noise == pytest.approx(0.057, abs=0.003)
    assert found["zero"].verdict == verdict


def test_less_may_be_better_and_one_seed_of_it_is_not_judged(digits_root: Path, tmp_path: Path) -> None:
    paper = {"zero": 9.7, "mask": 9.6, "misconv": 9.6}
    values = {"zero": (30.0,), "mask": (20.0,), "misconv": (25.0,)}
    found = by_rival(result(digits_root, tmp_path, values, paper=paper, metric="test/fid_best", better="min"))
    assert found["zero"].published == pytest.approx(0.1) and found["zero"].ours == pytest.approx(5.0)
    assert found["zero"].verdict == UNJUDGED
    assert found["mask"].verdict == UNCLAIMED


def test_the_page_is_made_of_the_results(digits_root: Path, tmp_path: Path) -> None:
    values = {"zero": (0.7, 0.71, 0.72), "misconv": (0.9, 0.91, 0.92)}
    page = gaps_page([result(digits_root, tmp_path, values)])
    assert (
        "Of 1 published gaps in favour of MisConv: 1 survives. Of 1 published gaps against it: 1 not measured." in page
    )
    assert "| zero | **survives**: in print +0.100, here +0.200 ± 0.023 |" in page
    assert "| mask | **not measured**: in print −0.050 |" in page
    assert "budget smoke; values a number: 3; test images: 500" in page
    assert "> - budget smoke: fewer images or epochs, or lighter networks, than the full setting (table)" in page
    assert str(tmp_path) not in page


def test_tables_without_the_method_or_numbers_in_print_have_none(digits_root: Path, tmp_path: Path) -> None:
    found = result(digits_root, tmp_path, {"zero": (0.7,), "misconv": (0.9,)}, paper={})
    assert gaps(found) == []
    assert "Of 0 published gaps in favour of MisConv: none." in gaps_page([found])


def script() -> types.ModuleType:
    made = importlib.util.spec_from_file_location("gaps_script", ROOT / "scripts" / "gaps.py")
    assert made is not None and made.loader is not None
    module = importlib.util.module_from_spec(made)
    made.loader.exec_module(module)
    return module


def test_the_command_writes_the_page_of_a_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["table=misconv/table8", f"output={tmp_path / 'out'}", f"data.root={tmp_path / 'data'}", "budget=quick"]
    assert script().main([*words, "--to", str(tmp_path / "gaps.md")]) == 0
    page = (tmp_path / "gaps.md").read_text(encoding="utf-8")
    # table 8 as printed: 0.931, 0.757 and 0.722 against 0.923, 0.720 and 0.716
    for published in ("+0.008", "+0.037", "+0.006"):
        assert f"**not measured**: in print {published}" in page
    assert not (tmp_path / "data").exists()
    # what stands in print once is counted once: the paper has 3 numbers for SMFA, and so many gaps
    assert script().main([*words[1:], "table=misconv/table6", "--to", str(tmp_path / "gaps.md")]) == 0
    page = (tmp_path / "gaps.md").read_text(encoding="utf-8")
    assert "Of 3 published gaps in favour of MisConv: 3 not measured." in page
    assert "| SMFA as published (a reference) |" in page and "not counted" in page
    corrected = ["table=misconv/baselines", *words[1:], "--to", str(tmp_path / "gaps.md")]
    assert script().main(corrected) == 0
    assert "Of 0 published gaps" in (tmp_path / "gaps.md").read_text(encoding="utf-8")
    assert script().main(["table=misconv/tabel8"]) == 2
    assert "There is no table" in capsys.readouterr().err
