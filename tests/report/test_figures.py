"""Figures go through the plan of tables, are drawn from what runs left behind, and have holes where that is missing."""

from __future__ import annotations

import base64
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from lacuna.errors import LacunaError
from lacuna.report import figures
from lacuna.report.figures import draw_figure
from lacuna.report.imputation_rows import FILE, imputation_rows
from lacuna.report.render import render, text
from lacuna.tables.gather import gather
from lacuna.tables.plan import DONE, TODO, Plan
from lacuna.tables.spec import FIGURES
from tests.runs.real import ROOT, train
from tests.tables.finished import finish, plan
from tests.tables.planning import spec

RED, BLUE = (230, 20, 20), (20, 20, 230)
ROWS: dict[str, Any] = {"mfa_mean": {"label": "MFA imputation"}, "misconv": {"label": "MisConv"}}
COLUMN: dict[str, Any] = {"digits": {"label": "digits"}}


def planned(root: Path, output: Path, seeds: tuple[int, ...] = (0,), **changes: Any) -> Plan:
    made = {"name": "tests/figure", "metric": "", "rows": ROWS, "columns": COLUMN, **changes}
    return plan(root, output, spec(**made), seeds=seeds)


def share(picture: Image.Image, colour: tuple[int, int, int]) -> float:
    return float((np.abs(np.asarray(picture.convert("RGB")).astype(int) - colour).max(-1) < 8).mean())


def test_every_kind_that_a_config_may_name_can_be_drawn() -> None:
    assert figures.KINDS.keys() == FIGURES.keys()


def test_panels_show_every_runs_pictures_and_say_what_is_missing(digits_root: Path, tmp_path: Path) -> None:
    found = planned(digits_root, tmp_path, (0, 1), figure={"kind": "panels", "pictures": ["samples"]})
    # one seed is enough for a figure, whatever the tables beside it have
    assert found.tables[0].seeds == (0,) and all(len(cell.recipes) == 1 for cell in found.tables[0].cells)
    first = found.tables[0].cells[0].recipes[0]
    finish(first, tmp_path, {})
    pictures = found.runs[first.identity].folder.pictures
    pictures.mkdir()
    Image.new("RGB", (300, 200), RED).save(pictures / "samples.png")
    (result,) = gather(found)
    assert [cell.state for cell in result.cells] == [DONE, TODO]
    picture = draw_figure(result)
    assert share(picture, RED) * picture.width * picture.height == pytest.approx(300 * 200)
    (page,) = render(found, tmp_path / "tables")
    shown = page.read_text(encoding="utf-8")
    assert "MisConv, digits" in shown and "to do" in shown and first.name in shown
    (inside,) = re.findall(r"data:image/png;base64,([^\"]+)", shown)
    assert base64.b64decode(inside) == (page.parent / "figure.png").read_bytes()
    assert not (page.parent / "table.md").exists()
    assert "tests/figure: A table (a figure)" in text(found) and "missing: MisConv, digits: to do" in text(found)
    (pictures / "samples.png").write_bytes(b"cut short")
    (result,) = gather(found)
    assert share(draw_figure(result), RED) == 0


def test_large_pictures_are_made_smaller(digits_root: Path, tmp_path: Path) -> None:
    from lacuna.drawing.panels import picture_panels

    picture = picture_panels([[Image.new("RGB", (2000, 500), RED), "no"]], ["a row"], ["one", "two"], widest=400)
    assert share(picture, RED) * picture.width * picture.height == pytest.approx(400 * 100, rel=0.05)
    with pytest.raises(LacunaError, match="needs a panel for each"):
        picture_panels([["one"]], ["a"], ["b", "c"])


def test_boxes_are_those_of_the_stored_times(digits_root: Path, tmp_path: Path) -> None:
    rows = {"small": {"set": {"timing.batch": 2}}, "large": {"set": {"timing.batch": 4}}}
    options = {"kind": "boxes", "series": ["conv", "misconv"]}
    found = planned(digits_root, tmp_path, cell=["experiment=timing"], rows=rows, figure=options)
    (result,) = gather(found)
    empty = np.asarray(draw_figure(result))
    first = found.tables[0].cells[0].recipes[0]
    path = finish(first, tmp_path, {})
    times = {"conv": [0.001, 0.0012, 0.0011], "misconv": [0.004, 0.005, 0.0045], "misconv_compiled": [0.002] * 3}
    (path / "times.json").write_text(json.dumps(times))
    (result,) = gather(found)
    assert figures._times(result.cells[0]) == times and figures._times(result.cells[1]) == "to do"
    drawn = np.asarray(draw_figure(result))
    assert drawn.shape != empty.shape and share(Image.fromarray(drawn), (255, 255, 255)) < 1
    (path / "times.json").write_text("[]")
    assert "no times.json" in str(figures._times(gather(found)[0].cells[0]))


