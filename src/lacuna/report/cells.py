"""The numbers of a table as rows of cells, shared by the writers of Markdown, LaTeX, HTML and plain text."""

from __future__ import annotations

from lacuna.drawing.text_table import NO_NUMBER, Cell
from lacuna.tables.best import paper_interval, table_marks
from lacuna.tables.gather import CellResult, TableResult
from lacuna.tables.significance import Interval

ROW_NAMES = ""
"""Title of the column with the names of the rows."""
ARROWS = {"max": " ↑", "min": " ↓"}


def rows_of(result: TableResult) -> list[dict[str, str | Cell]]:
    """The rows of a table. A cell has mean, sd and number of seeds; below it the paper's number and the difference."""
    marks, titles = table_marks(result), titles_of(result)
    rows: list[dict[str, str | Cell]] = []
    for row in result.plan.spec.rows:
        cells: dict[str, str | Cell] = {ROW_NAMES: row.label}
        for column in result.plan.spec.columns:
            mark = marks.get((row.key, column.key), "")
            cells[titles[column.key]] = _cell(result.at(row, column), mark)
        rows.append(cells)
    return rows


def titles_of(result: TableResult) -> dict[str, str]:
    """Column key -> its title. Titles are unique; an arrow shows which direction is better."""
    spec = result.plan.spec
    labels = [column.label for column in spec.columns]
    found = {}
    for column in spec.columns:
        better = {result.at(row, column).cell.better for row in spec.rows}
        label = column.label if labels.count(column.label) == 1 else f"{column.label} ({column.key})"
        found[column.key] = (label or column.key) + (ARROWS[better.pop()] if len(better) == 1 else "")
    return found


def rules_of(result: TableResult) -> set[int]:
    """Indices of the rows with a rule above them: where references begin or end."""
    rows = result.plan.spec.rows
    return {i for i in range(1, len(rows)) if rows[i].reference != rows[i - 1].reference}


def missing_numbers(result: TableResult) -> list[tuple[str, str]]:
    """(reason, cells) of all missing numbers, grouped by reason."""
    found: dict[str, list[str]] = {}
    for cell in result.cells:
        if cell.reason:
            found.setdefault(cell.reason, []).append(cell.cell.label)
    return [(reason, _some(labels)) for reason, labels in found.items()]


def _cell(result: CellResult, mark: str) -> Cell:
    below = _paper(result)
    if result.mean is None:
        return Cell(result.state, below=below, mark=NO_NUMBER)
    digits = result.cell.digits
    spread = "" if result.sd is None else f"± {result.sd:.{digits}f} "
    n = str(result.n) if result.n == result.wanted else f"{result.n} of {result.wanted}"
    return Cell(number(result.mean, digits), extra=f"{spread}({n})", below=below, mark=mark)


def _paper(result: CellResult) -> str:
    if result.cell.paper is None:
        return ""
    text = f"paper {number(result.cell.paper, result.cell.digits)}"
    if result.difference is None:
        return text
    interval = interval_text(paper_interval(result), result.cell.digits)
    return f"{text}, {signed(result.difference, result.cell.digits)}{interval}"


def number(value: float, digits: int) -> str:
    """A number with a real minus sign, never minus zero."""
    text = f"{value:.{digits}f}"
    return text.removeprefix("-") if float(text) == 0 else text.replace("-", "−")


def signed(value: float, digits: int) -> str:
    """A number with its sign; ± if it rounds to zero."""
    text = number(value, digits)
    return f"±{text}" if float(text.replace("−", "-")) == 0 else text if text.startswith("−") else f"+{text}"


def interval_text(interval: Interval | None, digits: int) -> str:
    """An interval as it follows a difference: `` (−0.001 to +0.010)``; empty for None.

    A bound that rounds to zero keeps its sign, which shows on which side of zero the interval ends.
    """
    return "" if interval is None else f" ({' to '.join(_bound(value, digits) for value in interval)})"


def _bound(value: float, digits: int) -> str:
    sign = "" if value == 0 else "+" if value > 0 else "−"
    return f"{sign}{abs(value):.{digits}f}"


def _some(labels: list[str], most: int = 6) -> str:
    shown = "; ".join(labels[:most])
    return shown if len(labels) <= most else f"{shown}; and {len(labels) - most} more"
