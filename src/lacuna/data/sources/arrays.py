"""A user's own images in a numpy file, complete or with missing pixels."""

from __future__ import annotations

import hashlib
import re
from functools import cached_property
from pathlib import Path

import numpy as np

from lacuna.data.prepared import Arrays as Split
from lacuna.data.prepared import Description
from lacuna.data.sources.base import Content, Source
from lacuna.data.sources.layout import SPLIT_NAMES
from lacuna.data.sources.pixels import as_bytes, as_labels, say, train_and_test, warn_of_classes, without_spaces
from lacuna.errors import LacunaError

_KINDS = {"images": "images", "labels": "labels", "observed": "observed", "mask": "observed"}
_READING = 2
"""Version of how files are understood; those that were prepared by an earlier one are read again."""

_NAMES = (
    "it needs 'images' and may have 'labels', 'observed' (or 'mask') and the same with the prefix test_ or validation_"
)

_MASK_VALUES = "a mask needs True, 1 or 255 = observed and False, 0 or NaN = missing"


class Arrays(Source):
    """``.npy`` (images only) or ``.npz`` with ``images`` and, if there are any, ``labels`` and ``observed``.

    Images are (N, H, W), (N, H, W, C) or (N, C, H, W) with C = 1 or 3; uint8, or floats in [0, 1] where NaN means
    missing. ``observed`` or ``mask`` (True, 1 or 255 = observed; 0 or NaN = missing) has the images' shape, with or
    without the channels. Labels are numbers or strings. ``test_images`` etc. and ``val_images`` or
    ``validation_images`` etc. in the same file are used as those splits; without test images a fixed random
    ``test_fraction`` is set aside. Arrays of other names are refused.

    Args:
        path: the file.
        test_fraction: fraction of test images, if the file has none.
        layout: position of the channels: ``auto``, ``NHWC`` or ``NCHW``.

    Raises:
        LacunaError: no such file, or an unknown layout.
    """

    users_own = True

    def __init__(self, path: str | None = None, test_fraction: float = 0.2, layout: str = "auto") -> None:
        if path is None or not str(path):
            raise LacunaError(f"{self.key('path')} is empty: set it to your .npz or .npy file.")
        if layout not in ("auto", "NHWC", "NCHW"):
            raise LacunaError(f"{self.key('layout')}={layout} must be auto, NHWC or NCHW.")
        self.path, self.test_fraction, self.layout = Path(str(path)), test_fraction, layout
        if not self.path.is_file():
            raise LacunaError(f"{self.key('path')}={path} is not a file: set it to your .npz or .npy file.")

    @cached_property
    def set_name(self) -> str:
        """Contains a digest of the path, content and settings, so that a changed file is prepared again."""
        digest = hashlib.sha256(f"{_READING}|{self.path.resolve()}|{self.test_fraction}|{self.layout}".encode())
        with self.path.open("rb") as file:
            while block := file.read(1 << 24):
                digest.update(block)
        return f"arrays-{re.sub(r'[^A-Za-z0-9_]+', '_', self.path.stem)[:40]}-{digest.hexdigest()[:10]}"

    def read(self, root: Path, *, download: bool) -> Content:
        """The arrays of the file; ``root`` and ``download`` are not needed."""
        raw = self._raw()
        lossless = all(kinds["images"].dtype == np.uint8 for kinds in raw.values())
        parts = {split: self._split(split, kinds) for split, kinds in raw.items()}
        labelled = {split: kinds["labels"] for split, kinds in raw.items() if "labels" in kinds}
        if labelled and len(labelled) != len(raw):
            raise LacunaError(f"{self.path} has labels for {sorted(labelled)} only: give all splits labels, or none.")
        labelled, remarks = without_spaces(labelled)
        coded, names = as_labels(labelled) if labelled else ({}, ())
        splits = {split: Split(images, coded.get(split), observed) for split, (images, observed) in parts.items()}
        if "test" not in splits:
            whole = splits["train"]
            train, test = train_and_test(len(whole.images), self.test_fraction)
            splits |= {"train": _rows(whole, train), "test": _rows(whole, test)}
        say(self.path, remarks)
        warn_of_classes(self.path, splits, names)
        note = "; ".join([*([] if lossless else ["values were rounded to 1/255"]), *remarks])
        about = Description(
            self.set_name, len(names) or None, self.path.name, lossless=lossless, note=note, class_names=names or None
        )
        return Content(about, splits)

    def everything(self) -> Split:
        """All of the file's ``images``, with none set aside, without labels."""
        images, observed = self._split("train", {k: v for k, v in self._raw()["train"].items() if k != "labels"})
        return Split(images, None, observed)

    def _raw(self) -> dict[str, dict[str, np.ndarray]]:
        """The file's arrays: split -> kind -> array."""
        try:
            loaded = np.load(self.path, allow_pickle=False)
            arrays = (
                {"images": loaded} if isinstance(loaded, np.ndarray) else {key: loaded[key] for key in loaded.files}
            )
        except Exception as error:  # numpy and zipfile raise many kinds of errors for damaged files
            reason = str(error).partition(". ")[0]  # numpy's next sentence advises to allow pickles
            raise LacunaError(
                f"{self.path} cannot be read as .npy or .npz without pickled objects ({reason})."
            ) from error
        raw: dict[str, dict[str, np.ndarray]] = {}
        taken: dict[tuple[str, str], str] = {}
        for key, array in arrays.items():
            prefix, _, kind = key.rpartition("_")
            place = SPLIT_NAMES.get(prefix.lower() or "train", ""), _KINDS.get(kind.lower(), "")
            if not all(place):
                raise LacunaError(f"{self.path} holds an array '{key}', which is not understood: {_NAMES}.")
            if place in taken:
                raise LacunaError(
                    f"{self.path} holds both '{taken[place]}' and '{key}', which are the same: leave one."
                )
            taken[place] = key
            raw.setdefault(place[0], {})[place[1]] = array
        if any("images" not in kinds for kinds in raw.values()) or "train" not in raw:
            raise LacunaError(f"{self.path} holds {sorted(arrays)}: {_NAMES}.")
        return raw

    def _split(self, split: str, kinds: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray | None]:
        """uint8 images (N, C, H, W) and their mask, bool (N, 1 or C, H, W), or None if all values are observed."""
        what = f"'{split}' images of {self.path}"
        image, observed = as_bytes(self._channels_first(kinds["images"], what), what)
        if "labels" in kinds and kinds["labels"].shape != image.shape[:1]:
            raise LacunaError(f"The {what} are {len(image)}, their labels have shape {kinds['labels'].shape}.")
        if "observed" in kinds:
            given = _as_mask(kinds["observed"], f"masks of the {what}")
            given = given[:, None] if given.ndim == 3 else self._channels_first(given, f"masks of the {what}")
            if given.shape not in (image.shape, (len(image), 1, *image.shape[2:])):
                raise LacunaError(f"The {what} have shape {image.shape}, their masks {given.shape} (N, C, H, W).")
            observed = given if observed is None else observed & given
        if observed is None or observed.all():
            return image, None
        if (observed == observed[:, :1]).all():
            observed = np.ascontiguousarray(observed[:, :1])
        return np.where(observed, image, 0).astype(np.uint8), observed

    def _channels_first(self, images: np.ndarray, what: str) -> np.ndarray:
        if images.ndim == 3:
            return images[:, None]
        if images.ndim != 4:
            raise LacunaError(f"The {what} have shape {images.shape}: give (N, H, W), (N, H, W, C) or (N, C, H, W).")
        first = self.layout != "NHWC" and images.shape[1] in (1, 3)
        last = self.layout != "NCHW" and images.shape[3] in (1, 3)
        if first and last:
            raise LacunaError(f"The {what} have shape {images.shape}: set {self.key('layout')} to NHWC or NCHW.")
        if not first and not last:
            where = "" if self.layout == "auto" else f" where {self.key('layout')}={self.layout} has the channels"
            raise LacunaError(
                f"The {what} have shape {images.shape}: there must be 1 or 3 channels{where} "
                "(mark transparent pixels as missing with 'observed')."
            )
        return images if first else images.transpose(0, 3, 1, 2)


def _as_mask(values: np.ndarray, what: str) -> np.ndarray:
    """A mask of any usual kind as bool, True = observed; NaN is missing, as everywhere.

    Raises:
        LacunaError: values of another convention.
    """
    if values.dtype == np.bool_:
        return values
    if values.dtype.kind not in "uif":
        raise LacunaError(f"The {what} hold {values.dtype} values: {_MASK_VALUES}.")
    known = np.nan_to_num(values, nan=0.0, posinf=np.inf, neginf=-np.inf) if values.dtype.kind == "f" else values
    shown = np.unique(known)
    if set(shown.tolist()) - {0, 1} and set(shown.tolist()) - {0, 255}:
        listed = ", ".join(f"{value:g}" for value in shown[:5]) + (", ..." if len(shown) > 5 else "")
        raise LacunaError(f"The {what} hold the values {listed}: {_MASK_VALUES}.")
    return known.astype(bool)


def _rows(arrays: Split, rows: np.ndarray) -> Split:
    labels = None if arrays.labels is None else arrays.labels[rows]
    return Split(arrays.images[rows], labels, None if arrays.observed is None else arrays.observed[rows])
