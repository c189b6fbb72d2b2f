"""Pictures of incomplete images: grids with titled rows, heat maps with a colour bar. Imports no torch.

Images may be tensors or arrays, (N,C,H,W) with C = 1 or 3 and values in [0, 1]. All functions return a PIL image. If
``path`` is given, they also write it as PNG, atomically.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from lacuna.errors import LacunaError
from lacuna.files import replacing

# Missing pixels are hatched in colours that grey images never have and photographs hardly ever.
MISSING_COLOURS = np.array([(226, 74, 138), (240, 128, 174)], dtype=np.uint8)
INK, SOFT, PAPER = (29, 33, 41), (104, 112, 125), (255, 255, 255)
GAP, MARGIN, BAR = 3, 14, 12
FONT_SIZE = 13


@dataclass(frozen=True)
class Row:
    """One row of a grid.

    Attributes:
        title: left of the row.
        images: (N,C,H,W) in [0, 1], C = 1 or 3; for a heat map (N,1,H,W), any finite values.
        mask: (N,1,H,W) or (N,C,H,W) bool, True = observed; missing pixels are hatched.
        heat: whether to draw a heat map with a colour bar.
        limits: ends of the heat map's scale; default: 0 (or the minimum, if negative) and the maximum.
    """

    title: str
    images: Any
    mask: Any = None
    heat: bool = False
    limits: tuple[float, float] | None = None


def image_grid(
    rows: Sequence[Row | tuple[str, Any]],
    *,
    scale: int | None = None,
    columns: Sequence[str] | None = None,
    path: Path | None = None,
) -> Image.Image:
    """Rows of images below each other, each with its title to the left.

    Args:
        rows: :class:`Row` objects or (title, images) pairs; rows may have different numbers of images.
        scale: screen pixels per image pixel; None: an image is about 64 wide.
        columns: titles above the columns.
        path: of the PNG to write; None: none.

    Raises:
        LacunaError: no rows, or images of a wrong shape.
    """
    grid_rows = [row if isinstance(row, Row) else Row(*row) for row in rows]
    if not grid_rows:
        raise LacunaError("A picture needs at least one row of images.")
    strips = [_paint(row) for row in grid_rows]
    height, width = (max(strip.shape[axis] for strip, _ in strips) for axis in (1, 2))
    factor = scale or max(1, round(64 / max(height, width)))
    letters = font()
    label = max(round(letters.getlength(row.title)) for row in grid_rows) + 12
    count = max(len(strip) for strip, _ in strips)
    with_bar = any(limits is not None for _, limits in strips)
    side_x, side_y = width * factor + GAP, height * factor + GAP
    top = MARGIN + (FONT_SIZE + 8 if columns else 0)
    canvas = Image.new(
        "RGB",
        (
            MARGIN + label + count * side_x - GAP + MARGIN + (BAR + 44 if with_bar else 0),
            top + len(grid_rows) * side_y - GAP + MARGIN,
        ),
        PAPER,
    )
    draw = ImageDraw.Draw(canvas)
    for i, title in enumerate(columns or ()):
        draw.text((MARGIN + label + i * side_x + (side_x - GAP) / 2, MARGIN), title, SOFT, letters, anchor="mt")
    for r, (row, (strip, limits)) in enumerate(zip(grid_rows, strips, strict=True)):
        y = top + r * side_y
        draw.text((MARGIN, y + (side_y - GAP) / 2), row.title, INK, letters, anchor="lm")
        canvas.paste(_strip(strip, row, factor), (MARGIN + label, y))
        if limits is not None:
            _colour_bar(canvas, (MARGIN + label + count * side_x + 6, y), side_y - GAP, limits, over=_over(row, limits))
    return finish(canvas, path)


def row_picture(row: Row, *, scale: int | None = None) -> Image.Image:
    """The images of one row side by side, without title and colour bar, as a part of another picture.

    Args:
        row: the images; heat maps that are compared need the same ``limits``.
        scale: screen pixels per image pixel; None: an image is about 64 wide.

    Raises:
        LacunaError: images of a wrong shape.
    """
    strip, _ = _paint(row)
    return _strip(strip, row, scale or max(1, round(64 / max(strip.shape[1:3]))))


def colour_scale(limits: tuple[float, float], title: str, *, over: bool = False, length: int = 160) -> Image.Image:
    """The legend of heat maps: a title and a colour bar with the ends of the scale.

    Args:
        limits: ends of the scale.
        title: left of the bar.
        over: whether larger values may occur; they have the colour of the upper end.
        length: screen pixels of the bar.
    """
    letters, small = font(), font(FONT_SIZE - 2)
    low, high = f"{limits[0]:.3g}", f"{limits[1]:.3g}{' and more' if over else ''}"
    left = MARGIN + round(letters.getlength(title)) + 10
    start = left + round(small.getlength(low)) + 5
    canvas = Image.new("RGB", (start + length + 5 + round(small.getlength(high)) + MARGIN, BAR + MARGIN), PAPER)
    ramp = np.linspace(*limits, length)[None].repeat(BAR, 0)
    canvas.paste(Image.fromarray(_heat(ramp, limits)), (start, 0))
    draw = ImageDraw.Draw(canvas)
    for x, text, letter in ((MARGIN, title, letters), (left, low, small), (start + length + 5, high, small)):
        draw.text((x, BAR / 2), text, SOFT, letter, anchor="lm")
    return canvas


def first_layer_grid(
    features: Any,
    *,
    title: str = "",
    columns: int = 8,
    scale: int | None = None,
    limits: tuple[float, float] | None = None,
    path: Path | None = None,
) -> Image.Image:
    """The output of a first layer for one image: its channels (C,H,W) as heat maps on a common scale.

    Args:
        features: (C,H,W), any finite values.
        title: above the grid.
        columns: channels in a row.
        scale: screen pixels per feature pixel; None: a map is about 64 wide.
        limits: ends of the colour scale; grids that are compared need the same.
        path: of the PNG to write; None: none.

    Raises:
        LacunaError: features that are not (C,H,W).
    """
    maps = _array(features)
    if maps.ndim != 3 or 0 in maps.shape:
        raise LacunaError(f"first_layer_grid draws features (C, H, W), not {maps.shape}.")
    low, high = limits or _limits(maps)
    coloured = _heat(maps, (low, high))
    channels, height, width = maps.shape
    factor = scale or max(1, round(64 / max(height, width)))
    side_x, side_y = width * factor + GAP, height * factor + GAP
    across, down = min(columns, channels), -(-channels // columns)
    top = MARGIN + (FONT_SIZE + 8 if title else 0)
    size = (MARGIN + across * side_x + BAR + 44 + MARGIN, top + down * side_y - GAP + MARGIN)
    size = (max(size[0], round(font().getlength(title)) + 2 * MARGIN), size[1])
    canvas = Image.new("RGB", size, PAPER)
    if title:
        ImageDraw.Draw(canvas).text((MARGIN, MARGIN - 2), title, INK, font(), anchor="lt")
    for i, pixels in enumerate(coloured):
        tile = Image.fromarray(pixels).resize((width * factor, height * factor), Image.Resampling.NEAREST)
        canvas.paste(tile, (MARGIN + i % columns * side_x, top + i // columns * side_y))
    _colour_bar(canvas, (MARGIN + across * side_x + 6, top), min(down * side_y - GAP, 3 * side_y), (low, high))
    return finish(canvas, path)


def _paint(row: Row) -> tuple[np.ndarray[Any, Any], tuple[float, float] | None]:
    """The row's images as uint8 (N,H,W,3), and the limits of its colour scale if it has one."""
    images = _array(row.images)
    if images.ndim != 4 or images.shape[1] not in ((1,) if row.heat else (1, 3)) or 0 in images.shape:
        kind = "a heat map is (N, 1, H, W)" if row.heat else "images are (N, 1, H, W) or (N, 3, H, W)"
        raise LacunaError(f"Row {row.title!r} of a picture has shape {images.shape}: {kind}.")
    if row.heat:
        limits = row.limits or _limits(images)
        return _heat(images[:, 0], limits), limits
    levels = (np.nan_to_num(images.astype(np.float64)).clip(0, 1) * 255).round().astype(np.uint8)
    return np.broadcast_to(levels, (len(levels), 3, *levels.shape[2:])).transpose(0, 2, 3, 1), None


