"""A table's page: pictures first, then the numbers and what they say in words, then how they came about."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lacuna.report.imputation_rows import FILE, imputation_rows
from lacuna.report.render import render
from lacuna.report.verdict import listed, verdict
from lacuna.tables.gather import gather
from lacuna.tables.plan import Plan
from tests.drawing.test_html_page import read
from tests.report.filled import filled
from tests.tables.planning import spec

DETAILS = ("Learning curves", "Protocol", "Data", "Pictures of the runs", "Runs", "The same table")


def with_images(found: Plan, **changed: np.ndarray) -> Plan:
    """Every finished run kept ten test images; what MisConv's kept has a standard deviation, too."""
    random = np.random.default_rng(0)
    truth = random.random((10, 1, 8, 8)).astype(np.float16)
    mask = random.random((10, 1, 8, 8)) < 0.5
    for run in found.runs.values():
        if run.folder.finished:
            gt = "-gt-" in run.recipe.name
            arrays = {"truth": truth, "mask": mask | gt, "known": mask | True, "recovered": np.where(mask, truth, 0)}
            if "misconv" in run.recipe.name:
                arrays["recovered"] = np.where(mask, truth, np.float16(0.5))
                arrays["deviation"] = np.where(mask, 0, 0.25).astype(np.float16)
            run.folder.pictures.mkdir(exist_ok=True)
            np.savez_compressed(run.folder.pictures / FILE, allow_pickle=False, **(arrays | changed))
            Image.new("RGB", (40, 40)).save(run.folder.pictures / "imputations.png")
    return found


def headings(page: Path) -> list[str]:
    return re.findall(r"<h2>(.*?)</h2>", page.read_text(encoding="utf-8"))


def test_pictures_stand_before_the_table_and_the_table_before_the_details(digits_root: Path, tmp_path: Path) -> None:
    (page,) = render(with_images(filled(digits_root, tmp_path)), tmp_path / "tables")
    assert headings(page) == ["Pictures", "Results", *DETAILS]
    html = page.read_text(encoding="utf-8")
    places = [html.index(part) for part in ("<img ", "<p>square: MisConv is best", "<table", "<polyline", "<dl")]
    assert places == sorted(places)
    read(html)  # every tag is closed


def test_without_kept_images_the_runs_pictures_come_first(digits_root: Path, tmp_path: Path) -> None:
    found = with_images(filled(digits_root, tmp_path))
    for run in found.runs.values():
        (run.folder.pictures / FILE).unlink(missing_ok=True)
    (page,) = render(found, tmp_path / "tables")
    assert headings(page) == ["Pictures", "Results", *(each for each in DETAILS if "Pictures" not in each)]


def test_a_page_without_any_picture_opens_with_the_results(digits_root: Path, tmp_path: Path) -> None:
    (page,) = render(filled(digits_root, tmp_path), tmp_path / "tables")
    assert headings(page)[0] == "Results"


def test_the_panel_shows_truth_observed_imputations_and_uncertainty(digits_root: Path, tmp_path: Path) -> None:
    (result,) = gather(with_images(filled(digits_root, tmp_path, spec(columns={"square": {"label": "square"}}))))
    (panel,) = imputation_rows(result)  # the images of the upper bound have no missing pixels: no panel of theirs
    uncertainty = "uncertainty: standard deviation of the density (MisConv)"
    assert [title for title, _ in panel.rows] == ["truth", "observed", "zero", "MisConv", uncertainty]
    assert {image.size for _, image in panel.rows} == {(8 * 64 + 7 * 3, 64)}  # 8 images of 64 pixels, 3 between them
    assert "brightest 0.25" in panel.caption


def test_equal_imputations_are_shown_once(digits_root: Path, tmp_path: Path) -> None:
    found = filled(digits_root, tmp_path, spec(columns={"square": {"label": "square"}}))
    with_images(found, recovered=np.full((10, 1, 8, 8), 0.5, np.float16))
    (panel,) = imputation_rows(gather(found)[0])
    assert [title for title, _ in panel.rows][2] == "zero and MisConv"


@pytest.mark.parametrize("bytes_", [b"", b"PK\x03\x04 cut short"])
def test_damaged_images_are_left_out(bytes_: bytes, digits_root: Path, tmp_path: Path) -> None:
    found = with_images(filled(digits_root, tmp_path))
    for run in found.runs.values():
        if run.folder.finished:
            (run.folder.pictures / FILE).write_bytes(bytes_)
    assert imputation_rows(gather(found)[0]) == []


def test_the_verdict_follows_the_marks(digits_root: Path, tmp_path: Path) -> None:
    (result,) = gather(filled(digits_root, tmp_path))
    assert verdict(result) == [
        "square: MisConv is best: 0.900, significantly better than zero.",
        "noise: MisConv has the best mean, 0.801, not significantly different from zero.",
    ]


def test_one_seed_has_no_verdict(digits_root: Path, tmp_path: Path) -> None:
    assert verdict(gather(filled(digits_root, tmp_path, seeds=(0,)))[0]) == []


def test_names_in_a_sentence() -> None:
    assert [listed(names) for names in (["a"], ["a", "b"], ["a", "b", "c"])] == ["a", "a and b", "a, b and c"]
