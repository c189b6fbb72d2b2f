"""Decoding of one image file: as viewers show it, one page, 8 bits; and of one mask file."""

from __future__ import annotations

import io
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageOps

from lacuna.errors import LacunaError

_ORIENTATION = 0x0112
_CONVENTION = "white (or 1) = observed, black (0) or transparent = missing"


def open_image(path: Path) -> Image.Image:
    """The picture in a file, turned as its EXIF orientation says.

    Raises:
        LacunaError: damaged, several pages, or more than 8 bits per channel.
    """
    picture = _decoded(path)
    if picture.mode.startswith(("I", "F")):  # Pillow would clip values above 255
        raise LacunaError(f"{path} has more than 8 bits per channel: convert the images to 8 bits, or use data=arrays.")
    return picture


class Head(NamedTuple):
    """What a file says about its picture: mode and (width, height) of :func:`open_image`, and further previews."""

    mode: str
    size: tuple[int, int]
    previews: int


def head(path: Path) -> Head:
    """The head of an image file; its pixels are not decoded.

    Raises:
        LacunaError: no image, or several pages.
    """
    try:
        with Image.open(path) as file:
            _refuse_pages(path, file)
            # Pillow's sizes of TIFF files are turned already
            turned = file.format != "TIFF" and file.getexif().get(_ORIENTATION) in (5, 6, 7, 8)
            size = (file.height, file.width) if turned else file.size
            return Head(file.mode, size, getattr(file, "n_frames", 1) - 1)
    except (OSError, SyntaxError, ValueError) as error:
        raise _damaged(path, error) from error


def read_mask(path: Path) -> tuple[np.ndarray, bool]:
    """A mask file as bool (H, W), True = observed, and whether its values were 0 and 1.

    Raises:
        LacunaError: damaged, several pages, or another convention: there are values, but none means observed.
    """
    picture = _decoded(path)
    deep = picture.mode.startswith(("I", "F"))
    values = np.asarray(picture if deep else picture.convert("L"))
    opaque = np.ones(values.shape, bool) if deep else np.asarray(picture.convert("RGBA"))[..., 3] >= 128
    shown = np.unique(np.nan_to_num(values[opaque]))
    if picture.mode == "1" or not set(shown.tolist()) <= {0, 1}:
        top = 65535 if deep and shown.size and shown[-1] > 255 else 255
        observed, binary = values > top / 2, False
        if shown.size and shown[-1] > 0 and shown[-1] <= top / 2:
            listed = ", ".join(f"{value:g}" for value in shown[:5]) + (", ..." if len(shown) > 5 else "")
            raise LacunaError(f"{path} holds the values {listed}: a mask needs {_CONVENTION}.")
    else:
        observed, binary = values == 1, bool(shown.size and shown[-1] == 1)
    return observed & opaque, binary


def _decoded(path: Path) -> Image.Image:
    try:
        # from memory, for Pillow maps grey TIFF files that lie on disk with their sides exchanged if they are turned
        with Image.open(io.BytesIO(path.read_bytes())) as file:
            _refuse_pages(path, file)
            file.load()
            return ImageOps.exif_transpose(file)
    except (OSError, SyntaxError, ValueError) as error:
        raise _damaged(path, error) from error


def _refuse_pages(path: Path, file: Image.Image) -> None:
    pages = getattr(file, "n_frames", 1)
    if pages > 1 and file.format != "MPO":  # a photograph with previews, as telephones write it
        raise LacunaError(f"{path} holds {pages} pages or frames: save each as a file of its own.")


def _damaged(path: Path, error: Exception) -> LacunaError:
    return LacunaError(f"{path} cannot be read as an image ({error}): replace or remove it.")