def _strip(strip: np.ndarray[Any, Any], row: Row, factor: int) -> Image.Image:
    """Images (N,H,W,3) side by side, with missing pixels hatched."""
    count, height, width = strip.shape[:3]
    canvas = Image.new("RGB", (count * (width * factor + GAP) - GAP, height * factor), PAPER)
    for i, pixels in enumerate(strip):
        canvas.paste(_enlarged(pixels, row, i, factor), (i * (width * factor + GAP), 0))
    return canvas


def _enlarged(pixels: np.ndarray[Any, Any], row: Row, index: int, factor: int) -> Image.Image:
    """One image (H,W,3) at ``factor`` times its size, with missing pixels hatched."""
    large = pixels.repeat(factor, 0).repeat(factor, 1)
    if row.mask is not None:
        mask = _array(row.mask)[index].astype(bool)
        mask = np.broadcast_to(mask, (3, *mask.shape[1:])).transpose(1, 2, 0).repeat(factor, 0).repeat(factor, 1)
        diagonal = np.add.outer(np.arange(large.shape[0]), np.arange(large.shape[1])) % 8 < 3
        hatched = MISSING_COLOURS[diagonal.astype(np.intp)]
        # per channel: a pixel with some observed channels shows those
        large = np.where(mask, large, hatched)
    return Image.fromarray(np.ascontiguousarray(large, dtype=np.uint8))


