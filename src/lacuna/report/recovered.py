"""What several imputers made of the same test images, with their squared errors on one scale (PRFlow, figures 2-5)."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from lacuna.drawing.panels import picture_panels, stacked
from lacuna.drawing.pictures import GAP, Row, colour_scale, row_picture
from lacuna.errors import LacunaError
from lacuna.tables.gather import CellResult, TableResult
from lacuna.tables.select import has_rates
from lacuna.tables.spec import Axis

Arrays = Mapping[str, "np.ndarray[Any, Any]"]
NEEDED = {"truth", "recovered", "mask", "known"}


@dataclass(frozen=True)
class _Shown:
    """Which of the kept test images are shown, and where the scale of squared errors ends."""

    images: int
    skip: int
    error: float

    def of(self, array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        return array[self.skip : self.skip + self.images]


def recovered(result: TableResult, images: int = 6, skip: int = 0, error: float = 0.25) -> Image.Image:
    """A block a column: the truth, what is observed, and for every row the recovered images above their errors.

    An error is the mean over the channels of (recovered - true)², with values in [0, 1].

    Args:
        images: how many test images are shown.
        skip: how many of the first test images are not.
        error: where the one scale of all squared errors ends, in (0, 1]; it begins at 0.

    Raises:
        LacunaError: an option that makes no sense.
    """
    shown, spec = _checked(images, skip, error), result.plan.spec
    blocks = [_block(result, column, shown) for column in spec.columns]
    titles = ["truth", "observed", *(row.label for row in spec.rows)]
    heads = [_title(result, column) for column in spec.columns]
    panels = picture_panels(list(zip(*blocks, strict=True)), titles, heads, widest=10**6)
    title = "below each recovered image its squared error, all on one scale"
    legend = colour_scale((0.0, shown.error), title, over=shown.error < 1)
    return stacked([panels, legend])


def _checked(images: Any, skip: Any, error: Any) -> _Shown:
    for name, value, least in (("images", images, 1), ("skip", skip, 0)):
        if type(value) is not int or value < least:
            raise LacunaError(f"figure.{name}={value} must be a whole number of at least {least}.")
    if isinstance(error, bool) or not isinstance(error, int | float) or not 0 < error <= 1:
        raise LacunaError(f"figure.error={error} must be above 0 and at most 1: where the scale of errors ends.")
    return _Shown(images, skip, float(error))


def _block(result: TableResult, column: Axis, shown: _Shown) -> list[Image.Image | str]:
    kept = [_kept(result.at(row, column), shown) for row in result.plan.spec.rows]
    first = next((arrays for arrays in kept if not isinstance(arrays, str)), None)
    given = ["", ""] if first is None else _given(first, shown)
    return [*given, *(arrays if isinstance(arrays, str) else _made(arrays, shown) for arrays in kept)]


def _title(result: TableResult, column: Axis) -> str:
    return f"{column.label} missing" if has_rates(result.plan.spec) else column.label


def _given(arrays: Arrays, shown: _Shown) -> list[Image.Image]:
    truth, known, mask = (shown.of(arrays[name]) for name in ("truth", "known", "mask"))
    return [row_picture(Row("truth", truth, mask=known)), row_picture(Row("observed", truth, mask=mask))]


def _made(arrays: Arrays, shown: _Shown) -> Image.Image:
    truth, made, known = (shown.of(arrays[name]).astype(np.float32) for name in ("truth", "recovered", "known"))
    errors = (known * np.square(made - truth)).mean(1, keepdims=True)
    heat = Row("squared error", errors, heat=True, limits=(0.0, shown.error))
    return stacked([row_picture(Row("recovered", made)), row_picture(heat)], gap=GAP)


def _kept(cell: CellResult, shown: _Shown) -> Arrays | str:
    """What the run of a cell kept of its test images, or why there is nothing to show."""
    if not cell.done:
        return cell.reason
    path = cell.done[0].folder.pictures / "imputations.npz"
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile):
        return f"its run has no {path.name}"
    if not arrays.keys() >= NEEDED:
        return f"{path.name} is damaged"
    if len(arrays["truth"]) <= shown.skip:
        return f"its run kept {len(arrays['truth'])} images only"
    return arrays
