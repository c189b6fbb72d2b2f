"""Imputations of the same test images by several methods, with squared errors on one scale (PRFlow, figures 2-5)."""

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
class _Selection:
    """The selected ones of the stored test images, and the end of the scale of squared errors."""

    images: int
    skip: int
    error: float

    def of(self, array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        return array[self.skip : self.skip + self.images]


def recovered(result: TableResult, images: int = 6, skip: int = 0, error: float = 0.25) -> Image.Image:
    """A block for each column: truth, observed pixels, and for every row the imputations above their squared errors.

    An error is the mean over channels of (imputed - true)², with values in [0, 1].

    Args:
        images: number of test images.
        skip: number of first test images that are skipped.
        error: end of the common scale of squared errors, in (0, 1]; it begins at 0.

    Raises:
        LacunaError: an invalid option.
    """
    selection, spec = _checked(images, skip, error), result.plan.spec
    blocks = [_block(result, column, selection) for column in spec.columns]
    titles = ["truth", "observed", *(row.label for row in spec.rows)]
    heads = [_title(result, column) for column in spec.columns]
    panels = picture_panels(list(zip(*blocks, strict=True)), titles, heads, widest=10**6)
    title = "squared errors, below each imputed image, on one scale"
    legend = colour_scale((0.0, selection.error), title, over=selection.error < 1)
    return stacked([panels, legend])


def _checked(images: Any, skip: Any, error: Any) -> _Selection:
    for name, value, least in (("images", images, 1), ("skip", skip, 0)):
        if type(value) is not int or value < least:
            raise LacunaError(f"figure.{name}={value} must be a whole number of at least {least}.")
    if isinstance(error, bool) or not isinstance(error, int | float) or not 0 < error <= 1:
        raise LacunaError(f"figure.error={error} must be above 0 and at most 1: it is the end of the scale of errors.")
    return _Selection(images, skip, float(error))


def _block(result: TableResult, column: Axis, selection: _Selection) -> list[Image.Image | str]:
    stored = [_stored(result.at(row, column), selection) for row in result.plan.spec.rows]
    first = next((arrays for arrays in stored if not isinstance(arrays, str)), None)
    inputs = ["", ""] if first is None else _inputs(first, selection)
    return [*inputs, *(arrays if isinstance(arrays, str) else _imputed(arrays, selection) for arrays in stored)]


def _title(result: TableResult, column: Axis) -> str:
    return f"{column.label} missing" if has_rates(result.plan.spec) else column.label


def _inputs(arrays: Arrays, selection: _Selection) -> list[Image.Image]:
    truth, has_truth, mask = (selection.of(arrays[name]) for name in ("truth", "known", "mask"))
    return [row_picture(Row("truth", truth, mask=has_truth)), row_picture(Row("observed", truth, mask=mask))]


def _imputed(arrays: Arrays, selection: _Selection) -> Image.Image:
    names = ("truth", "recovered", "known")
    truth, imputed, has_truth = (selection.of(arrays[name]).astype(np.float32) for name in names)
    errors = (has_truth * np.square(imputed - truth)).mean(1, keepdims=True)
    heat = Row("squared error", errors, heat=True, limits=(0.0, selection.error))
    return stacked([row_picture(Row("imputed", imputed)), row_picture(heat)], gap=GAP)


def _stored(cell: CellResult, selection: _Selection) -> Arrays | str:
    """The test images that the run of a cell stored, or why there are none."""
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
    if len(arrays["truth"]) <= selection.skip:
        return f"its run stored only {len(arrays['truth'])} images"
    return arrays
