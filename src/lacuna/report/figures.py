"""The figures of a paper, drawn from the files of the runs of their cells: pictures, first layers, times.

Torch is imported only where masks are drawn on images.
"""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image

from lacuna import files
from lacuna.drawing.box_plots import box_plot
from lacuna.drawing.panels import empty_picture, picture_panels, stacked
from lacuna.drawing.pictures import Row, image_grid
from lacuna.errors import LacunaError
from lacuna.report.recovered import recovered
from lacuna.runs.finished import StoredRun
from lacuna.tables.gather import CellResult, TableResult
from lacuna.tables.spec import Axis

Arrays = Mapping[str, "np.ndarray[Any, Any]"]


def draw_figure(result: TableResult) -> Image.Image:
    """The figure from the runs that are done. A missing part shows the reason.

    Raises:
        LacunaError: an invalid option of the figure.
    """
    figure = result.plan.spec.figure
    assert figure is not None
    options = {key: value for key, value in figure.items() if key != "kind"}
    return KINDS[figure["kind"]](result, **options)


# ------------------------------------------------------------------ figure 2


def panels(result: TableResult, pictures: Sequence[str] = ("reconstructions", "samples")) -> Image.Image:
    """The runs' pictures of these names: rows are methods, columns are data sets and pictures."""
    spec = result.plan.spec
    grid = [
        [_picture(result.at(row, column), name) for column in spec.columns for name in pictures] for row in spec.rows
    ]
    titles = [f"{column.label}: {name.replace('_', ' ')}" for column in spec.columns for name in pictures]
    return picture_panels(grid, [row.label for row in spec.rows], titles)


def _picture(cell: CellResult, name: str) -> Image.Image | str:
    run = _run(cell)
    if run is None:
        return cell.reason
    path = run.folder.pictures / f"{name}.png"
    try:
        with Image.open(path) as image:
            return image.convert("RGB")
    except (OSError, SyntaxError, ValueError):
        return f"{cell.cell.label}: its run has no picture {path.name}"


# ------------------------------------------------------------------ figure 3


def first_layers(result: TableResult, maps: int = 12) -> Image.Image:
    """A block for each column (data set): a test image, and the feature maps of the first layers of the rows' runs.

    All maps of a block share a colour scale. A row with MisConv's layer has two more: the same filters applied to the
    density's mean, and the expected activation minus that.

    Args:
        maps: number of maps of a layer, those with the largest mean activation.
    """
    if not isinstance(maps, int) or maps < 1:
        raise LacunaError(f"figure.maps={maps} must be a whole number of at least 1.")
    spec = result.plan.spec
    return stacked([_block(result, column, maps) for column in spec.columns])


def _block(result: TableResult, column: Axis, maps: int) -> Image.Image:
    layers: list[tuple[str, Arrays | str]] = []
    for row in result.plan.spec.rows:
        cell = result.at(row, column)
        layers.append((row.label, _first_layer(cell) if _run(cell) is not None else cell.reason))
    available = [arrays for _, arrays in layers if not isinstance(arrays, str)]
    if not available:
        return empty_picture(column.label, "; ".join(dict.fromkeys(str(reason) for _, reason in layers)))
    top = max(float(arrays["features"].max()) for arrays in available)
    scale = (0.0, top if top > 0 else 1.0)
    rows = [_input_row(column.label, available)]
    for label, arrays in layers:
        if isinstance(arrays, str):
            blank = np.zeros((1, 1, *available[0]["features"].shape[-2:]))
            rows.append(Row(f"{label}: {arrays}"[:60], blank, mask=blank.astype(bool)))
        else:
            rows += _maps(label, arrays, maps, scale)
    return image_grid(rows)


def _input_row(label: str, available: Sequence[Arrays]) -> Row:
    """The truth, the observed image and, if a stem imputes it, the imputation."""
    first = available[0]
    images = [first["truth"], first["observed"]]
    images += [arrays["filled"].clip(0, 1) for arrays in available if "filled" in arrays][:1]
    observed = np.broadcast_to(first["mask"], first["truth"].shape)
    masks = [np.ones_like(observed), observed, np.ones_like(observed)][: len(images)]
    names = ", ".join(("truth", "observed", "imputed")[: len(images)])
    return Row(f"{label}: {names}", np.stack(images), np.stack(masks))


