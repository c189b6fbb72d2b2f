"""The generated tables in README and docs, between two comments, made from the archive alone.

The text from ``<!-- table misconv/table1 columns=mnist -->`` to ``<!-- end -->`` is a table of ``reproduce.py``. Its
name may be followed by ``columns=``, ``rows=`` and ``rates=`` (a key, or a list without spaces) and ``budget=``
(default: paper). Data and run directories are not read, so every machine generates the same text. Imports no torch.
"""

from __future__ import annotations

import dataclasses
import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from lacuna import files
from lacuna.config.compose import compose
from lacuna.config.composer import Composer
from lacuna.config.key_values import read_key_values
from lacuna.config.paths import CONFIGS
from lacuna.drawing.text_table import MISSING, TableRow, markdown_table
from lacuna.errors import LacunaError
from lacuna.report.cells import number, titles_of
from lacuna.report.data_facts import data_facts
from lacuna.report.formats import plain
from lacuna.report.table_notes import warning
from lacuna.runs.archive_record import Archive
from lacuna.runs.results import left_out
from lacuna.tables.gather import CellResult, TableResult, gather
from lacuna.tables.plan import plan_tables
from lacuna.tables.request import run_options
from lacuna.tables.select import selected
from lacuna.tables.spec import TableSpec, table_spec

DEFAULTS: Mapping[str, Any] = {"columns": None, "rows": None, "rates": None, "budget": "paper"}
"""Options after a table's name."""
BEGIN = re.compile(r"^<!-- table +(.*?) *-->$")
END = "<!-- end -->"


class DocsTables:
    """Fills the tables of documents.

    Args:
        results: the archive's folder.
    """

    def __init__(self, results: Path) -> None:
        self.results = results
        found = {int(run.recipe.config["seed"]) for run in Archive(results, skip=left_out).runs()}
        self._seeds = sorted(found) or [0]
        self._composer = Composer(CONFIGS, "train")

    def filled(self, text: str, name: str) -> str:
        """A document with the present numbers between its markers; the rest is unchanged.

        Args:
            text: the document in Markdown.
            name: of the document, for messages.

        Raises:
            LacunaError: a marker without its end, or for a table, row or column that does not exist.
        """
        filled: list[str] = []
        inside: str | None = None
        for line_number, line in enumerate(text.splitlines(), start=1):
            begin, place = BEGIN.match(line), f"{name}, line {line_number}"
            if begin and inside is not None:
                raise LacunaError(f"{place}: the table before it has no {END}.")
            if begin:
                inside = place
                filled += [line, "", self._table(begin.group(1).split(), place), ""]
            elif line.strip() == END and inside is not None:
                inside = None
            if inside is None:
                filled.append(line)
        if inside is not None:
            raise LacunaError(f"{inside}: the table has no {END}.")
        return "\n".join(filled) + "\n" * text.endswith("\n")

    def _table(self, words: Sequence[str], place: str) -> str:
        try:
            return as_compact(self._gathered(words))
        except LacunaError as error:
            raise LacunaError(f"{place}: {error}") from error

    def _gathered(self, words: Sequence[str]) -> TableResult:
        if not words or "=" in words[0]:
            raise LacunaError(
                "a marker begins with the name of a table, as in <!-- table misconv/table1 columns=mnist -->."
            )
        options = read_key_values(words[1:], DEFAULTS)
        config = compose(CONFIGS, "reproduce", [f"table={words[0]}", f"budget={options['budget']}"])
        if "tables" in config["table"] or config["table"].get("figure"):
            raise LacunaError(f"{words[0]} is a figure or several tables: a marker names one table.")
        (spec,) = selected([table_spec(config["table"])], options["rates"], options["rows"])
        with tempfile.TemporaryDirectory() as empty:  # neither runs nor data
            config |= {"output": empty, "results": str(self.results), "seeds": self._seeds}
            config["data"] = {"root": empty, "download": False}
            plan = plan_tables(
                [_with_columns(spec, options["columns"])], self._composer, run_options(config, prepare=False)
            )
            return gather(plan)[0]


