"""Tables as text: aligned columns for a terminal, Markdown for a file. Imports no torch.

A table is a list of rows. A row maps column titles to values: a string, a number, a bool, None (shown as a dash) or a
:class:`Cell`. Columns are in the order in which the rows first name them.
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
BEST, TIE, NO_NUMBER = "best", "tie", "missing"
SIGNS = {BEST: "*", TIE: "†"}
_NUMBER = re.compile(r"[-+−]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?")


@dataclass(frozen=True)
class Cell:
    """A cell with more than one value.

    Args:
        text: the value.
        extra: small text after it: ``± 0.004 (3)``.
        below: small text below it; in a terminal after it, in brackets.
        mark: ``best``, ``tie`` (with the best), ``missing`` (the text says why there is no number), or empty.
        link: target of a link on a page.
    """

    text: str
    extra: str = ""
    below: str = ""
    mark: str = ""
    link: str = ""

    def __str__(self) -> str:
        return f"{self.text} {self.extra}".rstrip()


def mean_sd(values: Iterable[float | None], digits: int = 4) -> str:
    """``"0.9123 ± 0.0041"``: mean and sample standard deviation. One value has no ±; without values, a dash.

    Args:
        values: numbers; None: not there yet.
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
    """The text of a value in a table: floats with ``digits`` decimals, large whole numbers in groups of three."""
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
    """The number in a cell (the first one of ``"0.91 ± 0.02"``); None if there is none."""
    if isinstance(value, bool) or value is None or has_no_number(value):
        return None
    if isinstance(value, int | float):
        return float(value) if math.isfinite(value) else None
    found = _NUMBER.match(str(value).strip())
    return float(found.group().replace("−", "-")) if found else None


def has_no_number(value: Any) -> bool:
    """Whether a cell is empty, or says only why there is no number."""
    return value is None or value == MISSING or (isinstance(value, Cell) and value.mark == NO_NUMBER)


def columns_of(rows: Sequence[TableRow]) -> list[str]:
    """Column titles in the order in which the rows first name them."""
    return list(dict.fromkeys(title for row in rows for title in row))


def best_cells(rows: Sequence[TableRow], best: Mapping[str, str] | None) -> set[tuple[int, str]]:
    """The best cells as (row index, column). ``best`` maps a column to ``max`` or ``min``; all equal ones are best.

    A column with fewer than two numbers has none.

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
    """An aligned table for a terminal; the best cells have a ``*``, ties a ``†``. Numbers are aligned to the right."""
    if not rows:
        return "(nothing yet)"
    titles, winners = columns_of(rows), best_cells(rows, best)
    signs = {(i, t): _sign(row.get(t), (i, t) in winners) for i, row in enumerate(rows) for t in titles}
    # in a column with signs the other cells get a blank, so that digits stay aligned
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
    """The table in Markdown; the best cells are bold, ties have a ``†``."""
    if not rows:
        return "(nothing yet)"
    titles, winners = columns_of(rows), best_cells(rows, best)

    def cell(i: int, title: str) -> str:
        value = rows[i].get(title)
        text = _escape(cell_text(value, digits))
        if isinstance(value, Cell):
            text += SIGNS[TIE] if value.mark == TIE else ""
            text = f"**{text}**" if value.mark == BEST else f"*{text}*" if value.mark == NO_NUMBER else text
            return f"{text}<br>{_escape(value.below)}" if value.below else text
        return f"**{text}**" if (i, title) in winners else text

    ruler = ["---:" if is_numeric(rows, title) else "---" for title in titles]
    lines = [[_escape(title) for title in titles], ruler, *([cell(i, t) for t in titles] for i in range(len(rows)))]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def is_numeric(rows: Sequence[TableRow], title: str) -> bool:
    """Whether a column has numbers only (at least one), so that it is aligned to the right."""
    filled = [value for value in (row.get(title) for row in rows) if not has_no_number(value)]
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
