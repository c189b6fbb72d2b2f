"""One image file, or one mask file, decoded in its own depth and as viewers show it."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from lacuna.data.sources import png16
from lacuna.data.sources.pixels import channels_first
from lacuna.errors import LacunaError

BITS_PER_SAMPLE, ORIENTATION, NODATA = 258, 274, 42113  # tags of TIFF; EXIF has the orientation, too
PLACE_ON_EARTH = (33550, 33922, 34264, 34735, 34736, 34737)
"""TIFF tags of GeoTIFF: they hold for the completed image as well."""
OPAQUE = 128
"""The least alpha of an observed pixel."""

TURNED = "turned as the EXIF orientation says"
RGB16 = "RGB;16"
"""Mode of RGB with 16 bits per channel, which Pillow does not have."""
PREVIEWS = "a photograph with previews (MPO), which are left out"
PALETTE = "colours of a palette written as RGB"
HALF_TRANSPARENT = "partly transparent pixels: from alpha 128 up they are observed, the alpha is not written"
ZERO_ONE = "mask with the values 0 and 1 instead of 0 and 255"
GREY_MASK = "mask with values between black and white: from the middle up a pixel is observed"


@dataclass(frozen=True)
class Decoded:
    """An image as it stands in its file.

    Args:
        values: (C,H,W), C = 1 or 3, in the file's own type.
        observed: bool (1,H,W): neither transparent nor NaN nor the file's nodata value.
        mode: Pillow's name of the pixels' format without alpha: 1, L, RGB, I;16, I or F; or RGB;16.
        notes: what a user should know of the way it was read.
        info: what is written again: colour profile, resolution, compression, place on Earth.
    """

    values: np.ndarray
    observed: np.ndarray
    mode: str
    notes: tuple[str, ...] = ()
    info: dict[str, Any] = field(default_factory=dict)


def decode(path: Path) -> Decoded:
    """An image file.

    Raises:
        LacunaError: it is damaged, has several pages, or pixels that would not be kept.
    """
    content = _content(path)
    if png16.is_png16(content):
        return _decode_png16(path, content)
    with _opened(path, content) as (file, picture, turned):
        notes = [note for note, holds in ((TURNED, turned), (PREVIEWS, file.format == "MPO")) if holds]
        if picture.mode in ("P", "PA"):
            picture, notes = picture.convert("RGBA"), [*notes, PALETTE]
        elif "transparency" in picture.info and picture.mode in ("1", "L", "RGB"):
            picture = picture.convert("RGBA" if picture.mode == "RGB" else "LA")
        values = np.asarray(picture)
        alpha = values[..., -1] if picture.mode in ("LA", "RGBA") else None
        mode = {"LA": "L", "RGBA": "RGB", "I;16B": "I;16", "I;16L": "I;16"}.get(picture.mode, picture.mode)
        if mode not in ("1", "L", "RGB", "I;16", "I", "F"):
            raise LacunaError(f"{path} has pixels of the kind {mode}: convert it to grey or RGB.")
        if alpha is not None:
            values = values[..., 0] if mode == "L" else values[..., :3]
        if mode == "I;16" or (mode == "I" and file.format == "PNG"):  # older versions of Pillow say I
            values, mode = values.astype(np.uint16), "I;16"
        observed = np.ones(values.shape[:2], bool) if alpha is None else alpha >= OPAQUE
        if alpha is not None and not np.isin(alpha, (0, 255)).all():
            notes.append(HALF_TRANSPARENT)
        if mode == "I;16" and "transparency" in picture.info:
            observed &= values != picture.info["transparency"]
        nodata = _nodata(file)
        if nodata is not None:
            observed &= values != nodata if values.ndim == 2 else (values != nodata).any(-1)
        if mode == "F":
            observed &= ~np.isnan(values)
        return Decoded(channels_first(values[None])[0], observed[None], mode, tuple(notes), _kept(file))


def decode_mask(path: Path) -> tuple[np.ndarray, tuple[str, ...]]:
    """A mask file: bool (H,W), True = observed (white and not transparent), and notes.

    Raises:
        LacunaError: it cannot be read, is coloured, or no pixel is bright enough to be meant as observed.
    """
    mask = decode(path)
    values, notes = mask.values, [note for note in mask.notes if note == TURNED]
    if len(values) > 1 and (values != values[:1]).any():
        raise LacunaError(
            f"{path} is coloured: a mask is white where a pixel is observed and black where it is missing."
        )
    grey, shown = values[0], mask.observed[0]
    own = {"1": 1, "L": 255, "RGB": 255, "I;16": 65535, RGB16: 65535, "I": 65535, "F": 1}[mask.mode]
    levels = np.unique(grey[shown])
    top = next((top for top in (own, 255, 1) if np.isin(levels, (0, top)).all()), None)
    if top == 1 and own > 1:
        notes.append(ZERO_ONE)
    if top is None:
        notes.append(GREY_MASK)
        top = own
    observed = shown & (grey > top // 2 if top > 1 else grey >= 0.5)
    if not observed.any() and levels.size and levels.max() > 0:
        raise LacunaError(
            f"{path} marks no pixel as observed (values {levels.min():g} to {levels.max():g}): a mask is white "
            f"({top}) where a pixel is observed and black (0) where it is missing."
        )
    return observed, tuple(notes)


@contextmanager
def _opened(path: Path, content: bytes) -> Iterator[tuple[Image.Image, Image.Image, bool]]:
    """The opened file, its picture as viewers show it, and whether it was turned for that."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            # from memory: grey TIFF files on disk are mapped by Pillow, with their sides exchanged if they are turned
            with Image.open(io.BytesIO(content)) as file:
                pages = getattr(file, "n_frames", 1)
                if pages > 1 and file.format != "MPO":  # a photograph with previews, as telephones write it
                    raise LacunaError(f"{path} has {pages} pages: save each as an image of its own.")
                _check_bits(path, file)
                turned = file.getexif().get(ORIENTATION, 1) not in (0, 1)  # of a TIFF file it is gone after loading
                file.load()
                yield file, ImageOps.exif_transpose(file), turned
    except (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError) as error:
        raise _damaged(path, error) from error


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise _damaged(path, error) from error


