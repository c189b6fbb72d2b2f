"""Data loading: the resident loader against torch's DataLoader that makes one item at a time.

    python scripts/bench/loader.py [--images 20000] [--batch-size 64] [--workers 2] [--device cpu]

Both give shuffled float batches with square holes. The per-item data set has its masks ready made, so all it does for
an image is to look it up, convert it and erase the hole. Prints one row; exits with 1 below 4 times.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from lacuna.data.incomplete import IncompleteImages
from lacuna.data.loader import ResidentLoader
from lacuna.data.masks import Square
from lacuna.data.prepared import Arrays
from lacuna.report.table import text_table

EXPECTED = 4.0


class PerItem(Dataset[tuple[Tensor, Tensor, Tensor]]):
    """The usual data set: one image at a time, converted and masked when asked for."""

    def __init__(self, images: Tensor, masks: Tensor, labels: Tensor) -> None:
        self.images, self.masks, self.labels = images, masks, labels

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor, Tensor]:
        mask = self.masks[index]
        return torch.where(mask, self.images[index].float() / 255, 0.0), mask, self.labels[index]


def images_per_second(batches: Iterable[object], images: int, repeats: int) -> float:
    """The best of several passes."""
    best = float("inf")
    for _ in range(repeats):
        start = time.perf_counter()
        for _ in batches:
            pass
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        best = min(best, time.perf_counter() - start)
    return images / best


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
    speed = {"resident": images_per_second(ours, options.images, 3)}
    for workers in sorted({0, options.workers}):
        loader = DataLoader(items, options.batch_size, shuffle=True, num_workers=workers)
        speed[f"DataLoader, {workers} workers"] = images_per_second(loader, options.images, 2)
    ratio = speed["resident"] / max(value for name, value in speed.items() if name != "resident")
    row: dict[str, object] = {f"{name} (images/s)": round(value) for name, value in speed.items()}
    row |= {"times faster": f"{ratio:.1f}", "device": f"{options.device}, {torch.get_num_threads()} thread(s)"}
    print(text_table([row]))
    return 0 if ratio >= EXPECTED else 1


if __name__ == "__main__":
    sys.exit(main())
