"""Rendered tables: every form says the same, nothing of what it must say is lost, and any text is only text."""

from __future__ import annotations

import csv
import dataclasses
import html
import io
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from lacuna.report.cells import interval_text
from lacuna.report.render import render, text
from lacuna.runs.recipe import Recipe
from tests.drawing.test_html_page import read
from tests.report.filled import EVIL, VALUES, filled, written
from tests.tables.finished import begin, finish, plan
from tests.tables.planning import spec


def test_every_form_has_every_number(digits_root: Path, tmp_path: Path) -> None:
    forms = written(filled(digits_root, tmp_path), tmp_path / "tables")
    for name in ("table.md", "index.html", "text"):
        plain = read(forms[name]).text if name == "index.html" else forms[name]
        assert plain.count("± 0.001 (3)") == 6, name
        for number in ("0.800", "0.900", "0.801", "0.990", "paper 0.850, +0.050", "paper 0.850, −0.050"):
            assert number in plain, (name, number)
    assert forms["table.tex"].count(r"$\pm$ 0.001 (3)") == 6 and "$-$0.050" in forms["table.tex"]
    rows = list(csv.DictReader(io.StringIO(forms["table.csv"])))
    assert len(rows) == 6
    for row in rows:
        # behind the reference's two cells stand the same runs
        values = VALUES["gt", "square"] if row["row"] == "gt" else VALUES[row["row"], row["column"]]
        assert [float(value) for value in row["values"].split(";")] == list(values)
        assert float(row["mean"]) == pytest.approx(sum(values) / 3)
        assert float(row["difference"]) == pytest.approx(float(row["mean"]) - 0.85)
        assert (row["n"], row["wanted"], row["test_images"], row["state"]) == ("3", "3", "500", "done")


def test_the_difference_to_print_shows_its_interval_in_every_form(digits_root: Path, tmp_path: Path) -> None:
    forms = written(filled(digits_root, tmp_path), tmp_path / "tables")
    # three seeds .001 apart: t of 2 degrees of freedom, 4.3027, times .001 / sqrt(3) is .00248
    for name in ("table.md", "index.html", "text"):
        plain = read(forms[name]).text if name == "index.html" else forms[name]
        for shown in ("+0.050 (+0.048 to +0.052)", "−0.050 (−0.052 to −0.048)"):
            assert f"paper 0.850, {shown}" in plain, (name, shown)
    assert r"$-$0.050 ($-$0.052 to $-$0.048)" in forms["table.tex"]
    for row in csv.DictReader(io.StringIO(forms["table.csv"])):
        low, high = float(row["difference_low"]), float(row["difference_high"])
        assert (low + high) / 2 == pytest.approx(float(row["difference"]))
        assert high - low == pytest.approx(2 * 4.302653 * 0.001 / 3**0.5, rel=1e-5)
    for name in ("table.md", "table.tex", "index.html"):
        assert "Student's t" in html.unescape(forms[name]).replace("’", "'"), name
    assert "[paper's, ours minus paper's (95% interval)]" in forms["text"]


def test_one_seed_shows_its_difference_alone_and_no_mark(digits_root: Path, tmp_path: Path) -> None:
    found = filled(digits_root, tmp_path, seeds=(0,))
    forms = written(found, tmp_path / "tables")
    for name, form in forms.items():
        assert " to +" not in form and " to −" not in form and "95%" not in form, name
    for name in ("table.md", "index.html", "text"):
        plain = read(forms[name]).text if name == "index.html" else forms[name]
        assert "0.901 (1)" in plain and "paper 0.850, +0.051" in plain, name
    assert "†" not in forms["table.md"].split("\n\n- **")[0] and "**0." not in forms["table.md"]
    assert r"\textbf{0." not in forms["table.tex"] and r"\underline{" not in forms["table.tex"]
    assert "<strong>0." not in forms["index.html"] and 'class="number tie"' not in forms["index.html"]
    assert "(1)*" not in forms["text"] and "†" not in forms["text"]
    for row in csv.DictReader(io.StringIO(forms["table.csv"])):
        assert (row["mark"], row["difference_low"], row["difference_high"]) == ("", "", "")
        assert float(row["difference"]) == pytest.approx(float(row["mean"]) - 0.85)
    assert "one seed, so there is no interval" in forms["table.md"]
    assert "none: a comparison needs" in forms["table.md"]


