"""A user's own images in a folder, complete or with missing pixels."""

from __future__ import annotations

import csv
import hashlib
import re
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path

import numpy as np
from PIL import Image

from lacuna.data.prepared import Arrays, Description
from lacuna.data.sources.base import Content, Source
from lacuna.data.sources.pixels import (
    as_labels,
    channels_first,
    fitted,
    fitted_incomplete,
    train_and_test,
    warn_of_classes,
)
from lacuna.errors import LacunaError

_ENDINGS = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp")
_LOSSY = (".jpg", ".jpeg")


class Folder(Source):
    """Image files, with or without sub-folders.

    Splits: ``train/`` and ``test/`` (and ``validation/``) inside the folder, if both exist; otherwise a fixed random
    ``test_fraction`` is set aside. Labels: the name of an image's sub-folder, or a CSV file with the columns ``file``
    (relative to the folder) and ``label``; images directly in the folder, without CSV, have no label. Missing pixels:
    transparent ones (alpha below 128 of 255), and those that are black in a mask file of the same size named
    ``<stem><mask_suffix>.<ending>`` (white = observed).

    Args:
        path: the folder.
        labels_csv: the CSV file, absolute or relative to the folder.
        mask_suffix: ending of a mask file's stem.
        size: side in pixels to which centre squares are resized; required if the images differ in size.
        test_fraction: fraction of test images, if there is no test folder.

    Raises:
        LacunaError: no such folder or CSV file, no image, a mask file without an image, or a wrong argument.
    """

    users_own = True

    def __init__(
        self,
        path: str | None = None,
        labels_csv: str | None = None,
        mask_suffix: str = "_mask",
        size: int | None = None,
        test_fraction: float = 0.2,
    ) -> None:
        if not path or not Path(path).is_dir():
            raise LacunaError(f"{self.key('path')}={path} is not a folder: set it to the folder with your images.")
        if not mask_suffix:
            raise LacunaError(
                f"{self.key('mask_suffix')} is empty: masks need names that differ from the images', say _mask."
            )
        if size is not None and (isinstance(size, bool) or not isinstance(size, int) or size < 1):
            raise LacunaError(f"{self.key('size')}={size} must be null or a whole number of at least 1.")
        self.path, self.mask_suffix, self.size, self.test_fraction = Path(path), mask_suffix, size, test_fraction
        self.labels_csv = None if labels_csv is None else self.path / labels_csv
        if self.labels_csv is not None and not self.labels_csv.is_file():
            raise LacunaError(
                f"{self.key('labels_csv')}={labels_csv} is not a file: give its path, or one inside {path}."
            )
        self._all = sorted(p for p in self.path.rglob("*") if p.suffix.lower() in _ENDINGS and p.is_file())
        self._masks = {p.with_suffix(""): p for p in self._all if p.stem.endswith(mask_suffix)}
        self._files = [p for p in self._all if not p.stem.endswith(mask_suffix)]
        self._check_masks()
        if not self._files:
            raise LacunaError(f"{self.key('path')}={path} holds no image (looked for {', '.join(_ENDINGS)}).")

    def _check_masks(self) -> None:
        """Raise LacunaError for a mask file without an image: one of the two has a wrong name."""
        images = {path.with_suffix("") for path in self._files}
        for mask in self._masks.values():
            if mask.with_name(mask.stem.removesuffix(self.mask_suffix)) not in images:
                raise LacunaError(
                    f"{mask} is named like a mask ({self.key('mask_suffix')}={self.mask_suffix}) but there is no image "
                    "for it: add or rename the image, or set another suffix if this is an image."
                )

    @cached_property
    def set_name(self) -> str:
        """Contains a digest of the path, the files' content and the settings: changed input is prepared again."""
        settings = (self.path.resolve(), self.labels_csv, self.mask_suffix, self.size, self.test_fraction)
        digest = hashlib.sha256(repr([str(x) for x in settings]).encode())
        for path in [*self._all, *([self.labels_csv] if self.labels_csv else [])]:
            digest.update(f"|{path}|".encode())
            digest.update(hashlib.sha256(path.read_bytes()).digest())
        return f"folder-{re.sub(r'[^A-Za-z0-9_]+', '_', self.path.resolve().name)[:40]}-{digest.hexdigest()[:10]}"

    def read(self, root: Path, *, download: bool) -> Content:
        """The images of the folder; ``root`` and ``download`` are not needed."""
        parts = self._splits()
        heads = [_head(path) for path in self._files]
        grey = all(mode in ("1", "L", "LA") for mode, _ in heads)
        first = heads[0][1]
        for path, (_, size) in zip(self._files, heads, strict=True):
            if self.size is None and size != first:
                raise LacunaError(
                    f"{path} is {size[0]}x{size[1]} pixels, {self._files[0]} is {first[0]}x{first[1]}: "
                    f"set {self.key('size')} to resize all images to one size."
                )
        labels = {split: self._labels(names) for split, names in parts.items()}
        given = {split: np.array(found) for split, found in labels.items() if found is not None}
        if given and len(given) != len(parts):
            raise LacunaError(f"Only {sorted(given)} of {self.path} has labels: give all splits labels, or none.")
        coded, names = as_labels(given) if given else ({}, ())
        splits = {split: self._arrays(files, coded.get(split), grey) for split, files in parts.items()}
        warn_of_classes(self.path, splits, names)
        lossy = any(path.suffix.lower() in _LOSSY for path in self._files)
        about = Description(
            self.set_name,
            len(names) or None,
            self.path.resolve().name,
            lossless=not lossy and self.size is None,
            note="" if self.size is None else f"centre squares resized to {self.size}x{self.size}",
            class_names=names or None,
        )
        return Content(about, splits)

    @property
    def names(self) -> list[Path]:
        """The image files, relative to the folder, in the order of :meth:`pictures`; without mask files."""
        return [path.relative_to(self.path) for path in self._files]

    def pictures(self, channels: int) -> Iterator[tuple[Path, np.ndarray, np.ndarray]]:
        """Every image in order of names: file relative to the folder, pixels uint8 (C, H, W), mask bool (1, H, W).

        Args:
            channels: 1 (grey) or 3 (RGB).
        """
        for path in self._files:
            image, observed = self._image(path, grey=channels == 1)
            yield path.relative_to(self.path), channels_first(image[None])[0], observed[None]

    def _splits(self) -> dict[str, list[Path]]:
        inside = {
            split: [path for path in self._files if path.is_relative_to(self.path / split)]
            for split in ("train", "validation", "test")
        }
        if inside["train"] and inside["test"]:
            return {split: files for split, files in inside.items() if files}
        train, test = train_and_test(len(self._files), self.test_fraction)
        return {"train": [self._files[i] for i in train], "test": [self._files[i] for i in test]}

    def _labels(self, files: list[Path]) -> list[str] | None:
        """The label of every file, or None if there are none."""
        if self.labels_csv is None:
            homes = [path.parent for path in files]
            roots = {self.path, *(self.path / split for split in ("train", "validation", "test"))}
            return None if any(home in roots for home in homes) else [home.name for home in homes]
        with self.labels_csv.open(newline="", encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file))
        if not rows or not {"file", "label"} <= set(rows[0]):
            raise LacunaError(f"{self.labels_csv} needs the columns file and label, and one row per file.")
        table = {row["file"]: row["label"] for row in rows}
        names = [path.relative_to(self.path).as_posix() for path in files]
        unknown = [name for name in names if name not in table]
        if unknown:
            raise LacunaError(f"{self.labels_csv} has no row for {unknown[0]} ({len(unknown)} such files): add it.")
        return [table[name] or "" for name in names]

    def _arrays(self, files: list[Path], labels: np.ndarray | None, grey: bool) -> Arrays:
        loaded = [self._image(path, grey) for path in files]
        images = channels_first(np.stack([image for image, _ in loaded]))
        observed = np.stack([mask for _, mask in loaded])[:, None]
        return Arrays(images, labels, None if observed.all() else observed)

    def _image(self, path: Path, grey: bool) -> tuple[np.ndarray, np.ndarray]:
        """One image: pixels uint8 (H, W[, 3]), zero where missing, and mask bool (H, W), True = observed."""
        picture = _open(path)
        alpha = np.asarray(picture.convert("RGBA"))[..., 3]
        image = np.asarray(picture.convert("L" if grey else "RGB"))
        observed = alpha >= 128
        mask_file = self._masks.get(path.with_name(path.stem + self.mask_suffix))
        if mask_file is not None:
            mask = np.asarray(_open(mask_file).convert("L")) >= 128
            if mask.shape != observed.shape:
                raise LacunaError(f"{mask_file} must have the same size as {path}.")
            observed = observed & mask
        if self.size is not None:
            image, observed = (
                (fitted(image, self.size), np.ones((self.size, self.size), bool))
                if observed.all()
                else fitted_incomplete(image, observed, self.size)
            )
        if not observed.any():
            raise LacunaError(f"{path} has no observed pixel: remove it from the data.")
        return np.where(observed if grey else observed[..., None], image, 0).astype(np.uint8), observed


def _open(path: Path) -> Image.Image:
    try:
        with Image.open(path) as file:
            file.load()
            picture = file.copy()
    except (OSError, SyntaxError, ValueError) as error:
        raise LacunaError(f"{path} cannot be read as an image ({error}): replace or remove it.") from error
    if picture.mode.startswith(("I", "F")):  # Pillow would clip values above 255
        raise LacunaError(f"{path} has more than 8 bits per channel: convert the images to 8 bits, or use data=arrays.")
    return picture


def _head(path: Path) -> tuple[str, tuple[int, int]]:
    """Mode and (width, height), without decoding the pixels."""
    try:
        with Image.open(path) as file:
            return file.mode, file.size
    except (OSError, SyntaxError, ValueError) as error:
        raise LacunaError(f"{path} cannot be read as an image ({error}): replace or remove it.") from error
