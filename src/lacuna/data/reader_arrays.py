"""A named data set from arrays that the user has read, instead of from its original files.

The provenance records counts that differ from the published ones, resized images and lossy copies, so that a number
computed on them is never mistaken for one on the full set.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from lacuna.data.prepared import Arrays, Description
from lacuna.data.sources.base import Content, Source
from lacuna.data.sources.pixels import channels_first, fitted
from lacuna.errors import LacunaError

ReaderArrays = tuple[np.ndarray, "np.ndarray | None"]
"""uint8 images (N, H, W) or (N, H, W, C), and labels (N,) or attributes (N, A), if any."""


def content_of(
    source: Source,
    arrays: Mapping[str, ReaderArrays],
    *,
    origin: str,
    sample: bool = False,
    lossy: bool = False,
    note: str = "",
) -> Content:
    """The arrays of every split as the set of ``source``; images of another size are cropped and resized to its shape.

    Args:
        source: the named set.
        arrays: of train and test, and optionally validation.
        origin: where the arrays come from.
        sample: they are not the whole set (also detected from the counts).
        lossy: their pixels were changed, by lossy compression for example.
        note: further remarks.

    Raises:
        LacunaError: arrays that do not fit the set.
    """
    name, resized, splits = source.set_name, set(), {}
    for split, (images, labels) in arrays.items():
        size = images.shape[1:3]
        pixels = _fitting(source, split, images)
        if size != pixels.shape[2:]:
            resized.add(f"{size[0]}x{size[1]}")
        splits[split] = Arrays(pixels, _labels(source, split, len(pixels), labels))
    notes = [note] if note else []
    if resized:
        notes.append(f"centre squares of {', '.join(sorted(resized))} images, resized")
    about = Description(
        name,
        source.classes,
        origin,
        complete=not sample and source.is_complete(splits),
        lossless=not lossy,
        note="; ".join(notes),
        attributes=source.attributes if any(part.labels is not None for part in splits.values()) else None,
    )
    return Content(about, splits)


def _fitting(source: Source, split: str, images: np.ndarray) -> np.ndarray:
    """uint8 (N, C, H, W) of the source's shape."""
    where = f"The {split} images for {source.set_name}"
    if images.dtype != np.uint8 or images.ndim not in (3, 4) or not len(images):
        raise LacunaError(
            f"{where} must be uint8 of shape (N, H, W) or (N, H, W, C), not {images.dtype} {images.shape}."
        )
    channels = 1 if images.ndim == 3 else images.shape[3]
    wanted = source.shape or (channels, *images.shape[1:3])
    if channels != wanted[0]:
        raise LacunaError(f"{where} have {channels} channels, the set has {wanted[0]}: give (N, H, W, C).")
    if images.shape[1:3] != wanted[1:]:
        grey = images.ndim == 4 and channels == 1
        images = np.stack([fitted(image[..., 0] if grey else image, wanted[1]) for image in images])
    return channels_first(images)


def _labels(source: Source, split: str, n: int, labels: np.ndarray | None) -> np.ndarray | None:
    """The labels of ``n`` images, in the form of a prepared set."""
    where, attributes = f"The {split} images for {source.set_name}", source.attributes
    if attributes is not None and labels is not None:
        if labels.shape != (n, attributes) or not np.isin(labels, (-1, 0, 1)).all():
            raise LacunaError(f"{where} need no labels, or {attributes} attributes each, 1 = yes and 0 or -1 = no.")
        return (labels > 0).astype(np.uint8)
    if source.classes is None:
        return None
    if labels is None or labels.ndim != 1:
        raise LacunaError(f"{where} need labels of shape (N,), 0..{source.classes}-1.")
    return labels.astype(np.int64)


def from_file(path: Path) -> ReaderArrays:
    """Images and labels from an ``.npz`` file (keys images, labels) or images from an ``.npy`` file.

    Raises:
        LacunaError: the file is missing, damaged or of another format.
    """
    try:
        loaded = np.load(path, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            return loaded, None
        return loaded["images"], loaded["labels"] if "labels" in loaded.files else None
    except FileNotFoundError as error:
        raise LacunaError(f"{path} does not exist.") from error
    except Exception as error:  # numpy and zipfile raise many kinds of errors for damaged files
        raise LacunaError(f"{path} is not an .npz with images and labels, or an .npy with images ({error}).") from error


def load_reader(spec: str) -> Callable[..., Any]:
    """The function that ``FILE.py:FUNCTION`` names.

    Raises:
        LacunaError: no such file or function.
    """
    file, _, function = spec.rpartition(":")
    if not file or not Path(file).is_file():
        raise LacunaError(f"--reader {spec}: give FILE.py:FUNCTION, where the file exists.")
    module_spec = importlib.util.spec_from_file_location("lacuna_reader", file)
    if module_spec is None or module_spec.loader is None:
        raise LacunaError(f"--reader {spec}: {file} is not a Python file.")
    module = importlib.util.module_from_spec(module_spec)
    module_spec.loader.exec_module(module)
    found = getattr(module, function, None)
    if not callable(found):
        raise LacunaError(f"--reader {spec}: {file} has no function {function}.")
    return found  # type: ignore[no-any-return]


def from_reader(source: Source, read: Callable[..., Any], **arguments: Any) -> dict[str, ReaderArrays]:
    """Call ``read(split, **arguments)`` with the publisher's name of every split of the set."""
    arrays: dict[str, ReaderArrays] = {}
    for ours, theirs in source.official_splits.items():
        result = read(theirs, **arguments)
        images, labels = result if isinstance(result, tuple) else (result, None)
        arrays[ours] = (np.asarray(images), None if labels is None else np.asarray(labels))
    return arrays