def _maps(label: str, arrays: Arrays, maps: int, scale: tuple[float, float]) -> list[Row]:
    features = arrays["features"]
    chosen = np.argsort(-features.mean((1, 2)), kind="stable")[:maps]
    rows = [Row(label, features[chosen, None], heat=True, limits=scale)]
    if "features_of_mean" in arrays:
        mean = arrays["features_of_mean"]
        rows.append(Row("its filters on the mean", mean[chosen, None], heat=True, limits=scale))
        rows.append(Row("added by uncertainty", (features - mean)[chosen, None], heat=True))
    return rows


def _first_layer(cell: CellResult) -> Arrays | str:
    run = _run(cell)
    assert run is not None
    try:
        with np.load(run.folder.pictures / "first_layer.npz", allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        return arrays if {"truth", "observed", "mask", "features"} <= arrays.keys() else "first_layer.npz is damaged"
    except (OSError, ValueError, EOFError, zipfile.BadZipFile):
        return "its run has no first_layer.npz"


# ------------------------------------------------------------------ figure 4


def masks(result: TableResult, images: int = 8) -> Image.Image:
    """The first test images of every column's data: complete, and with every row's mask scheme."""
    if not isinstance(images, int) or images < 1:
        raise LacunaError(f"figure.images={images} must be a whole number of at least 1.")
    spec = result.plan.spec
    blocks = []
    for column in spec.columns:
        rows: list[Row] = []
        for row in spec.rows:
            config = result.at(row, column).cell.config
            if config is not None:
                truth, mask = _masked(config, images)
                rows += [] if rows else [Row("complete", truth)]
                rows.append(Row(row.label, truth, mask=mask))
        blocks.append(image_grid(rows) if rows else empty_picture(column.label, "the data are not on this machine"))
    return stacked(blocks)


def _masked(config: Mapping[str, Any], count: int) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """The first test images (N,C,H,W) and their masks (N,1 or C,H,W), True = observed."""
    import torch

    from lacuna.data.incomplete import EvalBatch
    from lacuna.data.module import IncompleteData

    source = {key: value for key, value in config["data"].items() if key not in ("root", "download")}
    data = IncompleteData(source, config["mask"], root=config["data"]["root"], download=False)
    batch = data.test.batch(torch.arange(min(count, len(data.test))))
    assert isinstance(batch, EvalBatch)
    return batch.truth.numpy(), batch.mask.numpy()


# ------------------------------------------------------------------ figure 5


def boxes(result: TableResult, series: Sequence[str] = ("conv", "misconv")) -> Image.Image:
    """Box plots of all times of timing runs: a group for each cell, a box for each layer."""
    several = len(result.plan.spec.columns) > 1
    groups: dict[str, Mapping[str, Sequence[float]]] = {}
    missing: list[str] = []
    for cell in result.cells:
        label = cell.cell.label if several else cell.cell.row.label
        times = _times(cell)
        if isinstance(times, str):
            missing.append(f"{label}: {times}")
        groups[label.replace(", ", "\n")] = {} if isinstance(times, str) else {
            name: times[name] for name in series if name in times
        }  # fmt: skip
    if not any(groups.values()):
        return empty_picture(result.plan.spec.title, "; ".join(dict.fromkeys(missing)))
    return box_plot(groups, label="milliseconds", scale=1e3, log=True)


def _times(cell: CellResult) -> Mapping[str, Sequence[float]] | str:
    run = _run(cell)
    if run is None:
        return cell.reason
    try:
        found = files.read_json(run.folder.path / "times.json")
        return {str(name): [float(value) for value in values] for name, values in found.items()}
    except (LacunaError, OSError, AttributeError, TypeError, ValueError):
        return "its run has no times.json"


def _run(cell: CellResult) -> StoredRun | None:
    """The finished run of a cell. A figure has one seed."""
    return cell.done[0] if cell.done else None


KINDS: Mapping[str, Callable[..., Image.Image]] = {
    "panels": panels,
    "first_layers": first_layers,
    "masks": masks,
    "boxes": boxes,
    "recovered": recovered,
}
"""Kinds of figures, as in :data:`lacuna.tables.spec.FIGURES`."""
