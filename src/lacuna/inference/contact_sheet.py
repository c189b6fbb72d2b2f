"""A page that shows what was observed, what was filled in and, where it is known, how uncertain that is."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
from PIL import Image

from lacuna.data.sources.own_depth import decode
from lacuna.drawing.html_page import Facts, Gallery, Notice, Section, write_page
from lacuna.drawing.html_page import Picture as PagePicture
from lacuna.drawing.pictures import GAP, PAPER, Row, row_picture
from lacuna.errors import LacunaError
from lacuna.inference.pictures import Item, Picture, read_picture
from lacuna.inference.results import result_names

SHEET = "contact_sheet.html"
SHOWN = 60
"""Images on the page: the first ones."""
SIDE = 160
"""Screen pixels of the longer side of an image, at most."""


@dataclass(frozen=True)
class Shown:
    """An image on the page.

    Args:
        picture: what was given.
        filled: (C,H,W), of the picture's type.
        deviation: standard deviation (1,H,W) in units of the range; None where not known.
    """

    picture: Picture
    filled: np.ndarray
    deviation: np.ndarray | None


def write_sheet(folder: Path, images: Iterable[Shown], facts: Sequence[tuple[str, str]], failed: Sequence[str]) -> Path:
    """Write the page into the folder of results.

    Args:
        folder: of the results.
        images: of which the first are shown.
        facts: (what, how many) above them.
        failed: a sentence for each image that failed.
    """
    sections: list[Section] = [Facts(facts)]
    if failed:
        more = [f"and {len(failed) - SHOWN} more"] if len(failed) > SHOWN else []
        sections.append(Notice(f"{len(failed)} images failed", [*failed[:SHOWN], *more]))
    drawn = [_drawn(shown) for shown in islice(images, SHOWN)]
    uncertain = "; right: standard deviation of the missing pixels" if any("uncertain" in d.alt for d in drawn) else ""
    sections.append(Gallery(drawn, f"Left: observed, missing pixels hatched; then: filled{uncertain}"))
    path = folder / SHEET
    write_page(path, "Completed images", sections)
    return path


def finished_pictures(
    folder: Path, items: Sequence[Item], samples: int, value_range: Sequence[float] | None
) -> Iterator[Shown]:
    """The finished images of a folder, read again from the input and the results."""
    for item in items:
        with suppress(LacunaError, OSError):
            picture = read_picture(item, value_range)
            filled = decode(folder / result_names(item.name, samples, False)[0]).values
            uncertainty = folder / result_names(item.name, samples, True)[1]
            deviation = decode(uncertainty).values / 510 if uncertainty.is_file() else None
            yield Shown(picture, filled, deviation)


def finished_arrays(path: Path, prefix: str, pictures: Iterable[Picture]) -> Iterator[Shown]:
    """The finished images of a NumPy file.

    Args:
        path: of the results.
        prefix: of their names.
        pictures: the images given, in the same order.
    """
    with np.load(path) as results:
        images, deviations = results[f"{prefix}images"], results.get(f"{prefix}uncertainty")
    for number, picture in enumerate(pictures):
        yield Shown(picture, images[number], None if deviations is None else deviations[number])


def _drawn(shown: Shown) -> PagePicture:
    picture = shown.picture
    channels, height, width = picture.values.shape
    low, high = _limits(picture)
    step = -(-max(height, width) // SIDE)
    scale = max(1, SIDE // max(height, width) // 2)
    missing = (
        np.broadcast_to(~picture.observed, (1, height, width)) if len(picture.observed) == 1 else ~picture.observed
    )
    mask = _small(1.0 - missing, step) > 0.5
    parts = []
    for values, where in ((picture.values, mask), (shown.filled, None)):
        unit = (np.nan_to_num(values.astype(np.float64)) - low) / (high - low)
        colours = unit if len(unit) in (1, 3) else unit[:1]
        parts.append(
            row_picture(Row("", _small(colours, step)[None], None if where is None else where[None]), scale=scale)
        )
    if shown.deviation is not None:
        heat = _small(shown.deviation.astype(np.float64), step)[None]
        parts.append(row_picture(Row("", heat, heat=True), scale=scale))
    wide = sum(part.width for part in parts) + GAP * (len(parts) - 1)
    canvas, left = Image.new("RGB", (wide, parts[0].height), PAPER), 0
    for part in parts:
        canvas.paste(part, (left, 0))
        left += part.width + GAP
    share, stretched = 100 * missing.mean(), f", shown from {low:.4g} to {high:.4g}"
    about = f"{picture.name}: {width}x{height}, {'RGB' if channels == 3 else 'grey'} {picture.scale.dtype}, "
    caption = f"{about}{share:.3g} % missing{stretched if picture.scale.dtype.itemsize > 1 else ''}"
    return PagePicture(canvas, f"observed, filled{', uncertainty' * (len(parts) > 2)}", caption)


def _limits(picture: Picture) -> tuple[float, float]:
    """The values that are black and white on the page: of deep images those that occur."""
    scale = picture.scale
    seen = picture.values[np.broadcast_to(picture.observed, picture.values.shape)]
    if scale.dtype.itemsize == 1 or not seen.size or seen.min() == seen.max():
        return scale.low, scale.high
    return float(seen.min()), float(seen.max())


def _small(values: np.ndarray, step: int) -> np.ndarray:
    """Means of blocks of ``step`` x ``step`` pixels (C,H,W); what is left at the border is cut off."""
    if step == 1:
        return values
    channels, height, width = values.shape
    down, across = max(1, height // step), max(1, width // step)
    cut = values[:, : down * step, : across * step]
    high, wide = min(step, height), min(step, width)
    means: np.ndarray = cut.reshape(channels, down, high, across, wide).mean((2, 4))
    return means
