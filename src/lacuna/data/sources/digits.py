"""scikit-learn's handwritten digits: real images that need no download."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from lacuna.data.hashing import permutation
from lacuna.data.prepared import Arrays, Description
from lacuna.data.sources.base import Content, Source

_TEST = 500


class Digits(Source):
    """1797 digits of 8x8 pixels with 17 grey levels (Alpaydin and Kaynak, 1998): 1297 for training, 500 for testing."""

    shape = (1, 8, 8)
    classes = 10
    set_name = "digits"
    official_counts: Mapping[str, int] = {"train": 1297, "test": _TEST}

    def read(self, root: Path, *, download: bool) -> Content:
        """The digits in a fixed random order (the first 500 are the test split), grey levels 0..16 scaled to 0..255."""
        from sklearn.datasets import load_digits

        pixels, labels = load_digits(return_X_y=True)
        images = np.round(pixels.reshape(-1, 1, 8, 8) * (255 / 16)).astype(np.uint8)
        order = permutation(len(images), "digits", "split")
        test, train = order[:_TEST], order[_TEST:]
        splits = {
            "train": Arrays(images[train], labels[train].astype(np.int64)),
            "test": Arrays(images[test], labels[test].astype(np.int64)),
        }
        return Content(Description(self.set_name, classes=10, source="scikit-learn load_digits"), splits)
