"""A named data set from arrays somebody else has read, instead of from its original files.

The provenance says so: counts that differ from the published ones, resized images and lossy copies are recorded,
so that a number computed on them is never mistaken for one on the full set.
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

Given = tuple[np.ndarray, "np.ndarray | None"]
"""uint8 images (N, H, W) or (N, H, W, C), and labels (N,) or attributes (N, A), if any."""


def content(
    source: Source,
    given: Mapping[str, Given],
    *,
    origin: str,
    sample: bool = False,
    lossy: bool = False,
    note: str = "",
) -> Content:
    """The splits ``given`` as the set of ``source``: centre squares resized to its shape where they differ in size.

    Args:
        source: the named set.
        given: train and test, maybe validation.
        origin: where the arrays come from.
        sample: they are not the whole set (found out from the counts, too).
        lossy: they went through lossy compression, or anything else that changed their pixels.
        note: anything else worth knowing.

    Raises:
        LacunaError: arrays that do not fit the set.
    """
    name, resized, splits = source.set_name, set(), {}
    for split, (images, labels) in given.items():
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
    """Those of ``n`` images, as a prepared set keeps them."""
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


def from_file(path: Path) -> Given:
    """Images and labels from an ``.npz`` (keys images, labels) or images from an ``.npy`` file."""
    try:
        loaded = np.load(path, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            return loaded, None
        return loaded["images"], loaded["labels"] if "labels" in loaded.files else None
    except FileNotFoundError as error:
        raise LacunaError(f"{path} does not exist.") from error
    except Exception as error:  # numpy and zipfile raise a dozen kinds for damaged files
        raise LacunaError(f"{path} is not an .npz with images and labels, or an .npy with images ({error}).") from error


def reader(spec: str) -> Callable[..., Any]:
    """The function of ``FILE.py:FUNCTION``."""
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


def from_reader(source: Source, read: Callable[..., Any], **arguments: Any) -> dict[str, Given]:
    """Call ``read(split, **arguments)`` for the publisher's split names of the set."""
    given: dict[str, Given] = {}
    for ours, theirs in source.official_splits.items():
        result = read(theirs, **arguments)
        images, labels = result if isinstance(result, tuple) else (result, None)
        given[ours] = (np.asarray(images), None if labels is None else np.asarray(labels))
    return given
