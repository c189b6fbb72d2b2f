"""A prepared data set on disk: uint8 arrays in one folder, with a record of where they come from.

A prepared folder holds ``provenance.json`` and, for every split, ``<split>_images.npy`` (uint8, (N, C, H, W)) and,
if there are any, ``<split>_labels.npy`` (int64 (N,) for classes, uint8 (N, A) for attributes) and
``<split>_observed.npy`` (bool, (N, 1 or C, H, W); False where the original data are missing). It is created with one
rename, so it is complete or absent. Reading needs only numpy: a plan of runs can read the fingerprint of the data
without importing torch.
"""

from __future__ import annotations

import glob
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field, fields
from functools import cached_property
from pathlib import Path

import numpy as np

from lacuna import files
from lacuna.errors import LacunaError
from lacuna.program import command_text

SPLITS = ("train", "validation", "test")
_RECORD = "provenance.json"
_VERIFIED = ".verified.json"
_BLOCK = 1 << 24


@dataclass(frozen=True)
class Arrays:
    """The arrays of one split.

    Attributes:
        images: uint8 (N, C, H, W).
        labels: int64 (N,), the class; or uint8 (N, A), 1 for each attribute that the image has, else 0; or None.
        observed: bool (N, 1 or C, H, W), True = observed; None if nothing is missing.
    """

    images: np.ndarray
    labels: np.ndarray | None = None
    observed: np.ndarray | None = None


@dataclass(frozen=True)
class Provenance:
    """Where a data set comes from and what it contains.

    Attributes:
        name: of the prepared folder.
        shape, classes: (C, H, W) of the images; number of classes, or None.
        counts: split -> number of images.
        checksums, sizes: file -> sha256 and bytes.
        complete: whether it is the whole published set, not a sample.
        lossless: whether no pixel was changed by lossy compression, rounding or resizing.
        source, note: where the images come from; further remarks.
        class_names: of the classes, in order.
        attributes: number of binary attributes, or None.
    """

    name: str
    shape: tuple[int, int, int]
    classes: int | None
    counts: Mapping[str, int]
    checksums: Mapping[str, str]
    sizes: Mapping[str, int]
    complete: bool
    lossless: bool
    source: str
    note: str = ""
    class_names: tuple[str, ...] | None = None
    attributes: int | None = None

    @property
    def fingerprint(self) -> str:
        """12 hexadecimal digits that change when any array changes."""
        return hashlib.sha256(json.dumps(dict(sorted(self.checksums.items()))).encode()).hexdigest()[:12]


@dataclass(frozen=True)
class Description:
    """What a source says about its set; :func:`write` adds shape, counts and checksums.

    Labels are one of ``classes`` classes, or binary values of ``attributes`` attributes; both are None without labels.
    """

    name: str
    classes: int | None
    source: str
    complete: bool = True
    lossless: bool = True
    note: str = ""
    class_names: tuple[str, ...] | None = field(default=None)
    attributes: int | None = None


