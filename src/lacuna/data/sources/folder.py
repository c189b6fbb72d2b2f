"""A user's own images in a folder, complete or with missing pixels."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path

import numpy as np

from lacuna.data.prepared import SPLITS, Arrays, Description
from lacuna.data.sources.base import Content, Source
from lacuna.data.sources.decoding import head, open_image, read_mask
from lacuna.data.sources.label_table import read_labels
from lacuna.data.sources.layout import class_names, is_mask, refuse_mask_folders, refuse_other_masks, split_folders
from lacuna.data.sources.listing import ENDINGS, Listing, content
from lacuna.data.sources.pixels import (
    as_labels,
    channels_first,
    fitted,
    fitted_incomplete,
    say,
    train_and_test,
    warn_of_classes,
    without_spaces,
)
from lacuna.errors import LacunaError

_LOSSY = (".jpg", ".jpeg")
_READING = 2
"""Version of how files are understood; folders that were prepared by an earlier one are read again."""


class Folder(Source):
    """Image files, with or without sub-folders.

    Splits: folders ``train`` and ``test``, ``val`` or both directly inside, in any usual spelling. If there is no test
    folder, a fixed random ``test_fraction`` of the training images is set aside. Labels: the name of the first
    sub-folder on the way to an image, or a CSV file with the columns ``file`` (relative to the folder) and ``label``;
    images directly in the folder, without CSV, have no label. Missing pixels: transparent ones (alpha below 128 of
    255), and those that are black (or 0 beside 1, or transparent) in a mask file of the same size named
    ``<stem><mask_suffix>.<ending>`` (white = observed).

    What is left out or interpreted is printed, and recorded in the prepared set: see :attr:`remarks`.

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
        if path is None or not str(path) or not Path(str(path)).is_dir():
            raise LacunaError(f"{self.key('path')}={path} is not a folder: set it to the folder with your images.")
        if not mask_suffix:
            raise LacunaError(
                f"{self.key('mask_suffix')} is empty: masks need names that differ from the images', say _mask."
            )
        if size is not None and (isinstance(size, bool) or not isinstance(size, int) or size < 1):
            raise LacunaError(f"{self.key('size')}={size} must be null or a whole number of at least 1.")
        self.path, self.mask_suffix, self.size, self.test_fraction = Path(str(path)), mask_suffix, size, test_fraction
        self.labels_csv = None if labels_csv is None else self.path / str(labels_csv)
        if self.labels_csv is not None and not self.labels_csv.is_file():
            raise LacunaError(
                f"{self.key('labels_csv')}={labels_csv} is not a file: give its path, or one inside {path}."
            )
        self._listing = Listing(self.path, self.key("path"), [self.labels_csv])
        masks = [path for path in self._listing.files if is_mask(path, mask_suffix)]
        self._files = [path for path in self._listing.files if not is_mask(path, mask_suffix)]
        refuse_mask_folders(self.path, self._listing.files, mask_suffix)
        refuse_other_masks(self._files, self.key("mask_suffix"))
        self._masks = self._of_images(masks)
        if not self._files:
            raise LacunaError(f"{self.key('path')}={path} holds no image (looked for {', '.join(ENDINGS)}).")
        self._binary: set[Path] = set()
        """Masks with the values 0 and 1."""
        self._grey: set[Path] = set()
        """Masks with values between black and white, and images that are partly transparent."""

    def _of_images(self, masks: list[Path]) -> dict[Path, Path]:
        """Stem of an image -> the file of its mask.

        Raises:
            LacunaError: a mask without an image, for one of the two has a wrong name; two masks of one image.
        """
        images: dict[Path, Path] = {}
        shared: dict[Path, Path] = {}
        for path in self._files:
            if (other := images.setdefault(path.with_suffix(""), path)) != path:
                shared[path.with_suffix("")] = other
        found: dict[Path, Path] = {}
        for mask in masks:
            stem = mask.with_name(mask.stem[: -len(self.mask_suffix)])
            if stem not in images:
                raise LacunaError(
                    f"{mask} is named like a mask ({self.key('mask_suffix')}={self.mask_suffix}) but there is no image "
                    "for it: add or rename the image, or set another suffix if this is an image."
                )
            if stem in shared:
                raise LacunaError(
                    f"{mask} could belong to {images[stem].name} or to another image of that name: rename one."
                )
            if (other := found.setdefault(stem, mask)) != mask:
                raise LacunaError(f"{images[stem]} has two masks, {other.name} and {mask.name}: remove one.")
        return found

    @property
    def remarks(self) -> list[str]:
        """What was left out or interpreted so far, a line each; complete once the images have been read."""
        lines = list(self._listing.remarks)
        if self._binary:
            lines.append(f"{len(self._binary)} mask(s) hold the values 0 and 1, read as missing and observed")
        if self._grey:
            lines.append(
                f"{len(self._grey)} mask(s) or images are partly grey or transparent: a pixel is observed from half of "
                "white, or of opaque, up"
            )
        return lines

    @cached_property
    def set_name(self) -> str:
        """Contains a digest of the path, the files' content and the settings: changed input is prepared again."""
        settings = (self.path.resolve(), self.labels_csv, self.mask_suffix, self.size, self.test_fraction)
        digest = hashlib.sha256(repr([_READING, *map(str, settings), *self._listing.remarks]).encode())
        for path in [*self._listing.files, *([self.labels_csv] if self.labels_csv else [])]:
            digest.update(f"|{path}|".encode())
            digest.update(hashlib.sha256(content(path)).digest())
        return f"folder-{re.sub(r'[^A-Za-z0-9_]+', '_', self.path.resolve().name)[:40]}-{digest.hexdigest()[:10]}"

    def read(self, root: Path, *, download: bool) -> Content:
        """The images of the folder; ``root`` and ``download`` are not needed."""
        parts, remarks = self._splits()
        used = [path for part in parts.values() for path in part]
        grey = self._check_heads(used, remarks)
        labels, label_remarks = self._labels(parts)
        coded, names = as_labels(labels) if labels else ({}, ())
        splits = {split: self._arrays(files, coded.get(split), grey) for split, files in parts.items()}
        remarks = [*self.remarks, *remarks, *label_remarks]
        say(self.path, remarks)
        warn_of_classes(self.path, splits, names)
        resized = [] if self.size is None else [f"centre squares resized to {self.size}x{self.size}"]
        lossy = any(path.suffix.lower() in _LOSSY for path in used)
        about = Description(
            self.set_name,
            len(names) or None,
            self.path.resolve().name,
            lossless=not lossy and self.size is None,
            note="; ".join([*resized, *remarks]),
            class_names=names or None,
        )
        return Content(about, splits)

    def _check_heads(self, files: list[Path], remarks: list[str]) -> bool:
        """Whether all images are grey; LacunaError if they differ in size and are not to be resized."""
        heads = [head(path) for path in files]
        for path, (_, size, _) in zip(files, heads, strict=True):
            if self.size is None and size != (first := heads[0].size):
                raise LacunaError(
                    f"{path} is {size[0]}x{size[1]} pixels, {files[0]} is {first[0]}x{first[1]}: "
                    f"set {self.key('size')} to resize all images to one size."
                )
        previews = sum(one.previews > 0 for one in heads)
        if previews:
            remarks.append(f"the previews inside {previews} photograph(s) are left out")
        return all(one.mode in ("1", "L", "LA") for one in heads)

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

    def _splits(self) -> tuple[dict[str, list[Path]], list[str]]:
        """The images of every split, and remarks."""
        folders, remarks = split_folders(self.path, self._files), []
        parts = {split: [p for p in self._files if p.is_relative_to(folder)] for split, folder in folders.items()}
        inside = {path for part in parts.values() for path in part}
        outside = [path for path in self._files if path not in inside] if parts else []
        if outside:
            named = ", ".join(folder.name for folder in folders.values())
            remarks.append(f"{len(outside)} image(s) outside {named} are left out ({outside[0].name})")
        if "test" not in parts:
            rest = parts.get("train", self._files)
            train, test = train_and_test(len(rest), self.test_fraction)
            if parts:
                remarks.append(
                    f"there is no test folder: {len(test)} of the {len(rest)} images in {folders['train'].name} are "
                    "set aside for testing"
                )
            parts |= {"train": [rest[i] for i in train], "test": [rest[i] for i in test]}
        return {split: parts[split] for split in SPLITS if split in parts}, remarks

    def _labels(self, parts: dict[str, list[Path]]) -> tuple[dict[str, np.ndarray], list[str]]:
        """The labels of every split, none if the images have none, and remarks."""
        if self.labels_csv is not None:
            names = [path.relative_to(self.path).as_posix() for part in parts.values() for path in part]
            found, remarks = read_labels(self.labels_csv, names)
            ends = np.cumsum([len(part) for part in parts.values()])[:-1]
            return dict(zip(parts, np.split(np.array(found), ends), strict=True)), remarks
        folders = split_folders(self.path, self._files)
        classes = {split: class_names(files, [self.path, *folders.values()]) for split, files in parts.items()}
        given = {split: np.array(names) for split, names in classes.items() if None not in names}
        if given and len(given) != len(parts) and folders:
            raise LacunaError(f"Only {sorted(given)} of {self.path} has labels: give all splits labels, or none.")
        bare, count = sum(names.count(None) for names in classes.values()), sum(map(len, classes.values()))
        if 0 < bare < count:
            return {}, [f"{bare} of the {count} images lie in no class folder, so there are no labels"]
        if bare:
            return {}, []
        labels, stripped = without_spaces(given)
        return labels, stripped

    def _arrays(self, files: list[Path], labels: np.ndarray | None, grey: bool) -> Arrays:
        loaded = [self._image(path, grey) for path in files]
        images = channels_first(np.stack([image for image, _ in loaded]))
        observed = np.stack([mask for _, mask in loaded])[:, None]
        return Arrays(images, labels, None if observed.all() else observed)

    def _image(self, path: Path, grey: bool) -> tuple[np.ndarray, np.ndarray]:
        """One image: pixels uint8 (H, W[, 3]), zero where missing, and mask bool (H, W), True = observed."""
        picture = open_image(path)
        alpha = np.asarray(picture.convert("RGBA"))[..., 3]
        image = np.asarray(picture.convert("L" if grey else "RGB"))
        observed = alpha >= 128
        self._grey |= {path} if not np.isin(alpha, (0, 255)).all() else set()
        mask_file = self._masks.get(path.with_suffix(""))
        if mask_file is not None:
            mask, binary, between = read_mask(mask_file)
            self._binary |= {mask_file} if binary else set()
            self._grey |= {mask_file} if between else set()
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
