"""Cells with more to say than one value, in a terminal, in Markdown and on a page."""

from __future__ import annotations

from lacuna.drawing.html_page import Details, Facts, Links, Notice, Table, Text, render_page
from lacuna.drawing.text_table import Cell, cell_number, is_numeric, markdown_table, text_table
from tests.drawing.test_html_page import EVIL, read

ROWS = [
    {"name": "a", "x": Cell("0.50", extra="± 0.10", below="paper 0.4", mark="best")},
    {"name": "b", "x": Cell("0.4", mark="tie")},
    {"name": "c", "x": Cell("to do", mark="missing")},
]


def test_a_hole_is_no_number_and_does_not_make_its_column_text() -> None:
    assert [cell_number(row["x"]) for row in ROWS] == [0.5, 0.4, None]
    assert is_numeric(ROWS, "x") and not is_numeric(ROWS[2:], "x")
    assert cell_number(Cell("3 failed", mark="missing")) is None


def test_in_a_terminal() -> None:
    lines = text_table(ROWS).splitlines()[2:]
    assert [line.split(maxsplit=1)[1].strip() for line in lines] == ["0.50 ± 0.10* [paper 0.4]", "0.4†", "to do"]


def test_in_markdown() -> None:
    lines = markdown_table(ROWS).splitlines()
    assert lines[1] == "| --- | ---: |"
    assert [line.split("|")[2].strip() for line in lines[2:]] == ["**0.50 ± 0.10**<br>paper 0.4", "0.4†", "*to do*"]


def test_on_a_page() -> None:
    table = Table(ROWS, heads={"x": "of 500"}, row_heads=True, rules={1})
    page = render_page("t", [table])
    assert '<td class="number best"><span class="value"><strong>0.50</strong></span>' in page
    assert '<td class="number tie">' in page and '<td class="number missing">' in page
    assert page.count('<th scope="row">') == 3 and page.count('<tr class="rule">') == 1
    assert "of 500" in read(page).text


def test_every_part_escapes_what_it_is_given() -> None:
    sections = [
        Notice(EVIL, [EVIL]),
        Facts([(EVIL, EVIL)], heading=EVIL),
        Links([(EVIL, "a b.html", EVIL)], heading=EVIL),
        Details(EVIL, [Text(EVIL)]),
        Table([{EVIL: Cell(EVIL, extra=EVIL, below=EVIL, link=EVIL)}], heads={EVIL: EVIL}, caption=EVIL),
    ]
    page = render_page("t", sections)
    reader = read(page)
    assert "script" not in [tag for tag, _ in reader.tags]
    assert reader.text.count(EVIL) == 16
