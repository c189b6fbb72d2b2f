"""Conversion of pixels and labels of any accepted format: uint8 images (N, C, H, W), masks, class numbers."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
from PIL import Image

from lacuna.data.hashing import permutation
from lacuna.data.prepared import Arrays
from lacuna.errors import LacunaError

_ROUNDING = 1e-5
"""By how much floats may leave [0, 1]: what sums and products in float32, or resizing, round."""

NO_LABEL = ("", "#N/A", "<NA>", "N/A", "n/a", "NA", "NaN", "nan", "NULL", "null", "None")
"""How programs write that a label is missing."""


def channels_first(images: np.ndarray) -> np.ndarray:
    """(N, H, W) or (N, H, W, C) -> (N, C, H, W), contiguous."""
    if images.ndim == 3:
        images = images[..., None]
    return np.ascontiguousarray(images.transpose(0, 3, 1, 2))


def centre_crop(image: Image.Image, size: int) -> Image.Image:
    """The central size x size pixels; an odd margin is split as in torchvision."""
    left, top = round((image.width - size) / 2), round((image.height - size) / 2)
    return image.crop((left, top, left + size, top + size))


def fitted(image: np.ndarray, size: int) -> np.ndarray:
    """The centre square of a uint8 image (H, W[, C]), resized to (size, size[, C]) (bicubic, antialiased)."""
    picture = Image.fromarray(image)
    square = centre_crop(picture, min(picture.size))
    return np.asarray(square if square.width == size else square.resize((size, size), Image.Resampling.BICUBIC))


def fitted_incomplete(image: np.ndarray, observed: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """As :func:`fitted`, for an image with missing pixels and its mask ``observed``, bool (H, W), True = observed.

    Bilinear, since its weights are not negative. With these weights a pixel of the result is the mean of the observed
    pixels, and it is observed if they have at least half of the weight. So missing pixels do not affect observed ones.
    """
    share = _resized(observed.astype(np.float32), size)
    colours = [image] if image.ndim == 2 else [image[..., channel] for channel in range(image.shape[2])]
    sums = [_resized(np.where(observed, colour, 0).astype(np.float32), size) for colour in colours]
    mask = share > 0.5 - 1e-4
    means = [np.where(mask, total / np.where(mask, share, 1), 0) for total in sums]
    rounded = [np.clip(np.round(mean), 0, 255).astype(np.uint8) for mean in means]
    return (rounded[0] if image.ndim == 2 else np.stack(rounded, -1)), mask


def _resized(values: np.ndarray, size: int) -> np.ndarray:
    """The centre square of float32 values (H, W), resized to (size, size), bilinear and antialiased."""
    picture = Image.fromarray(values)
    return np.asarray(centre_crop(picture, min(picture.size)).resize((size, size), Image.Resampling.BILINEAR))


def as_bytes(values: np.ndarray, what: str) -> tuple[np.ndarray, np.ndarray | None]:
    """Pixels as uint8, and the mask of observed values (bool, same shape; None if all are observed).

    uint8 is unchanged; other integers must lie in 0..255; floats in [0, 1], up to rounding errors, are rounded to 1/255
    and NaN is missing.

    Raises:
        LacunaError: values out of range or of another type; ``what`` names them in the message.
    """
    if values.dtype == np.uint8:
        return values, None
    if values.dtype == np.bool_:
        return values.astype(np.uint8) * np.uint8(255), None
    floating = np.issubdtype(values.dtype, np.floating)
    if not floating and not np.issubdtype(values.dtype, np.integer):
        raise LacunaError(f"{what} holds {values.dtype} values: images must be uint8, or floats in [0, 1].")
    missing = np.isnan(values) if floating else np.zeros((), bool)
    observed = values[~missing] if missing.any() else values
    top = 1 if floating else 255
    slack = max(_ROUNDING, 1.01 * float(np.finfo(values.dtype).eps)) if floating else 0
    if observed.size and not (observed.min() >= -slack and observed.max() <= top + slack):
        raise LacunaError(
            f"{what} holds {values.dtype} values from {observed.min():g} to {observed.max():g}: images must be uint8 "
            "or floats in [0, 1] with NaN where a pixel is missing."
        )
    if not floating:
        return values.astype(np.uint8), None
    image = np.round(np.clip(np.where(missing, 0, values), 0, 1) * 255).astype(np.uint8)
    return image, ~missing if missing.any() else None


def as_labels(labels: dict[str, np.ndarray]) -> tuple[dict[str, np.ndarray], tuple[str, ...]]:
    """Labels of any kind (numbers or strings, per split) as 0..K-1 in sorted order, and the K names.

    Raises:
        LacunaError: an image has no label: NaN, an empty string, or a word for that, as "nan" or "NA".
    """
    for split, part in labels.items():
        if np.issubdtype(part.dtype, np.inexact):
            lacking = np.isnan(part)
        elif part.dtype.kind in "US":
            lacking = np.isin(part.astype(str), NO_LABEL)
        else:
            continue
        if lacking.any():
            raise LacunaError(
                f"The label of '{split}' image {int(lacking.argmax())} is missing or NaN ({int(lacking.sum())} such "
                "images): give every image a label (another word if that is a class), or give none."
            )
    names = np.unique(np.concatenate([part.reshape(-1) for part in labels.values()]))
    coded = {split: np.searchsorted(names, part).astype(np.int64) for split, part in labels.items()}
    return coded, tuple(str(name) for name in names)


def without_spaces(labels: dict[str, np.ndarray]) -> tuple[dict[str, np.ndarray], list[str]]:
    """Labels without spaces around them, and a remark if there were any: ``cat`` and ``cat `` are one class."""
    stripped = {split: np.char.strip(part) if part.dtype.kind in "US" else part for split, part in labels.items()}
    changed = sum(int((stripped[split] != part).sum()) for split, part in labels.items())
    return stripped, [f"{changed} label(s) were stripped of spaces"] if changed else []


def say(path: Path, remarks: Iterable[str]) -> None:
    """Print remarks about a user's data on stderr, a line each."""
    for remark in remarks:
        print(f"{path}: {remark}.", file=sys.stderr)


def warn_of_classes(path: Path, splits: Mapping[str, Arrays], names: tuple[str, ...]) -> None:
    """Print a one-line warning on stderr for a single class and for classes without a training image."""
    trained = splits["train"].labels
    if not names or trained is None:
        return
    untrained = [name for code, name in enumerate(names) if not (trained == code).any()]
    if len(names) == 1:
        print(f"warning: {path} has only the class '{names[0]}': there is nothing to classify.", file=sys.stderr)
    if untrained:
        listed = ", ".join(f"'{name}'" for name in untrained[:5]) + (", ..." if len(untrained) > 5 else "")
        print(
            f"warning: {path} has no training image of {len(untrained)} of its {len(names)} classes ({listed}).",
            file=sys.stderr,
        )


def train_and_test(n: int, fraction: float) -> tuple[np.ndarray, np.ndarray]:
    """Positions of the training and the test images (ascending); a fixed random ``fraction`` of n is for testing.

    Raises:
        LacunaError: ``fraction`` is not between 0 and 1, or there are fewer than 2 images.
    """
    if isinstance(fraction, bool) or not isinstance(fraction, (int, float)) or not 0 < fraction < 1:
        raise LacunaError(f"data.test_fraction={fraction} must lie between 0 and 1.")
    if n < 2:
        raise LacunaError(f"{n} image(s) cannot be split into training and test images: give more, or test images.")
    order = permutation(n, "test part")
    count = min(n - 1, max(1, round(n * fraction)))
    return np.sort(order[count:]), np.sort(order[:count])
