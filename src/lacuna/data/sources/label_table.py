"""A user's CSV file of labels: columns ``file`` and ``label``, in any usual encoding."""

from __future__ import annotations

import codecs
import csv
import io
import unicodedata
from collections.abc import Sequence
from pathlib import Path

from lacuna.data.sources.listing import content
from lacuna.data.sources.pixels import NO_LABEL
from lacuna.errors import LacunaError

_BYTE_ORDER_MARKS = ((codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))


def read_labels(path: Path, names: Sequence[str]) -> tuple[list[str], list[str]]:
    """The label of every file, and remarks: what was reinterpreted or is not used.

    Args:
        path: the CSV file; columns are separated by commas, semicolons or tabs.
        names: of the files, relative to their folder, with "/".

    Raises:
        LacunaError: not text, no such columns, a file without a row or with two, a missing label.
    """
    text, remarks = _text(path)
    rows = _rows(path, text)
    table: dict[str, str] = {}
    for name, label in rows:
        if name in table:
            raise LacunaError(f"{path} has two rows for {name}: leave one.")
        table[name] = label
    plain = [_plain(name) for name in names]
    unknown = [name for name in plain if name not in table]
    if unknown:
        raise LacunaError(f"{path} has no row for {unknown[0]} ({len(unknown)} such files): add it.")
    lacking = [name for name in plain if table[name].strip() in NO_LABEL]
    if lacking:
        raise LacunaError(
            f"The label of {lacking[0]} in {path} is missing or NaN ({len(lacking)} such images): it is "
            f"{_quoted(table, lacking)}. Give every image a label (another word if that is a class), or give none."
        )
    unused = sorted(table.keys() - set(plain))
    if unused:
        remarks.append(f"{len(unused)} row(s) of {path.name} name no image and are not used ({unused[0]})")
    spaced = [name for name in plain if table[name] != table[name].strip()]
    if spaced:
        remarks.append(f"{len(spaced)} label(s) of {path.name} were stripped of spaces ({_quoted(table, spaced)})")
    return [table[name].strip() for name in plain], remarks


def _quoted(table: dict[str, str], names: Sequence[str]) -> str:
    return ", ".join(sorted({repr(table[name]) for name in names})[:3])


def _text(path: Path) -> tuple[str, list[str]]:
    raw = content(path)
    encoding = next((name for mark, name in _BYTE_ORDER_MARKS if raw.startswith(mark)), "utf-8")
    remarks = []
    try:
        try:
            text = raw.decode(encoding)
        except UnicodeDecodeError:
            if encoding != "utf-8":
                raise
            text = raw.decode("cp1252")
            remarks.append(f"{path.name} is not UTF-8 and was read as Windows-1252")
    except UnicodeDecodeError as error:
        raise LacunaError(f"{path} is neither UTF-8, UTF-16 nor Windows-1252 text: save it as UTF-8.") from error
    if "\0" in text:
        raise LacunaError(f"{path} is no text in UTF-8 or in UTF-16 with a byte order mark: save it as UTF-8.")
    return text, remarks


def _rows(path: Path, text: str) -> list[tuple[str, str]]:
    """The file and label of every row that is not empty."""
    for delimiter in ",;\t":
        try:
            rows = [row for row in csv.reader(io.StringIO(text, newline=""), delimiter=delimiter) if any(row)]
        except csv.Error as error:
            raise LacunaError(f"{path} cannot be read as CSV ({error}).") from error
        columns = [name.strip() for name in rows[0]] if rows else []
        if {"file", "label"} <= set(columns) and len(rows) > 1:
            if columns.count("file") + columns.count("label") > 2:
                raise LacunaError(f"{path} has two columns of one name: {', '.join(columns)}.")
            cells = [row + [""] * (len(columns) - len(row)) for row in rows[1:]]
            return [(_plain(row[columns.index("file")]), row[columns.index("label")]) for row in cells]
    raise LacunaError(f"{path} needs the columns file and label, and one row per file.")


def _plain(name: str) -> str:
    """A file's name as it is compared: systems write umlauts and separators in two ways."""
    return unicodedata.normalize("NFC", name.strip().replace("\\", "/")).removeprefix("./")