@pytest.mark.parametrize(("interval", "shown"), [
    ((0.0004, 0.02), " (+0.000 to +0.020)"), ((-0.02, -0.0004), " (−0.020 to −0.000)"), ((0, 0), " (0.000 to 0.000)"),
    (None, ""),
])  # fmt: skip
def test_a_bound_keeps_its_sign_where_it_rounds_to_zero(interval: tuple[float, float] | None, shown: str) -> None:
    assert interval_text(interval, 3) == shown


def test_winner_and_tie_in_every_form(digits_root: Path, tmp_path: Path) -> None:
    forms = written(filled(digits_root, tmp_path), tmp_path / "tables")
    assert {(row["row"], row["column"]): row["mark"] for row in csv.DictReader(io.StringIO(forms["table.csv"]))} == {
        ("zero", "square"): "", ("misconv", "square"): "best", ("gt", "square"): "",
        ("zero", "noise"): "tie", ("misconv", "noise"): "tie", ("gt", "noise"): "",
    }  # fmt: skip
    table = forms["table.md"].split("\n\n- **")[0]
    assert table.count("**0.900 ± 0.001 (3)**") == 1 == table.count("**0.") and table.count("(3)†") == 2
    assert forms["table.tex"].count(r"\textbf{0.") == 1 and forms["table.tex"].count(r"\underline{0.80") == 2
    assert forms["index.html"].count("<strong>0.") == 1 and "<strong>0.900</strong>" in forms["index.html"]
    assert forms["index.html"].count('class="number tie"') == 2
    assert forms["text"].count("(3)*") == 1 and forms["text"].count("(3)†") == 2
    for form in ("table.md", "table.tex", "index.html"):
        assert "Welch" in forms[form]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"images": {"train": 9, "test": 400}}, "400 of 500 test images"),
        (
            {
                "complete": False,
                "note": "some",
                "stored": {"train": 900, "test": 400},
                "images": {"train": 900, "test": 400},
            },
            "400 of 500 test images (a sample of the set)",
        ),
        ({"lossless": False, "note": "JPEG"}, "pixels of a lossy copy (JPEG)"),
        ({"budget": "quick"}, "budget quick"),
    ],
)
def test_what_cannot_be_compared_says_so_everywhere(
    changes: dict[str, Any], said: str, digits_root: Path, tmp_path: Path
) -> None:
    forms = written(filled(digits_root, tmp_path, **changes), tmp_path / "tables")
    for name in ("table.md", "table.tex", "index.html", "text"):
        plain = re.sub(r"[\\\s]+", " ", read(forms[name]).text if name == "index.html" else forms[name])
        assert "Not comparable with the paper" in plain and said in plain, name
        # before the numbers
        assert plain.index("Not comparable") < plain.index("0.900"), name


def test_the_full_setting_has_no_warning(digits_root: Path, tmp_path: Path) -> None:
    forms = written(filled(digits_root, tmp_path), tmp_path / "tables")
    assert all("ot comparable" not in form and "reduced" not in form for form in forms.values())


def test_what_a_run_builds_on_must_be_whole_too(digits_root: Path, tmp_path: Path) -> None:
    found = filled(digits_root, tmp_path)
    (cell,) = [cell for cell in found.tables[0].cells if (cell.row.key, cell.column.key) == ("misconv", "square")]
    content = cell.recipes[0].config
    density = {**content["prerequisites"]["density"], "budget": "cut"}
    cut = dataclasses.replace(cell, recipes=(Recipe({**content, "prerequisites": {"density": density}}),))
    found.runs[cut.recipes[0].identity] = dataclasses.replace(next(iter(found.runs.values())), recipe=cut.recipes[0])
    table = dataclasses.replace(found.tables[0], cells=(cut,), spec=spec(rows={"misconv": {}}, columns={"square": {}}))
    assert "budget cut" in text(dataclasses.replace(found, tables=(table,)))