class PreparedData:
    """A prepared folder. Opening it checks every file's size, and its sha256 if the file changed since the last check.

    Raises:
        LacunaError: the folder, or a file in it, is missing or damaged; the message names the command that fixes it.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder)
        self._verify()

    @staticmethod
    def exists(folder: Path) -> bool:
        """Whether the folder exists (it may be damaged)."""
        return Path(folder).is_dir()

    @cached_property
    def provenance(self) -> Provenance:
        """The record written with the arrays."""
        path = self.folder / _RECORD
        try:
            record = json.loads(path.read_text(encoding="utf-8"))
            record["shape"] = tuple(record["shape"])
            record["class_names"] = tuple(record["class_names"]) if record.get("class_names") else None
            names = {f.name for f in fields(Provenance)}
            return Provenance(**{name: value for name, value in record.items() if name in names})
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise self._damaged(_RECORD, "missing or unreadable") from error

    @property
    def splits(self) -> tuple[str, ...]:
        """The stored splits, in the order train, validation, test."""
        return tuple(split for split in SPLITS if split in self.provenance.counts)

    def split(self, name: str) -> Arrays:
        """The arrays of one split, memory-mapped (values are read on use).

        Raises:
            LacunaError: there is no such split.
        """
        if name not in self.provenance.counts:
            raise LacunaError(f"The data set {self.provenance.name} has no split '{name}': it has {self.splits}.")
        found = {kind: self._load(f"{name}_{kind}.npy") for kind in ("images", "labels", "observed")}
        if found["images"] is None:
            raise self._damaged(f"{name}_images.npy", "missing")
        return Arrays(images=found["images"], labels=found["labels"], observed=found["observed"])

    def _load(self, file: str) -> np.ndarray | None:
        if file not in self.provenance.checksums:
            return None
        array: np.ndarray = np.load(self.folder / file, mmap_mode="r", allow_pickle=False)
        return array

    def _damaged(self, file: str, how: str) -> LacunaError:
        name, root = self.folder.name, self.folder.parent.parent
        if name.startswith(("arrays-", "folder-")):  # made from the user's own files by every command that uses them
            return LacunaError(f"{self.folder / file} is {how}: delete {self.folder} and run the command again.")
        return LacunaError(
            f"{self.folder / file} is {how}: run `{command_text('prepare')} {name} --root {root} --force` "
            "(with the same --train/--test/--reader options if the set was made from arrays)."
        )

    def _verify(self) -> None:
        """Compare every file with the record; hash only files that changed since they were last verified."""
        stamps: dict[str, list[int]] = {}
        with suppress(OSError, ValueError):
            stamps = json.loads((self.folder / _VERIFIED).read_text(encoding="utf-8"))
        current: dict[str, list[int]] = {}
        for file, checksum in self.provenance.checksums.items():
            path = self.folder / file
            try:
                stat = path.stat()
            except OSError as error:
                raise self._damaged(file, "missing") from error
            if stat.st_size != self.provenance.sizes.get(file):
                raise self._damaged(file, "damaged (its size differs from the record)")
            current[file] = [stat.st_size, stat.st_mtime_ns, stat.st_ino]
            if stamps.get(file) != current[file] and _sha256(path) != checksum:
                raise self._damaged(file, "damaged (its checksum differs from the record)")
        if current != stamps:
            with suppress(LacunaError, OSError):  # a read-only folder is hashed every time
                files.write_json(self.folder / _VERIFIED, current)


def write(folder: Path, description: Description, splits: Mapping[str, Arrays]) -> PreparedData:
    """Write ``splits`` and their provenance to ``folder``, replacing its content; all or nothing.

    Must not run in two processes at once: it removes temporary folders left by an earlier, killed call.

    Raises:
        LacunaError: arrays of a wrong type or shape, labels outside the classes, no space left.
    """
    shape = _checked(description, splits)
    folder = Path(folder)
    with files.disk_errors(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        for stale in folder.parent.glob(f".{glob.escape(folder.name)}.*"):
            if stale.is_dir():  # the lock is a file
                shutil.rmtree(stale, ignore_errors=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        with files.disk_errors(folder):
            checksums, sizes = _write_arrays(temporary, splits)
            counts = {split: len(arrays.images) for split, arrays in splits.items()}
            record = Provenance(shape=shape, counts=counts, checksums=checksums, sizes=sizes, **asdict(description))
            files.write_json(temporary / _RECORD, asdict(record))
            temporary.chmod(0o755)
            if folder.exists():  # if the process is killed between the two renames, the set is not prepared
                os.replace(folder, temporary.with_name(temporary.name + ".old"))
            os.replace(temporary, folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        shutil.rmtree(temporary.with_name(temporary.name + ".old"), ignore_errors=True)
    return PreparedData(folder)


def _write_arrays(folder: Path, splits: Mapping[str, Arrays]) -> tuple[dict[str, str], dict[str, int]]:
    checksums, sizes = {}, {}
    for split, arrays in splits.items():
        for kind in ("images", "labels", "observed"):
            array = getattr(arrays, kind)
            if array is not None:
                path = folder / f"{split}_{kind}.npy"
                checksums[path.name] = _save(path, np.ascontiguousarray(array))
                sizes[path.name] = path.stat().st_size
    return checksums, sizes


def _save(path: Path, array: np.ndarray) -> str:
    """Write an .npy file, flush it to disk and return its sha256 (``np.save`` hides why a write failed)."""
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, np.lib.format.header_data_from_array_1_0(array))
        data = array.reshape(-1).view(np.uint8).data
        for start in range(0, len(data), _BLOCK):
            file.write(data[start : start + _BLOCK])
        file.flush()
        os.fsync(file.fileno())
    return _sha256(path)


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def _checked(description: Description, splits: Mapping[str, Arrays]) -> tuple[int, int, int]:
    """The common image shape (C, H, W), after checking the splits against each other and the description."""
    name = description.name
    shapes = {arrays.images.shape[1:] for arrays in splits.values()}
    if "train" not in splits or not set(splits) <= set(SPLITS):
        raise LacunaError(f"{name}: needs a train split and may have validation and test, not {sorted(splits)}.")
    if len(shapes) != 1 or len(shape := shapes.pop()) != 3:
        raise LacunaError(f"{name}: the splits' images must be (N, C, H, W) of one shape.")
    for split, arrays in splits.items():
        n = len(arrays.images)
        if n == 0:
            raise LacunaError(f"{name}: the split '{split}' holds no image.")
        if arrays.images.dtype != np.uint8:
            raise LacunaError(f"{name}: images must be uint8, not {arrays.images.dtype}.")
        _check_labels(split, n, arrays.labels, description)
        _check_observed(name, split, (n, *shape), arrays.observed)
    return shape[0], shape[1], shape[2]


def _check_labels(split: str, n: int, labels: np.ndarray | None, about: Description) -> None:
    name, classes, attributes = about.name, about.classes, about.attributes
    counts = {"classes": classes, "attributes": attributes}
    kinds = " and ".join(f"{count} {what}" for what, count in counts.items() if count is not None)
    if classes is not None and attributes is not None:
        raise LacunaError(f"{name}: images have classes or attributes, but the set has {kinds}.")
    if labels is None:
        if kinds:
            raise LacunaError(f"{name}: the split '{split}' has no labels, though the set has {kinds}.")
        return
    dtype, shape = (np.dtype(np.int64), (n,)) if attributes is None else (np.dtype(np.uint8), (n, attributes))
    if labels.dtype != dtype or labels.shape != shape:
        raise LacunaError(f"{name}: the split '{split}' has {n} images but labels of shape {labels.shape}.")
    if labels.min() < 0 or labels.max() >= (classes or 2 * (attributes is not None)):
        raise LacunaError(
            f"{name}: the labels of the split '{split}' run from {labels.min()} to {labels.max()}, "
            f"but the set has {kinds or 'no classes'}."
        )


def _check_observed(name: str, split: str, shape: tuple[int, ...], observed: np.ndarray | None) -> None:
    if observed is None:
        return
    if observed.dtype != np.bool_ or observed.shape not in (shape, (shape[0], 1, *shape[2:])):
        raise LacunaError(f"{name}: the split '{split}' has images {shape} but an observed mask {observed.shape}.")
    empty = np.flatnonzero(~observed.reshape(shape[0], -1).any(1))
    if len(empty):
        raise LacunaError(
            f"{name}: image {empty[0]} of the split '{split}' has no observed pixel "
            f"({len(empty)} such images): remove it from the data."
        )
