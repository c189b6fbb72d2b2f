"""The files of a picture's results: their names, and their content in the picture's own type and format."""

from __future__ import annotations

import io
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from lacuna.data.sources import png16
from lacuna.data.sources.own_depth import RGB16
from lacuna.errors import LacunaError
from lacuna.inference.pictures import Picture

FORMATS = {".png": "PNG", ".bmp": "BMP", ".tif": "TIFF", ".tiff": "TIFF"}
"""Endings that are kept; files of other formats, which lose values, become PNG files."""
LOSSLESS = ("raw", "packbits", "tiff_lzw", "tiff_adobe_deflate", "tiff_deflate")


def result_names(picture: Path, samples: int, uncertainty: bool) -> list[Path]:
    """Files of a picture's results: the imputation, its uncertainty if that is known, samples."""
    ending = picture.suffix if picture.suffix.lower() in FORMATS else ".png"
    endings = [ending, *(["_uncertainty.png"] if uncertainty else [])]
    endings += [f"_sample{number + 1}{ending}" for number in range(samples)]
    return [picture.with_name(f"{picture.stem}{ending}") for ending in endings]


def check_names(folder: Path, pictures: Iterable[Path], samples: int, uncertainty: bool) -> None:
    """Refuse pictures whose results would overwrite each other.

    Raises:
        LacunaError: there are two such pictures.
    """
    owner: dict[str, Path] = {}
    for picture in pictures:
        for output in result_names(picture, samples, uncertainty):
            other = owner.setdefault(output.as_posix(), picture)
            if other != picture:
                raise LacunaError(
                    f"{folder / other} and {folder / picture} would both be written to {output}: rename one."
                )


def encoded(values: np.ndarray, picture: Picture, output: Path) -> bytes:
    """The content of a file with values (C,H,W) of the picture's own type.

    Raises:
        LacunaError: the format has no such pixels.
    """
    pixels = values[0] if len(values) == 1 else values.transpose(1, 2, 0)
    kind, info = FORMATS[output.suffix.lower()], dict(picture.info)
    compression, tags = info.pop("compression", None), info.pop("tags", {})
    if picture.mode == RGB16 and kind == "PNG":
        return png16.write(pixels, info.get("icc_profile"))
    if kind == "TIFF":
        info["compression"] = compression if compression in LOSSLESS else "raw"
        directory = ImageFileDirectory_v2()
        for tag, (tag_type, value) in tags.items():
            directory.tagtype[tag] = tag_type
            directory[tag] = value
        info["tiffinfo"] = directory
    stream = io.BytesIO()
    try:
        Image.fromarray(np.ascontiguousarray(pixels)).save(stream, kind, **info)
    except (OSError, KeyError, TypeError) as error:
        raise LacunaError(
            f"{picture.name} cannot be written as {kind} ({error}): give it the ending of its format."
        ) from error
    return stream.getvalue()


def encoded_map(deviation: np.ndarray) -> bytes:
    """A map of standard deviations (1,H,W), in units of the range: white = 0.5, the largest there can be."""
    stream = io.BytesIO()
    Image.fromarray(np.rint((deviation[0] * 2).clip(0, 1) * 255).astype(np.uint8)).save(stream, "PNG")
    return stream.getvalue()
