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
    except LacunaError:
        raise
    except Exception as error:  # Pillow raises many kinds of errors for damaged files
        raise _damaged(path, error) from error


class Mask(NamedTuple):
    """A mask file: bool (H, W), True = observed; whether its values were 0 and 1; whether there were greys."""

    observed: np.ndarray
    binary: bool
    grey: bool


def read_mask(path: Path) -> Mask:
    """The mask in a file: white, or 1 beside 0, and opaque = observed.

    Raises:
        LacunaError: damaged, several pages, or another convention: no value means observed, or 1 may mean anything.
    """
    picture = _decoded(path)
    deep = picture.mode.startswith(("I", "F"))
    values = np.asarray(picture if deep else picture.convert("L"))
    alpha = np.full(values.shape, 255) if deep else np.asarray(picture.convert("RGBA"))[..., 3]
    opaque = alpha >= 128
    shown = np.unique(np.nan_to_num(values[opaque])).tolist()
    if picture.mode != "1" and set(shown) <= {0, 1}:
        return Mask((values == 1) & opaque, 1 in shown, False)
    top = 65535 if deep and shown and shown[-1] > 255 else 255
    if shown and (0 < shown[-1] <= top / 2 or (1 in shown and len(shown) <= 3)):
        listed = ", ".join(f"{value:g}" for value in shown[:5]) + (", ..." if len(shown) > 5 else "")
        raise LacunaError(f"{path} holds the values {listed}: a mask needs {_CONVENTION}.")
    grey = bool(set(shown) - {0, top} or set(np.unique(alpha).tolist()) - {0, 255})
    return Mask((values > top / 2) & opaque, False, grey)


def _decoded(path: Path) -> Image.Image:
    try:
        # from memory, for Pillow maps grey TIFF files that lie on disk with their sides exchanged if they are turned
        with Image.open(io.BytesIO(path.read_bytes())) as file:
            _refuse_pages(path, file)
            file.load()
            return ImageOps.exif_transpose(file)
    except LacunaError:
        raise
    except Exception as error:  # Pillow raises many kinds of errors for damaged files
        raise _damaged(path, error) from error


def _refuse_pages(path: Path, file: Image.Image) -> None:
    pages = getattr(file, "n_frames", 1)
    if pages > 1 and file.format != "MPO":  # a photograph with previews, as telephones write it
        raise LacunaError(f"{path} holds {pages} pages or frames: save each as a file of its own.")


def _damaged(path: Path, error: Exception) -> LacunaError:
    reason = " ".join(str(error).split()) or type(error).__name__
    return LacunaError(f"{path} cannot be read as an image ({reason}): replace or remove it.")
