"""Tables as text: aligned columns for a terminal, Markdown for a file. No torch in here.

A table is a list of rows, a row a mapping from column title to a value: a string, a number, True/False, None (shown
as a dash) or a :class:`Cell`. Columns appear in the order in which the rows first name them.
"""

from __future__ import annotations

import math
import re
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lacuna.errors import LacunaError

TableRow = Mapping[str, Any]
MISSING = "–"
BEST, TIE, HOLE = "best", "tie", "hole"
SIGNS = {BEST: "*", TIE: "†"}
_NUMBER = re.compile(r"[-+−]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?")


@dataclass(frozen=True)
class Cell:
    """A cell with more to say than one value.

    Args:
        text: the value.
        extra: what stands behind it in small: ``± 0.004 (3)``.
        below: what stands under it in small; in a terminal beside it, in brackets.
        mark: ``best``, ``tie`` (with the best), ``hole`` (the text says why there is no number), or nothing.
        link: where the text leads, on a page.
    """

    text: str
    extra: str = ""
    below: str = ""
    mark: str = ""
    link: str = ""

    def __str__(self) -> str:
        return f"{self.text} {self.extra}".rstrip()


def mean_sd(values: Iterable[float | None], digits: int = 4) -> str:
    """``"0.9123 ± 0.0041"``: mean and sample standard deviation; one value alone has no ±, none is a dash.

    Args:
        values: numbers; ``None`` stands for one that is not there yet.
        digits: digits after the decimal point.
    """
    known = [float(value) for value in values if value is not None]
    if not known:
        return MISSING
    mean = f"{_plain_mean(known):.{digits}f}"
    if len(known) == 1 or not all(map(math.isfinite, known)):
        return mean
    return f"{mean} ± {statistics.stdev(known):.{digits}f}"


def cell_text(value: Any, digits: int = 4) -> str:
    """A value as it stands in a table: floats with ``digits`` decimals, large whole numbers in groups of three."""
    if value is None:
        return MISSING
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}".replace(",", " ") if abs(value) >= 10_000 else str(value)
    if isinstance(value, float):
        return MISSING if math.isnan(value) else f"{value:.{digits}f}"
    return str(value)


def cell_number(value: Any) -> float | None:
    """The number a cell stands for (of ``"0.91 ± 0.02"`` the first), or None if it stands for none."""
    if isinstance(value, bool) or value is None or is_hole(value):
        return None
    if isinstance(value, int | float):
        return float(value) if math.isfinite(value) else None
    found = _NUMBER.match(str(value).strip())
    return float(found.group().replace("−", "-")) if found else None


def is_hole(value: Any) -> bool:
    """Whether nothing stands in a cell, or only why."""
    return value is None or value == MISSING or (isinstance(value, Cell) and value.mark == HOLE)


def columns_of(rows: Sequence[TableRow]) -> list[str]:
    """Column titles in the order in which the rows first name them."""
    return list(dict.fromkeys(title for row in rows for title in row))


def best_cells(rows: Sequence[TableRow], best: Mapping[str, str] | None) -> set[tuple[int, str]]:
    """The (row number, column) cells to stress. ``best`` maps a column to ``max`` or ``min``; equal ones all win.

    A column with fewer than two numbers has no winner.

    Raises:
        LacunaError: a direction that is neither ``max`` nor ``min``.
    """
    winners: set[tuple[int, str]] = set()
    for column, direction in (best or {}).items():
        if direction not in ("max", "min"):
            raise LacunaError(f"best[{column!r}]={direction!r} must be 'max' or 'min'.")
        numbers = [(i, number) for i, row in enumerate(rows) if (number := cell_number(row.get(column))) is not None]
        if len(numbers) > 1:
            top = (max if direction == "max" else min)(number for _, number in numbers)
            winners |= {(i, column) for i, number in numbers if number == top}
    return winners


def text_table(rows: Sequence[TableRow], *, best: Mapping[str, str] | None = None, digits: int = 4) -> str:
    """An aligned table for a terminal; the best cells carry a ``*``, ties a ``†``. Numbers are set to the right."""
    if not rows:
        return "(nothing yet)"
    titles, winners = columns_of(rows), best_cells(rows, best)
    signs = {(i, t): _sign(row.get(t), (i, t) in winners) for i, row in enumerate(rows) for t in titles}
    # Where a column has a sign, the other cells get a blank, so that the digits stay under each other.
    signed = {title for (_, title), sign in signs.items() if sign}

    def text(i: int, title: str) -> str:
        value = rows[i].get(title)
        below = f" [{value.below}]" if isinstance(value, Cell) and value.below else ""
        return cell_text(value, digits) + (signs[i, title] or " " * (title in signed)) + below

    body = [[text(i, title) for title in titles] for i in range(len(rows))]
    right = [is_numeric(rows, title) for title in titles]
    widths = [max(len(title), *(len(line[i]) for line in body)) for i, title in enumerate(titles)]

    def aligned(cells: Sequence[str]) -> str:
        padded = (
            cell.rjust(width) if flush else cell.ljust(width)
            for cell, width, flush in zip(cells, widths, right, strict=True)
        )
        return "  ".join(padded).rstrip()

    return "\n".join([aligned(titles), "  ".join("─" * width for width in widths), *map(aligned, body)])


def markdown_table(rows: Sequence[TableRow], *, best: Mapping[str, str] | None = None, digits: int = 4) -> str:
    """The table in Markdown; the best cells are bold, ties carry a ``†``."""
    if not rows:
        return "(nothing yet)"
    titles, winners = columns_of(rows), best_cells(rows, best)

    def cell(i: int, title: str) -> str:
        value = rows[i].get(title)
        text = _escape(cell_text(value, digits))
        if isinstance(value, Cell):
            text += SIGNS[TIE] if value.mark == TIE else ""
            text = f"**{text}**" if value.mark == BEST else f"*{text}*" if value.mark == HOLE else text
            return f"{text}<br>{_escape(value.below)}" if value.below else text
        return f"**{text}**" if (i, title) in winners else text

    ruler = ["---:" if is_numeric(rows, title) else "---" for title in titles]
    lines = [[_escape(title) for title in titles], ruler, *([cell(i, t) for t in titles] for i in range(len(rows)))]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def is_numeric(rows: Sequence[TableRow], title: str) -> bool:
    """Whether every filled cell of a column is a number (and there is one), so that it is set to the right."""
    filled = [value for value in (row.get(title) for row in rows) if not is_hole(value)]
    return bool(filled) and all(cell_number(value) is not None or _is_nan(value) for value in filled)


def _sign(value: Any, winner: bool) -> str:
    mark = value.mark if isinstance(value, Cell) else BEST if winner else ""
    return SIGNS.get(mark, "")


def _is_nan(value: Any) -> bool:
    return isinstance(value, float) and not math.isfinite(value)


def _plain_mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values) if all(map(math.isfinite, values)) else sum(values) / len(values)


def _escape(text: str) -> str:
    return text.replace("\\", "\\\\").replace("|", "\\|").replace("\n", " ").replace("*", "\\*").replace("<", "&lt;")
