"""The images of a user's folder: which files they are, and each as values, mask and scale in its own depth."""

from __future__ import annotations

import os
import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from lacuna.data.sources.depth import Scale, scale_of
from lacuna.data.sources.listing import ENDINGS, is_result
from lacuna.data.sources.own_depth import decode, decode_mask
from lacuna.errors import LacunaError

MASK_FOLDERS = ("mask", "masks")


@dataclass(frozen=True)
class Item:
    """An image file and its mask file.

    Args:
        path: of the image.
        name: relative to the folder.
        masks: files that are named like its mask; more than one is a mistake.
    """

    path: Path
    name: Path
    masks: tuple[Path, ...] = ()


@dataclass(frozen=True)
class Picture:
    """An image to complete.

    Args:
        name: of the file, relative to the folder.
        values: (C,H,W) in the file's own type; what stands at missing pixels means nothing.
        observed: bool (1,H,W).
        scale: of the values.
        mode: Pillow's name of the pixels' format.
        info: what is written again with it.
        notes: what a user should know of the way it was read.
    """

    name: Path
    values: np.ndarray
    observed: np.ndarray
    scale: Scale
    mode: str
    info: dict[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Listing:
    """What a folder holds.

    Args:
        items: the images, in order of names.
        problems: (name, sentence) of what should have been an image or its mask, and is not.
        left_out: kind of what is no image -> how many.
    """

    items: Sequence[Item]
    problems: Sequence[tuple[Path, str]]
    left_out: Counter[str]


def list_pictures(path: Path, mask_suffix: str, without: Sequence[Path]) -> Listing:
    """The images in a folder and below it, or the one that ``path`` is.

    Args:
        path: the folder or file.
        mask_suffix: ending of the stem of a mask file.
        without: folders to leave out: results are no input.

    Raises:
        LacunaError: there is no image.
    """
    if not mask_suffix:
        raise LacunaError("mask_suffix is empty: masks need names that differ from the images', say _mask.")
    if path.is_dir():
        found, problems, left_out = _files(path, [place.resolve() for place in without])
        items, said = _paired(path, found, mask_suffix)
        problems += said
    else:
        beside = sorted(file for file in path.parent.iterdir() if file.suffix.lower() in ENDINGS and file.is_file())
        items, problems = _paired(path.parent, sorted({path, *beside}), mask_suffix)
        items = [item for item in items if item.path == path]
        problems, left_out = [(name, said) for name, said in problems if name == Path(path.name)], Counter()
    if not items and not problems:
        raise LacunaError(f"input={path} holds no image ({', '.join(ENDINGS)}).")
    if not items:
        raise LacunaError(problems[0][1])
    return Listing(items, problems, left_out)


def _paired(folder: Path, found: Sequence[Path], mask_suffix: str) -> tuple[list[Item], list[tuple[Path, str]]]:
    """Images with their masks, and (name, sentence) of what does not fit together."""
    masks: dict[str, list[Path]] = {}
    owners: dict[str, list[Path]] = {}
    for file in found:
        if file.stem.endswith(mask_suffix):
            masks.setdefault(_key(file.with_suffix("")), []).append(file)
        else:
            owners.setdefault(_key(file.with_name(file.stem + mask_suffix)), []).append(file)
    items: list[Item] = []
    problems: list[tuple[Path, str]] = []
    for key, images in owners.items():
        of_these = tuple(masks.pop(key, ()))
        if of_these and len(images) > 1:
            said = f"{of_these[0]} could be the mask of both {images[0].name} and {images[1].name}: rename one of them."
            problems += [(image.relative_to(folder), said) for image in images]
        else:
            items += [Item(image, image.relative_to(folder), of_these) for image in images]
    for orphan in (orphan for orphans in masks.values() for orphan in orphans):
        said = (
            f"{orphan} is named like a mask (mask_suffix={mask_suffix}) but there is no image for it: add or rename "
            "the image, or set another suffix if this is an image."
        )
        problems.append((orphan.relative_to(folder), said))
    return sorted(items, key=lambda item: item.path), problems


def read_picture(item: Item, value_range: Sequence[float] | None = None) -> Picture:
    """An image with its mask.

    Args:
        item: its files.
        value_range: (low, high) of the values; None: as the type has it.

    Raises:
        LacunaError: one of them cannot be read, or they do not fit.
    """
    if len(item.masks) > 1:
        names = " and ".join(path.name for path in item.masks)
        raise LacunaError(f"{item.path} has two masks, {names}: leave one.")
    image = decode(item.path)
    observed, notes = image.observed, image.notes
    for path in item.masks:
        mask, said = decode_mask(path)
        if mask.shape != observed.shape[1:]:
            sizes = [f"{shape[1]}x{shape[0]}" for shape in (mask.shape, observed.shape[1:])]
            raise LacunaError(f"{path} is {sizes[0]} pixels, its image {item.path} {sizes[1]}: they must fit.")
        observed, notes = observed & mask, (*notes, *said)
    scale = scale_of(image.values, observed, str(item.path), value_range)
    if value_range is None and scale.dtype.kind == "f" and (scale.low, scale.high) != (0, 1):
        notes = (*notes, "floats beyond [0, 1]: their smallest and largest observed value are taken as the range")
    return Picture(item.name, image.values, observed, scale, image.mode, image.info, notes)


def _files(folder: Path, without: Sequence[Path]) -> tuple[list[Path], list[tuple[Path, str]], Counter[str]]:
    """Image files in order of names, links to folders as problems, and how many other files there are."""
    found: list[Path] = []
    problems: list[tuple[Path, str]] = []
    left_out: Counter[str] = Counter()
    for place, below, names in os.walk(folder):
        here = Path(place)
        for name in list(below):
            inner = here / name
            if name.startswith(".") or name == "__MACOSX":
                left_out["hidden folders"] += 1
            elif inner.is_symlink():
                problems.append((inner.relative_to(folder), f"{inner} is a link to a folder: give the folder itself."))
            elif inner.resolve() in without or is_result(inner):
                left_out["folders of results"] += 1
            else:
                continue
            below.remove(name)
        images = [here / name for name in names if Path(name).suffix.lower() in ENDINGS and not name.startswith(".")]
        if images and here.name.lower() in MASK_FOLDERS and here != folder:
            raise LacunaError(
                f"{here} looks like a folder of masks: put each mask beside its image, as NAME_mask.png, or rename the "
                "folder if these are images."
            )
        hidden = sum(name.startswith(".") for name in names)
        left_out["hidden files"] += hidden
        left_out["files that are no images"] += len(names) - hidden - len(images)
        found += images
    return sorted(found), problems, +left_out


def _key(path: Path) -> str:
    """A name in one spelling: ``ü`` may be one character or two."""
    return unicodedata.normalize("NFC", str(path))
