"""SVHN's cropped digits through torchvision, which downloads the .mat files and checks their MD5 sums."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from lacuna.data.prepared import Arrays, Description
from lacuna.data.sources.base import Content, Source


class SVHN(Source):
    """73 257 training and 26 032 test house-number digits, 32x32 RGB; digit 0 has label 0 (Netzer et al., 2011).

    The 531 131 "extra" images are not used (MisConv, section 4).
    """

    shape = (3, 32, 32)
    classes = 10
    set_name = "svhn"
    official_counts: Mapping[str, int] = {"train": 73_257, "test": 26_032}

    def read(self, root: Path, *, download: bool) -> Content:
        """The digits from ``root/train_32x32.mat`` and ``root/test_32x32.mat``."""
        from torchvision.datasets import SVHN as Original

        def get(download: bool) -> dict[str, Arrays]:
            splits = {}
            for split in ("train", "test"):
                original = Original(str(root), split=split, download=download)
                labels = np.atleast_1d(original.labels).astype(np.int64)
                splits[split] = Arrays(np.ascontiguousarray(original.data), labels)
            return splits

        splits = self.fetch(root, download, get)
        complete = self.is_complete(splits)
        return Content(Description(self.set_name, self.classes, "torchvision SVHN", complete=complete), splits)
