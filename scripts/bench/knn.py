"""k-NN imputation: lacuna's batched KNN against scikit-learn's KNNImputer, same definition and same values.

    python scripts/bench/knn.py [--queries 300] [--donors 5000] [--size 28] [--device cpu]

Random smooth 8-bit images with a missing square of a quarter of the area, in queries and donors. Prints one row; exits
with 1 if the values differ or lacuna is less than 3 times as fast.
"""

from __future__ import annotations

import argparse
import sys

import torch
from _timing import best  # type: ignore[import-not-found]
from sklearn.impute import KNNImputer
from torch import Tensor

from lacuna.drawing.text_table import text_table
from lacuna.imputers.knn import KNN

EXPECTED = 3.0


def images(n: int, size: int, generator: torch.Generator) -> Tensor:
    """Blends of a few smooth patterns with noise, (n,1,size,size), multiples of 1/255."""
    patterns = torch.nn.functional.interpolate(
        torch.rand(20, 1, 7, 7, generator=generator), (size, size), mode="bicubic"
    )
    weights = torch.rand(n, 20, generator=generator) ** 6
    blend = (weights / weights.sum(1, keepdim=True)) @ patterns.flatten(1)
    noisy = blend + 0.1 * torch.randn(blend.shape, generator=generator)
    return (noisy.clamp(0, 1) * 255).round().view(n, 1, size, size) / 255


def square_masks(n: int, size: int, generator: torch.Generator) -> Tensor:
    """Masks (n,1,size,size) with a missing square of half the side at a random position."""
    side = size // 2
    corner = torch.randint(0, size - side + 1, (n, 2, 1, 1), generator=generator)
    row = torch.arange(size).view(1, size, 1) - corner[:, 0]
    column = torch.arange(size).view(1, 1, size) - corner[:, 1]
    return ~((row >= 0) & (row < side) & (column >= 0) & (column < side))[:, None]


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--queries", type=int, default=300)
    parser.add_argument("--donors", type=int, default=5000)
    parser.add_argument("--size", type=int, default=28)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    generator = torch.Generator().manual_seed(0)
    every = images(options.donors + options.queries, options.size, generator)
    mask = square_masks(len(every), options.size, generator)
    donors, queries = every[: options.donors], every[options.donors :]
    donors_mask, queries_mask = mask[: options.donors], mask[options.donors :]

    knn = KNN().to(options.device)
    knn.fit(donors.to(options.device), donors_mask.to(options.device))
    asked = queries.to(options.device), queries_mask.to(options.device)
    ours = knn.impute(*asked).cpu()

    nan = torch.tensor(float("nan"), dtype=torch.float64)
    reference = KNNImputer(n_neighbors=5)
    reference.fit(torch.where(donors_mask, donors.double(), nan).flatten(1).numpy())
    rows = torch.where(queries_mask, queries.double(), nan).flatten(1).numpy()
    theirs = torch.from_numpy(reference.transform(rows)).view_as(queries)
    times = best({"ours": lambda: knn.impute(*asked), "theirs": lambda: reference.transform(rows)}, turns=5)
    our_time, their_time = times["ours"], times["theirs"]

    difference = (ours - theirs).abs().max().item()
    row = {
        "queries x donors x pixels": f"{len(queries)} x {len(donors)} x {options.size**2}",
        "scikit-learn (s)": round(their_time, 3),
        "lacuna (s)": round(our_time, 3),
        "times faster": f"{their_time / our_time:.1f}",
        "largest difference": f"{difference:.1e}",
        "device": f"{options.device}, {torch.get_num_threads()} thread(s)",
    }
    print(text_table([row], digits=3))
    return 0 if difference < 1e-5 and their_time > EXPECTED * our_time else 1


if __name__ == "__main__":
    sys.exit(main())
