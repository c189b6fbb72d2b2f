"""Grids of pictures with titles for rows and columns. A missing picture shows the reason. Imports no torch."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence
from pathlib import Path

from PIL import Image, ImageDraw

from lacuna.drawing.pictures import INK, MARGIN, PAPER, SOFT, finish, font
from lacuna.errors import LacunaError

GAP = 10
EMPTY = (240, 241, 244)
LEAST = (160, 48)
"""Least width and height of the panel of a missing picture."""
LETTERS = 22
"""Characters per line of a row's title."""


def picture_panels(
    panels: Sequence[Sequence[Image.Image | str]],
    rows: Sequence[str],
    columns: Sequence[str],
    *,
    widest: int = 460,
    path: Path | None = None,
) -> Image.Image:
    """A grid of pictures.

    Args:
        panels: by row and column, a picture, or the reason why there is none.
        rows: titles to the left.
        columns: titles above.
        widest: largest width in pixels; wider pictures are scaled down.
        path: of the PNG to write; None: none.

    Raises:
        LacunaError: there is not exactly one panel for each row and column.
    """
    if not rows or not columns or [len(row) for row in panels] != [len(columns)] * len(rows):
        raise LacunaError(f"A grid of {len(rows)} rows and {len(columns)} columns needs a panel for each.")
    fitted = [[panel if isinstance(panel, str) else _fitted(panel, widest) for panel in row] for row in panels]
    widths = [_largest((row[i] for row in fitted), 0) for i in range(len(columns))]
    heights = [_largest(row, 1) for row in fitted]
    titles = ["\n".join(textwrap.wrap(title, LETTERS)) for title in rows]
    canvas = Image.new("RGB", (1, 1), PAPER)
    pen = ImageDraw.Draw(canvas)
    left = MARGIN + max(round(pen.multiline_textbbox((0, 0), title, font())[2]) for title in titles) + GAP
    widths = [max(width, round(font().getlength(title))) for width, title in zip(widths, columns, strict=True)]
    top = MARGIN + 24
    size = (
        left + sum(widths) + GAP * (len(widths) - 1) + MARGIN,
        top + sum(heights) + GAP * (len(heights) - 1) + MARGIN,
    )
    canvas = Image.new("RGB", size, PAPER)
    pen = ImageDraw.Draw(canvas)
    lefts = [left + sum(widths[:i]) + GAP * i for i in range(len(widths))]
    for x, width, title in zip(lefts, widths, columns, strict=True):
        pen.text((x + width / 2, MARGIN), title, SOFT, font(), anchor="mt")
    y = top
    for title, height, row in zip(titles, heights, fitted, strict=True):
        pen.multiline_text((MARGIN, y + height / 2), title, INK, font(), anchor="lm")
        for x, width, panel in zip(lefts, widths, row, strict=True):
            if isinstance(panel, str):
                _draw_reason(pen, (x, y, x + width, y + height), panel)
            else:
                canvas.paste(panel, (x + (width - panel.width) // 2, y + (height - panel.height) // 2))
        y += height + GAP
    return finish(canvas, path)


def stacked(pictures: Sequence[Image.Image], path: Path | None = None, *, gap: int = 0) -> Image.Image:
    """Pictures below each other, aligned to the left, with ``gap`` pixels between them.

    Raises:
        LacunaError: no pictures.
    """
    if not pictures:
        raise LacunaError("A picture needs at least one part.")
    height = sum(picture.height for picture in pictures) + gap * (len(pictures) - 1)
    size = (max(picture.width for picture in pictures), height)
    canvas, y = Image.new("RGB", size, PAPER), 0
    for picture in pictures:
        canvas.paste(picture, (0, y))
        y += picture.height + gap
    return finish(canvas, path)


def empty_picture(title: str, why: str, width: int = 640, height: int = 120) -> Image.Image:
    """A picture with a title and the reason why the real one is missing."""
    canvas = Image.new("RGB", (width, height), PAPER)
    pen = ImageDraw.Draw(canvas)
    pen.text((MARGIN, MARGIN), title, INK, font(), anchor="lt")
    _draw_reason(pen, (MARGIN, MARGIN + 24, width - MARGIN, height - MARGIN), why)
    return canvas


def _draw_reason(pen: ImageDraw.ImageDraw, box: tuple[int, int, int, int], why: str) -> None:
    pen.rectangle(box, fill=EMPTY)
    text = "\n".join(textwrap.wrap(why, max(12, (box[2] - box[0]) // 8))[: max(1, (box[3] - box[1]) // 18)])
    pen.multiline_text(((box[0] + box[2]) / 2, (box[1] + box[3]) / 2), text, SOFT, font(), anchor="mm", align="center")


def _fitted(picture: Image.Image, widest: int) -> Image.Image:
    picture = picture.convert("RGB")
    if picture.width <= widest:
        return picture
    return picture.resize((widest, max(1, round(picture.height * widest / picture.width))), Image.Resampling.LANCZOS)


def _largest(panels: Iterable[Image.Image | str], axis: int) -> int:
    return max((panel.size[axis] for panel in panels if isinstance(panel, Image.Image)), default=LEAST[axis])
