"""Data loading: the resident loader against torch's DataLoader, which makes one item at a time.

    python scripts/bench/loader.py [--images 20000] [--batch-size 64] [--workers 2] [--device cpu]

Both give shuffled float batches with missing squares. The per-item data set has precomputed masks: for each image it
only indexes, converts and erases the missing pixels. Prints one row. Exits with 1 if the resident loader is less than
4 times as fast.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable
from functools import partial

import numpy as np
import torch
from _report import report  # type: ignore[import-not-found]
from _timing import best  # type: ignore[import-not-found]
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from lacuna.data.incomplete import IncompleteImages
from lacuna.data.loader import ResidentLoader
from lacuna.data.masks import Square
from lacuna.data.prepared import Arrays
from lacuna.drawing.text_table import text_table

EXPECTED = 4.0


class PerItem(Dataset[tuple[Tensor, Tensor, Tensor]]):
    """The usual data set: one image at a time, converted and masked when it is indexed."""

    def __init__(self, images: Tensor, masks: Tensor, labels: Tensor) -> None:
        self.images, self.masks, self.labels = images, masks, labels

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor, Tensor]:
        mask = self.masks[index]
        return torch.where(mask, self.images[index].float() / 255, 0.0), mask, self.labels[index]


def one_pass(batches: Iterable[object]) -> None:
    for _ in batches:
        pass


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--images", type=int, default=20_000)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--workers", type=int, default=2, help="processes of the second DataLoader")
    parser.add_argument("--device", default="cpu", help="of the resident loader")
    options = parser.parse_args()
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (options.images, 1, 28, 28), dtype=np.uint8)
    labels = rng.integers(0, 10, options.images)
    index = torch.arange(options.images)
    masks = Square(0.5)(index, (1, 28, 28), seed=0, split="train")

    resident = IncompleteImages(Arrays(images, labels, None), Square(0.5), seed=0, split="train").to(options.device)
    ours = ResidentLoader(resident, options.batch_size, shuffle=True, seed=0)
    items = PerItem(torch.from_numpy(images), masks, torch.from_numpy(labels))
    loaders: dict[str, Iterable[object]] = {"resident": ours}
    for workers in sorted({0, options.workers}):
        name = f"DataLoader, {workers} workers"
        loaders[name] = DataLoader(items, options.batch_size, shuffle=True, num_workers=workers)
    times = best({name: partial(one_pass, loader) for name, loader in loaders.items()}, turns=5)
    speed = {name: options.images / seconds for name, seconds in times.items()}
    ratio = speed["resident"] / max(value for name, value in speed.items() if name != "resident")
    row: dict[str, object] = {f"{name} (images/s)": round(value) for name, value in speed.items()}
    row |= {"times faster": f"{ratio:.1f}", "device": f"{options.device}, {torch.get_num_threads()} thread(s)"}
    fastest = min(seconds for name, seconds in times.items() if name != "resident")
    work = f"an epoch of {options.images} images"
    report(work, "torch's DataLoader", times["resident"], fastest, "s", 1 / EXPECTED, show=False)
    print(text_table([row]))
    return 0 if ratio >= EXPECTED else 1


if __name__ == "__main__":
    sys.exit(main())
