"""CIFAR-10 through torchvision, which downloads the archive and checks the MD5 sum of every batch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from lacuna.data.prepared import Arrays, Description
from lacuna.data.sources.base import Content, Source
from lacuna.data.sources.pixels import channels_first


class CIFAR10(Source):
    """50 000 training and 10 000 test photographs, 32x32 RGB, ten classes (Krizhevsky, 2009)."""

    shape = (3, 32, 32)
    classes = 10
    set_name = "cifar10"
    official_counts: Mapping[str, int] = {"train": 50_000, "test": 10_000}

    def read(self, root: Path, *, download: bool) -> Content:
        """The photographs from ``root/cifar-10-batches-py``."""
        from torchvision.datasets import CIFAR10 as Original

        names: tuple[str, ...] = ()

        def get(download: bool) -> dict[str, Arrays]:
            nonlocal names
            splits = {}
            for split in ("train", "test"):
                original = Original(str(root), train=split == "train", download=download)
                splits[split] = Arrays(channels_first(original.data), np.asarray(original.targets, np.int64))
                names = tuple(original.classes)
            return splits

        splits = self.fetch(root, download, get)
        complete = self.is_complete(splits)
        about = Description(
            self.set_name, self.classes, "torchvision CIFAR10", complete=complete, class_names=names or None
        )
        return Content(about, splits)
