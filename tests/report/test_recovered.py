"""The figures of recovered images: other images where they say so, holes with reasons, errors on one scale for all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pytest
from PIL import Image

from lacuna.config.composer import Composer
from lacuna.config.paths import CONFIGS
from lacuna.drawing.pictures import GAP
from lacuna.errors import LacunaError
from lacuna.report.figures import draw_figure
from lacuna.report.recovered import recovered
from lacuna.tables.gather import gather
from lacuna.tables.plan import Plan
from lacuna.tables.request import find_tables
from lacuna.tables.spec import TableSpec
from tests.tables.finished import finish, plan
from tests.tables.planning import spec

COMPOSER = Composer(CONFIGS, "reproduce")
SIDE, N = 8, 12
TRUTH = np.random.default_rng(0).random((N, 1, SIDE, SIDE)) * 0.5 + 0.25
MASK = np.random.default_rng(1).random((N, 1, SIDE, SIDE)) < 0.2
BRIGHT = tuple(int(value) for value in matplotlib.colormaps["magma"](1.0, bytes=True)[:3])


def specs(name: str) -> list[TableSpec]:
    return find_tables(COMPOSER.base([f"table={name}"])["table"], COMPOSER)


def planned(root: Path, output: Path, *rows: str, **options: Any) -> Plan:
    made: dict[str, Any] = {"name": "tests/figure", "metric": "", "cell": ["experiment=digits_impute", "imputer={row}"]}
    columns = {"p80": {"label": "80 %", "set": {"mask.rate": 0.8}}}
    figure = {"kind": "recovered", **options}
    return plan(root, output, spec(**made, columns=columns, rows={row: {} for row in rows}, figure=figure))


def keep(found: Plan, output: Path, **off: float) -> None:
    """Let the runs of these rows be done: what each made of the holes is off by so much."""
    for cell in found.tables[0].cells:
        if cell.row.key not in off:
            continue
        finish(cell.recipes[0], output, {})
        folder = found.runs[cell.recipes[0].identity].folder.pictures
        folder.mkdir()
        made = np.where(MASK, TRUTH, TRUTH + off[cell.row.key])
        np.savez(folder / "imputations.npz", truth=TRUTH, recovered=made, mask=MASK, known=np.ones_like(MASK))


def drawn(found: Plan) -> Image.Image:
    (result,) = gather(found)
    return draw_figure(result)


def count(picture: Image.Image, colour: tuple[int, ...]) -> int:
    return int((np.asarray(picture).astype(int) == colour).all(-1).sum())


@pytest.mark.parametrize(("error", "bright"), [(0.04, ("mean",)), (0.01, ("mean", "zero")), (0.25, ())])
def test_errors_have_one_scale(error: float, bright: tuple[str, ...], digits_root: Path, tmp_path: Path) -> None:
    """Off by .2 and .1: one is as bright as the other only where both are beyond the scale's end."""
    off = {"mean": 0.2001, "zero": 0.1001}
    found = planned(digits_root, tmp_path, *off, images=5, error=error)
    keep(found, tmp_path, **off)
    holes = int((~MASK[:5]).sum()) * 8 * 8  # an image pixel is 8 pixels wide
    bar = 160 * 12
    assert holes * len(bright) <= count(drawn(found), BRIGHT) <= holes * len(bright) + bar


def test_other_images_are_shown_behind_those_that_are_skipped(digits_root: Path, tmp_path: Path) -> None:
    found = planned(digits_root, tmp_path, "mean", images=4)
    keep(found, tmp_path, mean=0.0)
    (result,) = gather(found)
    first, second, all_of_them = (
        np.asarray(recovered(result, images=n, skip=skip)) for n, skip in ((4, 0), (4, 4), (8, 0))
    )
    assert first.shape == second.shape and (first != second).any()
    wide, shift = all_of_them.shape[1] - first.shape[1], 4 * (64 + GAP)
    assert wide in (0, shift)  # the legend may be wider than four images are
    left = int(np.argwhere((all_of_them != 255).any(-1)[60])[0, 0])  # the first pixel of the first true image's line
    top = slice(45, 90)
    for part, start in ((first, left), (second, left + shift)):
        columns = slice(left, left + 4 * 64)
        assert (part[top, columns] == all_of_them[top, start : start + 4 * 64]).all()


def test_what_is_missing_is_a_hole_with_its_reason(digits_root: Path, tmp_path: Path) -> None:
    found = planned(digits_root, tmp_path, "mean", "zero", "linear", images=3, skip=2)
    empty = drawn(found)
    keep(found, tmp_path, mean=0.1, zero=0.1)
    assert drawn(found).height > empty.height
    folder = next(run.folder for run in found.runs.values() if run.cells == ["tests/figure: zero, 80 %"]).pictures
    full = drawn(found)
    for damage in (b"cut short", None):
        (folder / "imputations.npz").unlink()
        if damage is not None:
            (folder / "imputations.npz").write_bytes(damage)
        assert count(drawn(found), (240, 241, 244)) > count(full, (240, 241, 244))


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"images": 0}, r"figure\.images=0 must be a whole number of at least 1"),
        ({"skip": -1}, r"figure\.skip=-1 must be a whole number of at least 0"),
        ({"skip": True}, r"figure\.skip=True"),
        ({"error": 0}, r"figure\.error=0 must be above 0 and at most 1"),
        ({"error": "all"}, r"figure\.error=all"),
    ],
)
def test_a_mistake_is_one_sentence(options: dict[str, Any], sentence: str, digits_root: Path, tmp_path: Path) -> None:
    with pytest.raises(LacunaError, match=sentence):
        drawn(planned(digits_root, tmp_path, "mean", **options))


def test_the_papers_figures_are_there() -> None:
    every = {table.name: table for table in specs("prflow/all") if table.figure is not None}
    assert list(every) == [f"prflow/figure{number}" for number in (2, 3, 4, 5)]
    rates = {name: [column.set["mask.rate"] for column in table.columns] for name, table in every.items()}
    assert rates["prflow/figure2"] == [0.8, 0.9] and rates["prflow/figure3"] == [0.9]
    for table in (*every.values(), *specs("prflow/digits_figure")):
        assert [row.key for row in table.rows] == ["misgan", "pbigan", "mcflow", "prflow", "linear", "biharmonic"]
    second, third = (every[f"prflow/figure{number}"].figure for number in (2, 3))
    assert second is not None and third is not None
    assert third["images"] == 4 and third["skip"] >= second["images"]  # other images than in figure 2
    assert "prflow/digits_figure" not in {table.name for table in specs("all")}
