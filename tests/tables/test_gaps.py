"""Verdicts on published gaps: by the interval of our difference, signs by direction, none where it has no interval."""

from __future__ import annotations

import dataclasses
import importlib.util
import random
import types
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import pytest
from scipy import stats

from lacuna.report.gaps_page import gaps_page
from lacuna.tables.gaps import (
    INCONCLUSIVE,
    ONE_SEED,
    PROPOSALS,
    REFUTED,
    REPRODUCED,
    REVERSED,
    UNCLAIMED,
    UNMEASURED,
    Gap,
    Proposal,
    gaps,
    judge,
)
from lacuna.tables.gather import TableResult, gather
from lacuna.tables.plan import Plan
from tests.runs.real import ROOT
from tests.tables.finished import finish, plan
from tests.tables.planning import spec

ROWS = {"zero": {}, "mask": {}, "misconv": {"label": "MisConv"}, "gt": {"reference": True}}
PAPER = {"zero": 0.80, "mask": 0.95, "misconv": 0.90, "gt": 0.99}
MISCONV = PROPOSALS["misconv"]
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
    return {gap.rival.key: gap for gap in gaps(found, MISCONV)}


def welch(one: tuple[float, ...], other: tuple[float, ...], level: float) -> tuple[float, float]:
    low, high = stats.ttest_ind(one, other, equal_var=False).confidence_interval(1 - level)
    return float(low), float(high)


def test_every_state_follows_from_the_interval_and_no_other() -> None:
    """By the definitions: which of 0 and the printed gap lie inside, and on which side of 0 the interval is."""
    rng = random.Random(20261120)
    seen = Counter[str]()
    for _ in range(2000):
        published = rng.choice((-1, 1)) * rng.uniform(0.1, 3)
        low = rng.uniform(-4, 3)
        high = low + rng.uniform(0, 4)
        zero, gap = low <= 0 <= high, low <= published <= high
        true = {
            REPRODUCED: not zero and low * published > 0,
            REVERSED: not zero and low * published < 0,
            REFUTED: zero and not gap,
            INCONCLUSIVE: zero and gap,
        }
        verdict = judge(published, (low, high))
        assert [state for state, holds in true.items() if holds] == [verdict]
        # seen from the other method, nothing changes
        assert judge(-published, (-high, -low)) == verdict
        seen[verdict] += 1
    assert len(seen) == 4


def test_verdicts_over_seeds(digits_root: Path, tmp_path: Path) -> None:
    values = {"zero": (0.7, 0.71, 0.72), "mask": (0.5, 0.51, 0.52), "misconv": (0.9, 0.91, 0.92)}
    found = by_rival(result(digits_root, tmp_path, values))
    assert found.keys() == {"zero", "mask"}  # the upper bound is no rival
    assert (found["zero"].published, found["zero"].ours) == (pytest.approx(0.1), pytest.approx(0.2))
    assert found["zero"].verdict == REPRODUCED and found["zero"].seeds == (3, 3)
    # in print the other one is better, here it is not
    assert found["mask"].published == pytest.approx(-0.05) and found["mask"].verdict == REVERSED
    # both gaps of the table are significant: Holm's procedure found the last of them at the full level
    for rival in ("zero", "mask"):
        assert found[rival].interval == pytest.approx(welch(values["misconv"], values[rival], 0.05))


@pytest.mark.parametrize(
    ("misconv", "verdict"),
    # the printed gap is 0.1; the intervals of two gaps' correction are 0.167 and 0.027 to either side of 0.05 and 0
    [((0.80, 0.85, 0.90), INCONCLUSIVE), ((0.795, 0.805, 0.800), REFUTED)],
)
def test_a_difference_that_may_be_none(
    misconv: tuple[float, ...], verdict: str, digits_root: Path, tmp_path: Path
) -> None:
    values = {"zero": (0.80, 0.81, 0.79), "misconv": misconv}
    found = by_rival(result(digits_root, tmp_path, values))
    # the other gap of the table is not measured and counts all the same
    assert found["zero"].interval == pytest.approx(welch(misconv, values["zero"], 0.05 / 2))
    assert found["zero"].verdict == verdict
    assert found["mask"].verdict == UNMEASURED and found["mask"].ours is None and found["mask"].seeds == (0, 0)


def test_what_is_significant_alone_may_not_be_so_among_the_gaps_of_a_table(digits_root: Path, tmp_path: Path) -> None:
    values = {"zero": (0.80, 0.81, 0.79), "misconv": (0.835, 0.823, 0.817)}
    assert 0.025 < stats.ttest_ind(values["misconv"], values["zero"], equal_var=False).pvalue < 0.05
    assert by_rival(result(digits_root, tmp_path, values))["zero"].verdict == REFUTED  # 0.1 is far off
    # where the paper prints no gap to the mask there is one gap in the table
    paper = {**PAPER, "mask": 0.90}
    found = by_rival(result(digits_root, tmp_path, values, paper=paper))
    assert found["zero"].verdict == REPRODUCED and found["mask"].verdict == UNCLAIMED


