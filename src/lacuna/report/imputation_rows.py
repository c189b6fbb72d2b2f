"""Test images at the top of a table's page: truth, what is observed, imputations by the methods, uncertainty."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from lacuna.drawing.html_page import PictureRows
from lacuna.drawing.pictures import Row, row_picture
from lacuna.tables.gather import CellResult, TableResult

Array = np.ndarray[Any, Any]
Arrays = Mapping[str, Array]

FILE = "imputations.npz"
"""What runs keep of their first test images; written by :mod:`lacuna.tasks.common.example_images`."""
NEEDED = {"truth", "recovered", "mask", "known"}
IMAGES = 8
MOST_PANELS = 3
SAME = 2 / 255
"""Imputations that differ by no more, nowhere, are shown once, with the names of both methods."""


def imputation_rows(result: TableResult) -> list[PictureRows]:
    """A panel for each set of masked test images in the table, at most :data:`MOST_PANELS`.

    None where no run kept any images (a run from the archive, a task that writes other pictures).
    All methods in a panel are shown the same test images behind the same masks, by the runs of the first seed.
    """
    found: dict[tuple[bytes, bytes], list[tuple[str, str, Arrays]]] = {}
    for column, method, arrays in _kept(result):
        shown = arrays["mask"].tobytes(), arrays["truth"].tobytes()
        members = found.setdefault(shown, [])
        if method not in (name for _, name, _ in members):
            members.append((column, method, arrays))
    panels = [members for members in found.values() if not members[0][2]["mask"].all()][:MOST_PANELS]
    return [_panel(members, several=len(panels) > 1) for members in panels]


def _kept(result: TableResult) -> Iterator[tuple[str, str, Arrays]]:
    """(column, method, arrays) of every cell whose first run kept test images."""
    spec = result.plan.spec
    methods_are_rows = spec.compare != "rows"
    for group in spec.columns if methods_are_rows else spec.rows:
        for method in spec.rows if methods_are_rows else spec.columns:
            cell = result.at(method, group) if methods_are_rows else result.at(group, method)
            arrays = _arrays(cell)
            if arrays is not None:
                yield group.label or group.key, method.label or method.key, arrays


def _arrays(cell: CellResult) -> Arrays | None:
    run = next((run for run in cell.done if not run.archived), None)
    if run is None:
        return None
    try:
        with np.load(run.folder.pictures / FILE, allow_pickle=False) as file:
            arrays = {name: file[name][:IMAGES] for name in file.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile):
        return None
    return arrays if arrays.keys() >= NEEDED and len(arrays["truth"]) else None


def _panel(members: Sequence[tuple[str, str, Arrays]], several: bool) -> PictureRows:
    column, _, first = members[0]
    rows = [
        ("truth", row_picture(Row("truth", first["truth"], mask=first["known"]))),
        ("observed", row_picture(Row("observed", first["truth"], mask=first["mask"]))),
    ]
    for names, arrays in _distinct(members):
        rows.append((names, row_picture(Row(names, arrays["recovered"]))))
    uncertain = [(name, arrays["deviation"]) for _, name, arrays in members if "deviation" in arrays]
    top = max((float(deviation.max()) for _, deviation in uncertain), default=0.0)
    for name, deviation in uncertain:
        heat = Row(name, deviation, heat=True, limits=(0.0, top or 1.0))
        rows.append((f"uncertainty: standard deviation of the density ({name})", row_picture(heat)))
    caption = "Test images; imputations by the runs of the first seed. Hatched: missing."
    caption += f" Uncertainty: black 0, brightest {top:.2f}, for values in [0, 1]." * bool(uncertain)
    return PictureRows(rows, caption=f"{column}. {caption}" if several else caption)


def _distinct(members: Sequence[tuple[str, str, Arrays]]) -> list[tuple[str, Arrays]]:
    """Equal imputations once, with the names of their methods."""
    found: list[tuple[list[str], Arrays]] = []
    for _, name, arrays in members:
        new = arrays["recovered"]
        for names, before in found:
            if np.abs(before["recovered"].astype(np.float32) - new).max() <= SAME:
                names.append(name)
                break
        else:
            found.append(([name], arrays))
    return [(" and ".join(names), arrays) for names, arrays in found]
