"""The figures of a paper, drawn from what the runs behind their cells left: pictures, first layers, times.

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
from lacuna.drawing.panels import hole_picture, picture_panels, stacked
from lacuna.drawing.pictures import Row, image_grid
from lacuna.errors import LacunaError
from lacuna.report.recovered import recovered
from lacuna.runs.finished import StoredRun
from lacuna.tables.gather import CellResult, TableResult
from lacuna.tables.spec import Axis

Arrays = Mapping[str, "np.ndarray[Any, Any]"]


def draw_figure(result: TableResult) -> Image.Image:
    """The figure as far as its runs are done; what is missing is a hole that says why.

    Raises:
        LacunaError: an option of the figure makes no sense.
    """
    figure = result.plan.spec.figure
    assert figure is not None
    options = {key: value for key, value in figure.items() if key != "kind"}
    return KINDS[figure["kind"]](result, **options)


# ------------------------------------------------------------------ figure 2


def panels(result: TableResult, pictures: Sequence[str] = ("reconstructions", "samples")) -> Image.Image:
    """The runs' pictures of these names: a row a method, a column a data set and picture."""
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
    """A block a column (data set): a test image, and what the first layers of the rows' runs make of it.

    All maps of a block have one colour scale. A row whose run has MisConv's layer also gets two more: the same
    filters applied to the density's mean, and how much larger the expected activation is.

    Args:
        maps: how many maps of a layer are shown, those of the largest mean activation.
    """
    if not isinstance(maps, int) or maps < 1:
        raise LacunaError(f"figure.maps={maps} must be a whole number of at least 1.")
    spec = result.plan.spec
    return stacked([_block(result, column, maps) for column in spec.columns])


def _block(result: TableResult, column: Axis, maps: int) -> Image.Image:
    found: list[tuple[str, Arrays | str]] = []
    for row in result.plan.spec.rows:
        cell = result.at(row, column)
        found.append((row.label, _first_layer(cell) if _run(cell) is not None else cell.reason))
    known = [arrays for _, arrays in found if not isinstance(arrays, str)]
    if not known:
        return hole_picture(column.label, "; ".join(dict.fromkeys(str(why) for _, why in found)))
    top = max(float(arrays["features"].max()) for arrays in known)
    scale = (0.0, top if top > 0 else 1.0)
    rows = [_given(column.label, known)]
    for label, arrays in found:
        if isinstance(arrays, str):
            blank = np.zeros((1, 1, *known[0]["features"].shape[-2:]))
            rows.append(Row(f"{label}: {arrays}"[:60], blank, mask=blank.astype(bool)))
        else:
            rows += _maps(label, arrays, maps, scale)
    return image_grid(rows)


def _given(label: str, known: Sequence[Arrays]) -> Row:
    """The truth, what is observed of it, and what fills it where a front did."""
    first = known[0]
    shown = [first["truth"], first["observed"]]
    shown += [arrays["filled"].clip(0, 1) for arrays in known if "filled" in arrays][:1]
    observed = np.broadcast_to(first["mask"], first["truth"].shape)
    seen = [np.ones_like(observed), observed, np.ones_like(observed)][: len(shown)]
    names = ", ".join(("truth", "observed", "filled")[: len(shown)])
    return Row(f"{label}: {names}", np.stack(shown), np.stack(seen))


def _maps(label: str, arrays: Arrays, maps: int, scale: tuple[float, float]) -> list[Row]:
    features = arrays["features"]
    chosen = np.argsort(-features.mean((1, 2)), kind="stable")[:maps]
    rows = [Row(label, features[chosen, None], heat=True, limits=scale)]
    if "features_of_mean" in arrays:
        mean = arrays["features_of_mean"]
        rows.append(Row("its filters on the mean", mean[chosen, None], heat=True, limits=scale))
        rows.append(Row("what uncertainty adds", (features - mean)[chosen, None], heat=True))
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
    """The first test images of every column's data, complete and behind every row's mask scheme."""
    if not isinstance(images, int) or images < 1:
        raise LacunaError(f"figure.images={images} must be a whole number of at least 1.")
    spec = result.plan.spec
    blocks = []
    for column in spec.columns:
        rows: list[Row] = []
        for row in spec.rows:
            config = result.at(row, column).cell.config
            if config is not None:
                truth, shown = _masked(config, images)
                rows += [] if rows else [Row("complete", truth)]
                rows.append(Row(row.label, truth, mask=shown))
        blocks.append(image_grid(rows) if rows else hole_picture(column.label, "the data are not here"))
    return stacked(blocks)


def _masked(config: Mapping[str, Any], count: int) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """The first test images (N,C,H,W), and where a mask scheme shows them (N,1 or C,H,W)."""
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
    """Box plots of all times of timing runs: a group a cell, a box a layer."""
    several = len(result.plan.spec.columns) > 1
    groups: dict[str, Mapping[str, Sequence[float]]] = {}
    holes: list[str] = []
    for cell in result.cells:
        label = cell.cell.label if several else cell.cell.row.label
        times = _times(cell)
        if isinstance(times, str):
            holes.append(f"{label}: {times}")
        groups[label.replace(", ", "\n")] = {} if isinstance(times, str) else {
            name: times[name] for name in series if name in times
        }  # fmt: skip
    if not any(groups.values()):
        return hole_picture(result.plan.spec.title, "; ".join(dict.fromkeys(holes)))
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
    """The finished run of a cell; a figure has one seed."""
    return cell.done[0] if cell.done else None


KINDS: Mapping[str, Callable[..., Image.Image]] = {
    "panels": panels,
    "first_layers": first_layers,
    "masks": masks,
    "boxes": boxes,
    "recovered": recovered,
}
"""What :data:`lacuna.tables.spec.FIGURES` names."""