def _damaged(path: Path, error: Exception) -> LacunaError:
    reason = str(error).partition(" <_io")[0]
    return LacunaError(f"{path} cannot be read as an image ({reason}): replace or remove it.")


def _decode_png16(path: Path, content: bytes) -> Decoded:
    try:
        values = png16.read(content)
        with Image.open(io.BytesIO(content)) as file:
            turned, kept = file.getexif().get(ORIENTATION, 1) not in (0, 1), _kept(file)
    except (OSError, SyntaxError, ValueError) as error:
        raise _damaged(path, error) from error
    if turned:
        raise LacunaError(f"{path} has 16 bits per channel and is turned by EXIF: save it upright.")
    colours = 1 if values.shape[-1] == 2 else 3
    alpha = values[..., colours:]
    observed = np.asarray((alpha >= OPAQUE * 256).all(-1))
    notes = () if np.isin(alpha, (0, 65535)).all() else (HALF_TRANSPARENT,)
    mode = "I;16" if colours == 1 else RGB16
    return Decoded(channels_first(values[None, ..., :colours])[0], observed[None], mode, notes, kept)


def _check_bits(path: Path, file: Image.Image) -> None:
    """Refuse what Pillow would cut to 8 bits without a word."""
    bits = 8
    if file.format == "TIFF":
        bits = max(file.tag_v2.get(BITS_PER_SAMPLE, (8,)))  # type: ignore[attr-defined]
    if bits > 8 and file.mode not in ("I;16", "I;16B", "I;16L", "I", "F"):
        raise LacunaError(
            f"{path} has {bits} bits per channel in several channels: save it as PNG or .npy, or its channels as grey "
            "images, for only 8 bits of it could be read."
        )


def _nodata(file: Image.Image) -> float | None:
    text = file.tag_v2.get(NODATA) if file.format == "TIFF" else None  # type: ignore[attr-defined]
    try:
        return None if text is None else float(str(text).strip("\0 "))
    except ValueError:
        return None


def _kept(file: Image.Image) -> dict[str, Any]:
    kept: dict[str, Any] = {key: file.info[key] for key in ("icc_profile", "dpi") if file.info.get(key)}
    if file.format == "TIFF":
        kept["compression"] = file.info.get("compression", "raw")
        tags = file.tag_v2  # type: ignore[attr-defined]
        kept["tags"] = {tag: (tags.tagtype[tag], tags[tag]) for tag in PLACE_ON_EARTH if tag in tags}
    return kept
