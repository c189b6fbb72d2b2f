"""A user's own images in a numpy file, complete or with missing pixels."""

from __future__ import annotations

import hashlib
import re
from functools import cached_property
from pathlib import Path

import numpy as np

from lacuna.data.prepared import SPLITS, Description
from lacuna.data.prepared import Arrays as Split
from lacuna.data.sources.base import Content, Source
from lacuna.data.sources.pixels import as_bytes, as_labels, train_and_test, warn_of_classes
from lacuna.errors import LacunaError

_KINDS = ("images", "labels", "observed")


class Arrays(Source):
    """``.npy`` (images only) or ``.npz`` with ``images`` and, if there are any, ``labels`` and ``observed``.

    Images are (N, H, W), (N, H, W, C) or (N, C, H, W) with C = 1 or 3; uint8, or floats in [0, 1] where NaN means
    missing. ``observed`` (True or nonzero = observed) has the images' shape, with or without the channels. Labels are
    numbers or strings. ``test_images`` etc. and ``validation_images`` etc. in the same file are used as those splits;
    without test images a fixed random ``test_fraction`` is set aside.

    Args:
        path: the file.
        test_fraction: fraction of test images, if the file has none.
        layout: position of the channels: ``auto``, ``NHWC`` or ``NCHW``.

    Raises:
        LacunaError: no such file, or an unknown layout.
    """

    users_own = True

    def __init__(self, path: str | None = None, test_fraction: float = 0.2, layout: str = "auto") -> None:
        if not path:
            raise LacunaError(f"{self.key('path')} is empty: set it to your .npz or .npy file.")
        if layout not in ("auto", "NHWC", "NCHW"):
            raise LacunaError(f"{self.key('layout')}={layout} must be auto, NHWC or NCHW.")
        self.path, self.test_fraction, self.layout = Path(path), test_fraction, layout
        if not self.path.is_file():
            raise LacunaError(f"{self.key('path')}={path} is not a file: set it to your .npz or .npy file.")

    @cached_property
    def set_name(self) -> str:
        """Contains a digest of the path, content and settings, so that a changed file is prepared again."""
        digest = hashlib.sha256(f"{self.path.resolve()}|{self.test_fraction}|{self.layout}".encode())
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
        coded, names = as_labels(labelled) if labelled else ({}, ())
        splits = {split: Split(images, coded.get(split), observed) for split, (images, observed) in parts.items()}
        if "test" not in splits:
            whole = splits["train"]
            train, test = train_and_test(len(whole.images), self.test_fraction)
            splits |= {"train": _rows(whole, train), "test": _rows(whole, test)}
        warn_of_classes(self.path, splits, names)
        note = "" if lossless else "values were rounded to 1/255"
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
        for key, array in arrays.items():
            split, _, kind = key.rpartition("_")
            kind = "observed" if kind == "mask" else kind
            if kind in _KINDS and (split or "train") in SPLITS:
                raw.setdefault(split or "train", {})[kind] = array
        if not raw or any("images" not in kinds for kinds in raw.values()) or "train" not in raw:
            raise LacunaError(
                f"{self.path} holds {sorted(arrays)}: it needs 'images' and may have 'labels', 'observed' and the same "
                "with the prefix test_ or validation_."
            )
        return raw

    def _split(self, split: str, kinds: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray | None]:
        """uint8 images (N, C, H, W) and their mask, bool (N, 1 or C, H, W), or None if all values are observed."""
        what = f"'{split}' images of {self.path}"
        image, observed = as_bytes(self._channels_first(kinds["images"], what), what)
        if "labels" in kinds and kinds["labels"].shape != image.shape[:1]:
            raise LacunaError(f"The {what} are {len(image)}, their labels have shape {kinds['labels'].shape}.")
        if "observed" in kinds:
            given = kinds["observed"].astype(bool)
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


def _rows(arrays: Split, rows: np.ndarray) -> Split:
    labels = None if arrays.labels is None else arrays.labels[rows]
    return Split(arrays.images[rows], labels, None if arrays.observed is None else arrays.observed[rows])
