"""From whatever pixels come in as to uint8 (N, C, H, W) and which of them are there."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image

from lacuna.data.hashing import permutation
from lacuna.data.prepared import Arrays
from lacuna.errors import LacunaError


def channels_first(images: np.ndarray) -> np.ndarray:
    """(N, H, W) or (N, H, W, C) -> (N, C, H, W), contiguous."""
    if images.ndim == 3:
        images = images[..., None]
    return np.ascontiguousarray(images.transpose(0, 3, 1, 2))


def centre_crop(image: Image.Image, size: int) -> Image.Image:
    """The size x size pixels in the middle; an odd margin leaves the extra pixel where torchvision does."""
    left, top = round((image.width - size) / 2), round((image.height - size) / 2)
    return image.crop((left, top, left + size, top + size))


def fitted(image: np.ndarray, size: int) -> np.ndarray:
    """The centre square of a uint8 image (H, W[, C]), resized to (size, size[, C]) (bicubic, antialiased)."""
    picture = Image.fromarray(image)
    square = centre_crop(picture, min(picture.size))
    return np.asarray(square if square.width == size else square.resize((size, size), Image.Resampling.BICUBIC))


def fitted_incomplete(image: np.ndarray, observed: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """As :func:`fitted` for an image with holes: ``observed`` is bool (H, W); bilinear, so that weights are positive.

    A pixel of the result is observed where every pixel that contributes to it is, so nothing of a hole shines through.
    """
    share = Image.fromarray(observed.astype(np.float32))
    share = centre_crop(share, min(share.size)).resize((size, size), Image.Resampling.BILINEAR)
    there = np.asarray(share) > 1 - 1e-4
    shown = np.where(observed if image.ndim == 2 else observed[..., None], image, 0).astype(np.uint8)
    picture = Image.fromarray(shown)
    small = centre_crop(picture, min(picture.size)).resize((size, size), Image.Resampling.BILINEAR)
    return np.asarray(small), there


def as_bytes(values: np.ndarray, what: str) -> tuple[np.ndarray, np.ndarray | None]:
    """Pixels as uint8 and where they are there (bool, same shape; None = everywhere).

    uint8 stays; other whole numbers must lie in 0..255; floats in [0, 1] are rounded to 1/255 and NaN is missing.

    Raises:
        LacunaError: values out of range or of another type; ``what`` names them.
    """
    if values.dtype == np.uint8:
        return values, None
    if values.dtype == np.bool_:
        return values.astype(np.uint8) * np.uint8(255), None
    floating = np.issubdtype(values.dtype, np.floating)
    if not floating and not np.issubdtype(values.dtype, np.integer):
        raise LacunaError(f"{what} holds {values.dtype} values: images must be uint8, or floats in [0, 1].")
    missing = np.isnan(values) if floating else np.zeros((), bool)
    known = values[~missing] if missing.any() else values
    top = 1 if floating else 255
    if known.size and (known.min() < 0 or known.max() > top):
        raise LacunaError(
            f"{what} holds {values.dtype} values from {known.min():g} to {known.max():g}: images must be uint8 "
            "or floats in [0, 1] with NaN where a pixel is missing."
        )
    if not floating:
        return values.astype(np.uint8), None
    image = np.round(np.where(missing, 0, values) * 255).astype(np.uint8)
    return image, ~missing if missing.any() else None


def as_labels(labels: dict[str, np.ndarray]) -> tuple[dict[str, np.ndarray], tuple[str, ...]]:
    """Labels of any kind (numbers or words, per split) as 0..K-1 in sorted order, and the K names.

    Raises:
        LacunaError: an image has none: NaN, "nan" (what numpy and pandas write for it among words) or no word at all.
    """
    for split, part in labels.items():
        if np.issubdtype(part.dtype, np.inexact):
            lacking = np.isnan(part)
        elif part.dtype.kind in "US":
            lacking = np.isin(part, np.array(["", "nan"], part.dtype))
        else:
            continue
        if lacking.any():
            raise LacunaError(
                f"The label of '{split}' image {int(lacking.argmax())} is missing or NaN ({int(lacking.sum())} such "
                "images): give every image a label, or give none."
            )
    names = np.unique(np.concatenate([part.reshape(-1) for part in labels.values()]))
    coded = {split: np.searchsorted(names, part).astype(np.int64) for split, part in labels.items()}
    return coded, tuple(str(name) for name in names)


def warn_of_classes(path: Path, splits: Mapping[str, Arrays], names: tuple[str, ...]) -> None:
    """Say on stderr, in one line each, what is odd about a user's labels though it can be used."""
    trained = splits["train"].labels
    if not names or trained is None:
        return
    unseen = [name for code, name in enumerate(names) if not (trained == code).any()]
    if len(names) == 1:
        print(f"warning: {path} has the one class '{names[0]}' only: there is nothing to classify.", file=sys.stderr)
    if unseen:
        listed = ", ".join(f"'{name}'" for name in unseen[:5]) + (", ..." if len(unseen) > 5 else "")
        print(
            f"warning: {path} has no training image of {len(unseen)} of its {len(names)} classes ({listed}).",
            file=sys.stderr,
        )


def train_and_test(n: int, fraction: float) -> tuple[np.ndarray, np.ndarray]:
    """Positions of the training and of the test images (ascending) when a fixed random part is set aside.

    Raises:
        LacunaError: one of the two would be empty.
    """
    if isinstance(fraction, bool) or not isinstance(fraction, (int, float)) or not 0 < fraction < 1:
        raise LacunaError(f"data.test_fraction={fraction} must lie between 0 and 1.")
    if n < 2:
        raise LacunaError(f"{n} image(s) cannot be split into training and test images: give more, or test images.")
    order = permutation(n, "test part")
    count = min(n - 1, max(1, round(n * fraction)))
    return np.sort(order[count:]), np.sort(order[:count])