@pytest.mark.parametrize("seeds", [(1, 1), (1, 3), (3, 1)])
def test_one_seed_has_no_verdict(seeds: tuple[int, int], digits_root: Path, tmp_path: Path) -> None:
    """However far apart, and however many test images an accuracy was taken on."""
    hero, rival = seeds
    values = {"zero": (0.2, 0.21, 0.22)[:rival], "misconv": (0.9, 0.91, 0.92)[:hero]}
    found = result(digits_root, tmp_path, values)
    gap = by_rival(found)["zero"]
    assert gap.ours is not None and gap.ours > 0.6
    assert (gap.interval, gap.verdict, gap.seeds) == (None, ONE_SEED, seeds)
    assert f"| zero | **one seed: no verdict**; published +0.100, ours +{gap.ours:.3f} |" in gaps_page(
        [found], "misconv"
    )


def test_less_may_be_better(digits_root: Path, tmp_path: Path) -> None:
    paper = {"zero": 9.7, "mask": 9.6, "misconv": 9.6}
    values = {"zero": (30.0, 30.5), "mask": (20.0, 20.5), "misconv": (25.0, 25.5)}
    found = by_rival(result(digits_root, tmp_path, values, paper=paper, metric="test/fid_best", better="min"))
    assert found["zero"].published == pytest.approx(0.1) and found["zero"].ours == pytest.approx(5.0)
    assert found["zero"].interval == pytest.approx(welch(values["zero"], values["misconv"], 0.05))
    assert found["zero"].verdict == REPRODUCED
    assert found["mask"].verdict == UNCLAIMED


def test_another_papers_proposal_is_compared_with_its_rivals(digits_root: Path, tmp_path: Path) -> None:
    found = result(digits_root, tmp_path, {"zero": (0.7, 0.71), "misconv": (0.9, 0.91)})
    assert gaps(found, PROPOSALS["prflow"]) == []
    by_zero = gaps(found, Proposal("zeros", ("zero",), "zeros against another"))
    assert {gap.rival.key: round(gap.published, 9) for gap in by_zero} == {"mask": -0.15, "misconv": -0.1}


def test_the_page_is_made_of_the_results(digits_root: Path, tmp_path: Path) -> None:
    values = {"zero": (0.7, 0.71, 0.72), "misconv": (0.9, 0.91, 0.92)}
    page = gaps_page([result(digits_root, tmp_path, values)], "misconv")
    assert (
        "Of 1 published gap in favour of MisConv: 1 reproduced. Of 1 published gap against it: 1 not measured." in page
    )
    low, high = welch(values["misconv"], values["zero"], 0.05 / 2)
    assert f"| zero | **reproduced**; published +0.100, ours +0.200 (+{low:.3f} to +{high:.3f}) |" in page
    assert "| mask | **not measured**; published −0.050 |" in page
    assert "budget smoke; corrected for 2 gaps; seeds per number: 3; test images: 500" in page
    assert "> - budget smoke: fewer images or epochs, or lighter networks, than the full setting (table)" in page
    assert "Holm's procedure" in page and "Welch" in page and "Bonferroni" in page
    assert "There are none yet" not in page and str(tmp_path) not in page


def test_tables_without_the_method_or_numbers_in_print_have_none(digits_root: Path, tmp_path: Path) -> None:
    found = result(digits_root, tmp_path, {"zero": (0.7,), "misconv": (0.9,)}, paper={})
    assert gaps(found, MISCONV) == []
    assert "Of 0 published gaps in favour of MisConv: none." in gaps_page([found], "misconv")


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
        assert f"**not measured**; published {published}" in page
    assert "There are none yet: nothing on this page is measured." in page
    assert not (tmp_path / "data").exists()
    # what stands in print once is counted once: the paper has 3 numbers for SMFA, and so many gaps
    assert script().main([*words[1:], "table=misconv/table6", "--to", str(tmp_path / "gaps.md")]) == 0
    page = (tmp_path / "gaps.md").read_text(encoding="utf-8")
    assert "Of 3 published gaps in favour of MisConv: 3 not measured." in page
    assert "| SMFA as published (a reference) |" in page and "not counted here" in page
    corrected = ["table=misconv/baselines", *words[1:], "--to", str(tmp_path / "gaps.md")]
    assert script().main(corrected) == 0
    assert "Of 0 published gaps" in (tmp_path / "gaps.md").read_text(encoding="utf-8")
    assert script().main(["table=misconv/tabel8"]) == 2
    assert "There is no table" in capsys.readouterr().err


@pytest.mark.slow
def test_the_command_writes_the_other_papers_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [f"output={tmp_path / 'out'}", f"data.root={tmp_path / 'data'}", "--to", str(tmp_path / "gaps.md")]
    table = ["table=prflow/table3_mnist", "rows=[linear,misgan,pbigan,mcflow,prflow]"]
    assert script().main(["--paper", "prflow", *table, *words]) == 0
    page = (tmp_path / "gaps.md").read_text(encoding="utf-8")
    # as printed: PBiGAN is better at 90 %, MCFlow at every rate
    assert "Of 7 published gaps in favour of PRFlow: 7 not measured. Of 5 published gaps against it: 5 not" in page
    assert "corrected for 12 gaps" in page and "| against | 60 % | 70 % | 80 % | 90 % |" in page
    assert "| MCFlow | **not measured**; published −0.0030 |" in page and "linear" not in page
    assert script().main([*table, *words]) == 2
    assert "table=prflow/table3_mnist has no number of the paper misconv" in capsys.readouterr().err
