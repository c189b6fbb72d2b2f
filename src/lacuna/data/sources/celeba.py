"""CelebA's aligned photographs, cropped and split as in either of the two papers."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import ClassVar

import numpy as np
from PIL import Image

from lacuna.data.prepared import Arrays, Description
from lacuna.data.sources.base import Content, Source
from lacuna.data.sources.pixels import centre_crop
from lacuna.errors import LacunaError

_FIRST = 100_000  # PRFlow trains on the first 100 000 files
_RATIO = 1.875  # MisConv's code resizes to int(1.875 * size) before it crops
_PRFLOW_CROP = 108


class CelebA(Source):
    """202 599 aligned photographs of faces, 178x218, with 40 binary attributes each (Liu et al., 2015).

    ``protocol="misconv"``: resized to 120x120 (for size 64; the aspect ratio is not kept; bilinear, the default of the
    authors' torchvision), then centre crop; the official train split, and the official *valid* split as test, which
    is the one the authors report. ``protocol="prflow"``: centre crop 108x108, resized (bicubic); the first 100 000
    files in order of their names for training, the rest for testing.

    The attributes are read from ``list_attr_celeba.txt``; without that file the images have no labels.

    Args:
        size: side of the images in pixels, 8 to 108.
        protocol: ``misconv`` or ``prflow``.

    Raises:
        LacunaError: an unknown protocol or a size out of range.
    """

    attributes = 40

    def __init__(self, size: int = 64, protocol: str = "misconv") -> None:
        if protocol not in ("misconv", "prflow"):
            raise LacunaError(f"data.protocol={protocol} must be misconv or prflow.")
        if isinstance(size, bool) or not isinstance(size, int) or not 8 <= size <= 108:
            raise LacunaError(f"data.size={size} must be a whole number from 8 to 108.")
        self.size, self.protocol = size, protocol
        self.shape = (3, size, size)
        misconv = protocol == "misconv"
        self.official_splits = {"train": "train", "test": "valid" if misconv else "test"}
        counts = {"train": 162_770, "test": 19_867} if misconv else {"train": _FIRST, "test": 102_599}
        self.official_counts = counts

    named: ClassVar[dict[tuple[int, str], str]] = {(64, "misconv"): "celeba64", (32, "prflow"): "celeba32"}

    @property
    def set_name(self) -> str:
        """celeba64 and celeba32 as in the papers; names of other sizes contain the protocol."""
        return self.named.get((self.size, self.protocol), f"celeba{self.size}_{self.protocol}")

    def read(self, root: Path, *, download: bool) -> Content:
        """The photographs from ``root/celeba/img_align_celeba``, split by ``root/celeba/list_eval_partition.txt``."""
        folder = root / "celeba"
        partition = folder / "list_eval_partition.txt"
        if not (partition.is_file() and (folder / "img_align_celeba").is_dir()):
            self.fetch(root, download, lambda allowed: _download(root, allowed))
        attributes = folder / "list_attr_celeba.txt" if (folder / "list_attr_celeba.txt").is_file() else None
        splits = {}
        for split, names in self._split_names(partition).items():
            if not names:
                raise LacunaError(f"{partition} lists no image of the {split} split: download the file again.")
            labels = None if attributes is None else self._attributes(attributes, names)
            splits[split] = Arrays(self._images(folder / "img_align_celeba", names), labels)
        size, wide = self.size, int(self.size * _RATIO)
        note = (
            f"misconv protocol: resized to {wide}x{wide}, centre {size}x{size}, test = official valid split"
            if self.protocol == "misconv"
            else f"prflow protocol: centre {_PRFLOW_CROP}x{_PRFLOW_CROP} to {size}x{size}, first {_FIRST} and the rest"
        )
        note += "; without attributes" if attributes is None else ""
        about = Description(
            self.set_name,
            None,
            "CelebA img_align_celeba",
            complete=self.is_complete(splits),
            note=note,
            attributes=None if attributes is None else self.attributes,
        )
        return Content(about, splits)

    def _split_names(self, partition: Path) -> dict[str, list[str]]:
        """File names of our splits. ``partition`` has lines "000001.jpg 0", 0 = train, 1 = valid, 2 = test."""
        lines = [line.split() for line in partition.read_text(encoding="utf-8").splitlines() if line.strip()]
        if any(len(line) != 2 or line[1] not in "012" for line in lines):
            raise LacunaError(
                f"{partition} is damaged: every line must be a file name and 0, 1 or 2; download it again."
            )
        if self.protocol == "prflow":
            names = sorted(name for name, _ in lines)
            return {"train": names[:_FIRST], "test": names[_FIRST:]}
        return {ours: [name for name, part in lines if part == code] for ours, code in (("train", "0"), ("test", "1"))}

    def _attributes(self, table: Path, names: Sequence[str]) -> np.ndarray:
        """uint8 (N, 40), 1 = yes. ``table`` has two header lines, then "000001.jpg -1 1 ...", 1 = yes, -1 = no."""
        lines = [line.split(maxsplit=1) for line in table.read_text(encoding="utf-8").splitlines()[2:] if line.strip()]
        found = {line[0]: line[-1] for line in lines}
        try:
            values = np.array([found[name].split() for name in names], np.int8)
        except (KeyError, ValueError) as error:  # no line for an image, a wrong number of values, or no integers
            raise self._damaged(table) from error
        if values.shape != (len(names), self.attributes) or (np.abs(values) != 1).any():
            raise self._damaged(table)
        return (values > 0).astype(np.uint8)

    def _damaged(self, table: Path) -> LacunaError:
        wanted = f"a file name and {self.attributes} times 1 or -1"
        return LacunaError(
            f"{table} is damaged: every image needs a line with {wanted}; download it again, or remove it."
        )

    def _images(self, folder: Path, names: Sequence[str]) -> np.ndarray:
        images = np.empty((len(names), 3, self.size, self.size), np.uint8)

        def fill(i: int) -> None:
            images[i] = self._image(folder / names[i]).transpose(2, 0, 1)

        with ThreadPoolExecutor(os.cpu_count()) as pool:  # Pillow releases the GIL while it decodes
            for _ in pool.map(fill, range(len(names)), chunksize=64):
                pass
        return images

    def _image(self, path: Path) -> np.ndarray:
        """One photograph, cropped and resized: uint8 (size, size, 3)."""
        try:
            with Image.open(path) as file:
                image = file.convert("RGB")
        except (OSError, SyntaxError) as error:
            raise LacunaError(f"{path} is missing or damaged: unpack img_align_celeba.zip again.") from error
        if self.protocol == "misconv":
            wide = int(self.size * _RATIO)
            return np.asarray(centre_crop(image.resize((wide, wide), Image.Resampling.BILINEAR), self.size))
        crop = centre_crop(image, _PRFLOW_CROP)
        return np.asarray(crop.resize((self.size, self.size), Image.Resampling.BICUBIC))


def _download(root: Path, allowed: bool) -> None:
    from torchvision.datasets import CelebA as Original

    Original(str(root), split="all", target_type=[], transform=None, download=allowed)
