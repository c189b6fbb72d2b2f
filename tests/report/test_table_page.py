"""The HTML page of a table: its links, pictures and curves."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote

import pytest
from PIL import Image

from lacuna.report import table_page as page
from lacuna.report.curves import mean_curve, panels_of
from lacuna.report.render import render
from lacuna.tables.gather import gather
from tests.drawing.test_html_page import read
from tests.report.filled import filled, written
from tests.tables.finished import finish
from tests.tables.planning import spec


def test_the_page_is_alone_and_its_links_lead_somewhere(digits_root: Path, tmp_path: Path) -> None:
    found = filled(digits_root, tmp_path / "out dir")
    (path,) = render(found, tmp_path / "out dir" / "tables")
    reader = read(path.read_text(encoding="utf-8"))
    links = [attributes["href"] for tag, attributes in reader.tags if tag == "a"]
    assert len(links) >= 5 + 3
    for link in links:
        assert link is not None and (path.parent / unquote(link)).exists(), link
    for tag, attributes in reader.tags:
        assert tag not in ("script", "link", "iframe")
        assert (attributes.get("src") or "data:").startswith("data:")


def test_several_tables_have_a_page_that_lists_them(digits_root: Path, tmp_path: Path) -> None:
    found = filled(digits_root, tmp_path, spec(), spec(name="tests/other", title="Another"))
    first, *others = render(found, tmp_path / "tables")
    assert first == tmp_path / "tables" / "index.html" and len(others) == 2
    links = {attributes["href"] for tag, attributes in read(first.read_text()).tags if tag == "a"}
    assert {(first.parent / str(link)).resolve() for link in links} == {path.resolve() for path in others}


def test_pictures_are_shown_once_and_only_as_many_as_fit(digits_root: Path, tmp_path: Path, monkeypatch) -> None:
    found = filled(digits_root, tmp_path)
    for run in found.runs.values():
        if run.folder.finished:
            run.folder.pictures.mkdir()
            Image.effect_noise((40, 40), 80).save(run.folder.pictures / "first_layer.png")
            (run.folder.pictures / "cut_short.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    count = written(found, tmp_path / "t")["index.html"].count("<img ")
    assert count == 5  # the first seed's; the reference has the same runs in both columns; damaged ones are left out
    size = (next(iter(found.runs.values())).folder.pictures / "first_layer.png").stat().st_size
    monkeypatch.setattr(page, "PICTURE_BYTES", 2.5 * size)
    html = written(found, tmp_path / "t")["index.html"]
    assert html.count("<img ") == 2 and "3 more pictures" in html


def test_curves_are_the_mean_over_seeds(digits_root: Path, tmp_path: Path) -> None:
    square, noise = panels_of(gather(filled(digits_root, tmp_path))[0])
    assert [line.label for line in square.lines] == ["zero", "MisConv", "gt"]
    assert square.y_label == "validation accuracy" and square.lines[2].soft
    for line, mean in zip(square.lines, (0.8, 0.9, 0.99), strict=True):
        assert [x for x, _ in line.points] == [1, 2, 3]
        assert [y for _, y in line.points] == pytest.approx([mean / 4, mean / 2, mean * 3 / 4])
    assert [line.style for line in noise.lines] == [line.style for line in square.lines]


def test_a_curve_ends_where_the_first_of_its_runs_does() -> None:
    assert mean_curve([{0: 1.0, 1: 3.0, 2: 100.0}, {0: 3.0, 1: 5.0}]) == [(1, 2), (2, 4)]
    assert mean_curve([]) == []


def test_a_table_of_one_metric_a_column_shares_its_curves(digits_root: Path, tmp_path: Path) -> None:
    columns = {"a": {"label": "a"}, "b": {"label": "b", "metric": "complete/accuracy"}}
    found = filled(digits_root, tmp_path, spec(columns=columns, rows={"zero": {}}))
    for cell in found.tables[0].cells:
        for recipe in cell.recipes:
            history = [{"epoch": 0, "validation/accuracy": 0.5}, {"epoch": 1, "validation/accuracy": 0.6}]
            finish(recipe, tmp_path, {"test/accuracy": 0.6, "complete/accuracy": 0.7}, history=history)
    (panel,) = panels_of(gather(found)[0])
    assert panel.title == "a, b"
