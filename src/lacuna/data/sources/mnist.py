"""MNIST through torchvision, which downloads the four original files and checks their MD5 sums."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from lacuna.data.prepared import Arrays, Description
from lacuna.data.sources.base import Content, Source


class MNIST(Source):
    """60 000 training and 10 000 test digits, 28x28 (MisConv table 1, PRFlow table 1). LeCun et al., 1998."""

    shape = (1, 28, 28)
    classes = 10
    set_name = "mnist"
    official_counts: Mapping[str, int] = {"train": 60_000, "test": 10_000}

    def read(self, root: Path, *, download: bool) -> Content:
        """The digits from ``root/MNIST/raw``; archives that exist there are unpacked without network access."""
        from torchvision.datasets import MNIST as Original
        from torchvision.datasets.utils import check_integrity

        def get(download: bool) -> dict[str, Arrays]:
            raw = root / "MNIST" / "raw"
            packed = all(check_integrity(str(raw / name), md5) for name, md5 in Original.resources)
            splits = {}
            for split in ("train", "test"):
                original = Original(str(root), train=split == "train", download=download or packed)
                images, labels = original.data.numpy(), original.targets.numpy()
                splits[split] = Arrays(np.ascontiguousarray(images[:, None]), labels.astype(np.int64))
            return splits

        splits = self.fetch(root, download, get)
        complete = self.is_complete(splits)
        return Content(Description(self.set_name, self.classes, "torchvision MNIST", complete=complete), splits)