def test_a_table_of_no_paper_speaks_of_none(digits_root: Path, tmp_path: Path) -> None:
    forms = written(filled(digits_root, tmp_path, paper=False, budget="quick"), tmp_path / "tables")
    assert all("with the paper" not in form for form in forms.values())
    assert "A reduced setting" in forms["index.html"] and "A reduced setting" in forms["text"]


def test_holes_are_shown_with_their_reason(digits_root: Path, tmp_path: Path) -> None:
    found = plan(digits_root, tmp_path)
    failed = next(cell.recipes[0] for cell in found.tables[0].cells if cell.row.key == "zero")
    path = begin(failed, tmp_path, {"state": "failed", "error": "LacunaError: the disk is full."})
    (path / "log.txt").write_text("Traceback\n  somewhere\nLacunaError: the disk is full.\n")
    forms = written(found, tmp_path / "tables")
    for name, form in forms.items():
        assert "the disk is full." in form and "to do" in form, name
    assert "somewhere" in forms["index.html"]
    assert [row["mean"] for row in csv.DictReader(io.StringIO(forms["table.csv"]))] == [""] * 6


def test_any_text_is_only_text(digits_root: Path, tmp_path: Path) -> None:
    rows = {"zero": {"label": EVIL, "note": EVIL}, "gt": {"label": EVIL}}
    evil = spec(title=EVIL, note=EVIL, rows=rows, columns={"square": {"label": EVIL}})
    found = plan(digits_root, tmp_path, evil)
    finish(found.tables[0].cells[0].recipes[0], tmp_path, {"test/accuracy": 0.5}, note=EVIL)
    forms = written(found, tmp_path / "tables")
    reader = read(forms["index.html"])
    assert "script" not in [tag for tag, _ in reader.tags] and reader.text.count(EVIL) > 5
    (header,) = [line for line in forms["table.md"].splitlines() if "↑" in line]
    assert len(re.findall(r"(?<!\\)\|", header)) == 3 and "<script" not in forms["table.md"].replace("\\<", "")
    (row, _) = csv.DictReader(io.StringIO(forms["table.csv"]))
    assert row["row_label"] == EVIL and row["note"] == EVIL


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="no pdflatex here")
@pytest.mark.parametrize("evil", [False, True])
def test_the_latex_compiles(evil: bool, digits_root: Path, tmp_path: Path) -> None:
    rows = {"zero": {"label": EVIL}, "misconv": {"label": "[b]"}, "gt": {"label": "*", "reference": True}}
    changes = {"title": EVIL, "note": EVIL, "rows": rows} if evil else {}
    full = filled(digits_root, tmp_path, spec(**changes), lossless=False, note=EVIL)
    written(full, tmp_path / "tables")
    document = (
        "\\documentclass{article}\\usepackage{booktabs}\\begin{document}\n"
        f"\\input{{{tmp_path}/tables/{full.tables[0].folder}/table.tex}}\\end{{document}}\n"
    )
    (tmp_path / "t.tex").write_text(document)
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "t.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, errors="replace", timeout=120)
    assert done.returncode == 0, done.stdout[-2000:]


def test_rendering_twice_gives_the_same_bytes(digits_root: Path, tmp_path: Path) -> None:
    found = filled(digits_root, tmp_path)
    assert written(found, tmp_path / "a") == written(found, tmp_path / "b")


def test_rendering_needs_no_torch(digits_root: Path, tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from tests.tables.finished import plan; "
        "from lacuna.report.render import render, text; p = plan(Path(sys.argv[1]), Path(sys.argv[2])); "
        "render(p, p.output / 'tables'); text(p); sys.exit('torch' in sys.modules)"
    )
    command = [sys.executable, "-c", code, str(digits_root), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).resolve().parents[2])
    assert done.returncode == 0, done.stderr


def test_what_the_user_changed_cannot_be_overlooked_and_is_kept_apart(digits_root: Path, tmp_path: Path) -> None:
    plain = plan(digits_root, tmp_path)
    changed = plan(digits_root, tmp_path, values={"net.training.epochs": 3}, choices=("mask=square",))
    pages = [render(found, tmp_path / "tables")[0] for found in (plain, changed)]
    assert pages[0] != pages[1]
    assert "changed by the user: net.training.epochs=3" in pages[1].read_text()
    assert "changed by the user" not in pages[0].read_text()