def _with_columns(spec: TableSpec, columns: Any) -> TableSpec:
    if columns is None:
        return spec
    keys = [str(key) for key in (columns if isinstance(columns, list) else [columns])]
    known = {column.key: column for column in spec.columns}
    unknown = [key for key in keys if key not in known]
    if unknown or not keys:
        raise LacunaError(f"columns={columns}: {spec.name} has the columns {', '.join(known)}.")
    return dataclasses.replace(spec, columns=tuple(known[key] for key in keys))


def as_compact(result: TableResult) -> str:
    """A table in Markdown. The paper's numbers have their own columns; the text below says where ours come from."""
    titles, rows = titles_of(result), []
    for row in result.plan.spec.rows:
        cells: dict[str, Any] = {"": row.label}
        for column in result.plan.spec.columns:
            cell = result.at(row, column)
            cells[titles[column.key]] = ours(cell)
            if result.has_paper:
                cells[f"{column.label}, paper"] = MISSING if cell.cell.paper is None else _paper(cell)
        rows.append(cells)
    return f"{_table_of(rows)}\n\n{about(result)}"


def _table_of(rows: Sequence[TableRow]) -> str:
    """Numbers are aligned to the right, also in a column that has none yet."""
    head, ruler, *body = markdown_table(rows).splitlines()
    ruler = "| --- |" + " ---: |" * (len(rows[0]) - 1)
    return "\n".join([head, ruler, *body])


def ours(cell: CellResult) -> str:
    """``0.912 ± 0.003 (5)``, with one seed ``0.912 (1)``; a dash if nothing is measured."""
    if cell.mean is None:
        return MISSING
    digits = cell.cell.digits
    spread = "" if cell.sd is None else f" ± {number(cell.sd, digits)}"
    return f"{number(cell.mean, digits)}{spread} ({cell.n})"


def _paper(cell: CellResult) -> str:
    assert cell.cell.paper is not None
    return number(cell.cell.paper, cell.cell.digits)


def about(result: TableResult) -> str:
    """Text in Markdown: the command, the meaning of the numbers, images, hardware, commits and warnings."""
    spec, runs = result.plan.spec, [run for cell in result.cells for run in cell.done]
    command = f"table={spec.name}" + ("" if result.plan.budget == "paper" else f" budget={result.plan.budget}")
    parts = [f"{plain(spec.title)}; `reproduce.py {command}`"]
    if not runs:
        return f"{parts[0]}. Nothing is measured yet."
    parts.append("mean ± standard deviation (seeds)" if any(cell.n > 1 for cell in result.cells) else "(1): one seed")
    for fact in data_facts(result):
        images = [f"{fact.trained_on} training images"] * bool(fact.trained_on)
        images += [fact.tested_on] * bool(fact.tested_on)
        parts.append(plain(f"{fact.name}: {', '.join(images)}"))
    where = [("hardware", "hardware"), ("commits", "commit")]
    parts += [plain(f"{name} {_listed(runs, attribute)}") for attribute, name in where if _listed(runs, attribute)]
    incomplete = any(cell.mean is None for cell in result.cells)
    parts += [f"{MISSING}: not measured yet"] if incomplete else []
    warned = warning(result)
    caveat = "" if warned is None else plain(f" {warned[0]} {'; '.join(warned[1])}.")
    return f"{'; '.join(parts)}. {caveat}".rstrip()


def _listed(runs: Sequence[Any], attribute: str) -> str:
    return ", ".join(sorted({text for run in runs for text in getattr(run, attribute)}))


def documents(root: Path) -> Iterator[Path]:
    """README and everything in ``docs/``."""
    yield root / "README.md"
    yield from sorted((root / "docs").rglob("*.md"))


def update(root: Path, results: Path, *, check: bool = False) -> list[Path]:
    """Write the present numbers into all documents of a repository.

    Args:
        root: the repository.
        results: the archive's folder.
        check: write nothing.

    Returns:
        The documents that were not up to date.

    Raises:
        LacunaError: a marker is wrong, or a document cannot be written.
    """
    tables, stale = DocsTables(results), []
    for path in documents(root):
        text = path.read_text(encoding="utf-8")
        filled = tables.filled(text, path.relative_to(root).as_posix())
        if filled != text:
            stale.append(path)
            if not check:
                files.write_text(path, filled)
    return stale
