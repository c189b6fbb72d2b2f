"""The first imputation of MCFlow and PRFlow: lacuna's batched ring search against a loop over pixels.

    python scripts/bench/ring_search.py [--images 400] [--size 28] [--channels 1] [--rate 0.6] [--device cpu]

Random 8-bit images with pixels missing at random. The loop is MCFlow's search in plain Python on numpy arrays. Prints
milliseconds per image, also of the other imputers without training. Exits with 1 if an imputed value is not among the
loop's candidates or lacuna's ring search is less than 50 times as fast.
"""

from __future__ import annotations

import argparse
import random
import sys
from collections.abc import Callable

import numpy as np
import torch
from _report import report  # type: ignore[import-not-found]
from _timing import best  # type: ignore[import-not-found]

from lacuna.data.masks import Bernoulli
from lacuna.drawing.text_table import text_table
from lacuna.imputers.base import Imputer
from lacuna.imputers.harmonic import Harmonic
from lacuna.imputers.linear import Linear
from lacuna.imputers.nearest import Nearest, RingNearest

EXPECTED = 50.0
OTHERS = {"nearest": Nearest(), "linear": Linear(), "harmonic": Harmonic(1), "biharmonic": Harmonic(2)}


def candidates(observed: np.ndarray, row: int, column: int) -> list[tuple[int, int]]:
    """The observed pixels of the smallest ring that has any, on its four half-open sides; empty if none has."""
    height, width = observed.shape
    for ring in range(1, max(height, width)):
        found = []
        for side in range(-ring, ring):
            for r, c in ((-ring, side), (side, -ring), (ring, side), (side, ring)):
                y, x = row + r, column + c
                if 0 <= y < height and 0 <= x < width and observed[y, x]:
                    found.append((y, x))
        if found:
            return found
    return []


def loop(images: np.ndarray, masks: np.ndarray) -> np.ndarray:
    """Impute images (N,C,H,W) pixel by pixel; a pixel without candidates is unchanged."""
    filled = images.copy()
    for image, observed, result in zip(images, masks, filled, strict=True):
        for row, column in np.argwhere(~observed):
            found = candidates(observed, row, column)
            if found:
                y, x = random.choice(found)
                result[:, row, column] = image[:, y, x]
    return filled


def agrees(observed: np.ndarray, source: np.ndarray) -> bool:
    """Whether every pixel of one image is copied from one of the loop's candidates."""
    width = observed.shape[1]
    for row, column in np.argwhere(~observed):
        found = candidates(observed, row, column)
        if found and divmod(int(source[row, column]), width) not in found:
            return False
    return True


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--images", type=int, default=400)
    parser.add_argument("--size", type=int, default=28)
    parser.add_argument("--channels", type=int, default=1)
    parser.add_argument("--rate", type=float, default=0.6)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    shape = (options.channels, options.size, options.size)
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(256, (options.images, *shape), generator=generator).float() / 255
    mask = Bernoulli(options.rate)(torch.arange(options.images), shape, seed=0, split="train")
    few = min(20, options.images)
    arrays = images[:few].numpy(), mask[:few, 0].numpy()
    batch = images.to(options.device), mask.to(options.device)
    ring = RingNearest()

    source = ring.source(batch[1][:few, 0]).cpu().numpy()
    agreed = all(agrees(observed, index) for observed, index in zip(arrays[1], source, strict=True))

    def imputation(imputer: Imputer) -> Callable[[], object]:
        return lambda: imputer.impute(*batch)

    functions = {"ring": imputation(ring), "loop": lambda: loop(*arrays)}
    times = best(functions, turns=12) | best({name: imputation(imputer) for name, imputer in OTHERS.items()}, turns=2)
    each = {name: 1e3 * seconds / (few if name == "loop" else options.images) for name, seconds in times.items()}
    row = {
        "images": f"{options.images} of {options.channels}x{options.size}x{options.size}, {options.rate:.0%} missing",
        "loop (ms)": round(each["loop"], 3),
        "ring (ms)": round(each["ring"], 4),
        "times faster": f"{each['loop'] / each['ring']:.0f}",
        **{f"{name} (ms)": round(each[name], 3) for name in OTHERS},
        "same candidates": "yes" if agreed else "NO",
        "device": f"{options.device}, {torch.get_num_threads()} thread(s)",
    }
    report("nearest-ring imputation", "loop over pixels", each["ring"], each["loop"], "ms", 1 / EXPECTED, show=False)
    print(text_table([row], digits=3))
    return 0 if agreed and each["loop"] > EXPECTED * each["ring"] else 1


if __name__ == "__main__":
    sys.exit(main())