def _over(row: Row, limits: tuple[float, float]) -> bool:
    """Whether a heat map has values above the end of its scale."""
    return bool(np.nanmax(_array(row.images)) > limits[1])


def _colour_bar(
    canvas: Image.Image, at: tuple[int, int], height: int, limits: tuple[float, float], *, over: bool = False
) -> None:
    ramp = np.linspace(limits[1], limits[0], height)[:, None].repeat(BAR, 1)
    canvas.paste(Image.fromarray(_heat(ramp, limits)), at)
    draw, x = ImageDraw.Draw(canvas), at[0] + BAR + 5
    small = font(FONT_SIZE - 2)
    draw.text((x, at[1]), f"{'≥ ' if over else ''}{limits[1]:.3g}", SOFT, small, anchor="lt")
    draw.text((x, at[1] + height), f"{limits[0]:.3g}", SOFT, small, anchor="lb")


def _limits(values: np.ndarray[Any, Any]) -> tuple[float, float]:
    low, high = min(0.0, float(np.nanmin(values))), float(np.nanmax(values))
    return (low, high) if high > low else (low, low + 1)


def _heat(values: np.ndarray[Any, Any], limits: tuple[float, float]) -> np.ndarray[Any, Any]:
    """Values (...) as colours, uint8 (...,3): dark = low, bright = high; suitable for colour-blind readers."""
    import matplotlib  # imported here because it is slow and only heat maps need it

    low, high = limits
    share = np.nan_to_num((values.astype(np.float64) - low) / max(high - low, 1e-12)).clip(0, 1)
    return np.asarray(matplotlib.colormaps["magma"](share, bytes=True)[..., :3])


def _array(values: Any) -> np.ndarray[Any, Any]:
    """A tensor (on any device) or array as a numpy array, without importing torch."""
    if hasattr(values, "detach"):
        values = values.detach().cpu()
        values = values.float().numpy() if values.is_floating_point() else values.numpy()
    return np.asarray(values)


@functools.cache
def font(size: int = FONT_SIZE) -> ImageFont.FreeTypeFont:
    """The font of text in pictures."""
    import matplotlib

    # matplotlib ships DejaVu Sans, which has the Greek letters and signs of the titles
    return ImageFont.truetype(str(Path(matplotlib.get_data_path()) / "fonts/ttf/DejaVuSans.ttf"), size)


def finish(canvas: Image.Image, path: Path | None) -> Image.Image:
    """The picture itself; if ``path`` is given, it is also written as PNG."""
    if path is not None:
        # a picture with at most 256 colours (grey digits) is stored with a palette, at a third of the size
        few = canvas.getcolors(256) is not None
        stored = canvas.quantize(256, method=Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE) if few else canvas
        with replacing(path) as temporary:
            stored.save(temporary, format="PNG", optimize=True)
    return canvas