@pytest.fixture(scope="module")
def trained(digits_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Plan:
    """The two runs of figure 3, on digits."""
    output = tmp_path_factory.mktemp("figure3")
    found = planned(digits_root, output, cell=["experiment={column}_{row}"], figure={"kind": "first_layers", "maps": 4})
    own = ("budget=smoke", f"data.root={digits_root}", f"output={output}", "trainer.accelerator=cpu")
    for row in ROWS:
        assert train(f"experiment=digits_{row}", *own, "trainer.progress=false") == 0
    return found


def arrays(found: Plan, row: str) -> dict[str, np.ndarray]:
    (result,) = gather(found)
    cell = next(cell for cell in result.cells if cell.cell.row.key == row)
    assert cell.state == DONE
    layer = figures._first_layer(cell)
    assert not isinstance(layer, str)
    return dict(layer)


def test_both_runs_are_about_the_same_image(trained: Plan) -> None:
    one, other = arrays(trained, "mfa_mean"), arrays(trained, "misconv")
    for name in ("truth", "observed", "mask"):
        np.testing.assert_array_equal(one[name], other[name])
    assert not other["mask"].all() and (other["observed"][~other["mask"]] == 0).all()
    assert "features_of_mean" not in one and one["features"].shape == other["features"].shape == (32, 8, 8)
    # one density behind both: the same filling, but that an image has no values beyond 0 and 1
    np.testing.assert_allclose(one["filled"], other["filled"].clip(0, 1), atol=1e-6)


def test_uncertainty_adds_only_and_only_where_it_reaches(trained: Plan) -> None:
    """Jensen: E[ReLU(conv Z)] >= ReLU(conv E[Z]), equal where the window sees no hole."""
    layer = arrays(trained, "misconv")
    added = layer["features"] - layer["features_of_mean"]
    hole = ~layer["mask"][0]
    padded = np.pad(hole, 1)
    near = np.any([padded[1 + i : 9 + i, 1 + j : 9 + j] for i in (-1, 0, 1) for j in (-1, 0, 1)], axis=0)
    assert added.min() > -1e-5 and added[:, near].max() > 1e-3
    np.testing.assert_allclose(added[:, ~near], 0, atol=1e-6)


def test_runs_keep_their_test_images_for_the_top_of_a_page(trained: Plan) -> None:
    (result,) = gather(trained)
    (panel,) = imputation_rows(result)
    both, uncertainty = "MFA imputation and MisConv", "uncertainty: standard deviation of the density (MisConv)"
    assert [title for title, _ in panel.rows] == ["truth", "observed", both, uncertainty]
    misconv = next(cell for cell in result.cells if cell.cell.row.key == "misconv")
    with np.load(misconv.done[0].folder.pictures / FILE) as kept:
        assert (kept["deviation"][kept["mask"]] == 0).all() and (kept["deviation"][~kept["mask"]] > 0).all()


def test_first_layers_share_a_scale_and_may_be_missing(trained: Plan, tmp_path: Path) -> None:
    (result,) = gather(trained)
    picture = draw_figure(result)
    assert picture.width > 4 * 64 and picture.height > 5 * 64  # an image, two runs, two rows of the same filters
    misconv = next(cell for cell in result.cells if cell.cell.row.key == "misconv")
    stored = misconv.done[0].folder.pictures / "first_layer.npz"
    whole = stored.read_bytes()
    try:
        stored.write_bytes(whole[:100])
        assert figures._first_layer(misconv) == "its run has no first_layer.npz"
        assert draw_figure(result).height < picture.height
    finally:
        stored.write_bytes(whole)


def test_masks_are_drawn_on_the_data_without_any_run(digits_root: Path, tmp_path: Path) -> None:
    rows = {"square": {"label": "square"}, "noise": {"label": "noise"}}
    options = {"kind": "masks", "images": 5}
    changes: dict[str, Any] = {"cell": ["experiment=digits_zero", "mask={row}"], "rows": rows, "figure": options}
    found = planned(digits_root, tmp_path, **changes)
    assert not found.runs and not found.missing_data
    (result,) = gather(found)
    assert all(cell.state == DONE for cell in result.cells)
    truth, shown = figures._masked(result.cells[0].cell.config or {}, 5)
    assert len(truth) == 5 and (~shown).sum((1, 2, 3)).tolist() == [16] * 5  # 4x4 of 8x8
    (page,) = render(found, tmp_path / "tables")
    said = page.read_text(encoding="utf-8")
    assert "square(fraction=0.5)" in said and "budget" not in said
    absent = planned(tmp_path / "nothing", tmp_path, **changes)
    assert absent.missing_data == ("digits",)
    (result,) = gather(absent)
    assert result.cells[0].reason == "the data are not on this machine" and draw_figure(result).width > 100


@pytest.mark.parametrize(
    ("figure", "sentence"),
    [({"kind": "first_layers", "maps": 0}, "figure.maps=0"), ({"kind": "masks", "images": "x"}, "figure.images=x")],
)
def test_options_without_sense_are_one_sentence(figure: dict, sentence: str, digits_root: Path, tmp_path: Path) -> None:
    (result,) = gather(planned(digits_root, tmp_path, figure=figure))
    with pytest.raises(LacunaError, match=sentence):
        draw_figure(result)


def test_figures_are_planned_and_drawn_without_torch(digits_root: Path, tmp_path: Path) -> None:
    words = ["budget=smoke", f"output={tmp_path / 'out'}", f"data.root={digits_root}", "trainer.accelerator=cpu"]
    code = (
        "import sys; from lacuna.verbs.command import verb\n"
        "for more in ('table=misconv/figure4 plan=true', 'table=misconv/figure3 render=true',\n"
        "             'table=misconv/figure5 render=true'):\n"
        f"    assert verb('reproduce', 'lacuna.verbs.reproduce:main')([*more.split(), *{words!r}]) == 0\n"
        "    assert 'torch' not in sys.modules, more"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out" / "tables" / "misconv" / "figure5-smoke" / "figure.png").is_file()
