"""k-NN imputation: lacuna's batched KNN against scikit-learn's KNNImputer.

    python scripts/bench/knn.py [--queries 300] [--donors 5000] [--size 28] [--device cpu]

First random smooth 8-bit images; a square of a quarter of the area is missing in queries and donors. They have no ties,
and the values are equal. Then scikit-learn's digits (17 grey levels, many ties), 1297 donors and 500 queries, with 60
and 90 % of the pixels missing: the RMSE of missing pixels, mean over six masks, of both rules for ties and of
KNNImputer, whose choice among tied donors is arbitrary. Exits with 1 if the values differ, KNNImputer has a lower RMSE
on the digits, or lacuna is less than 3 times as fast without ties, or slower with them.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable

import torch
from _report import report  # type: ignore[import-not-found]
from _timing import best  # type: ignore[import-not-found]
from sklearn.datasets import load_digits
from sklearn.impute import KNNImputer
from torch import Tensor

from lacuna.data.masks import Bernoulli
from lacuna.drawing.text_table import text_table
from lacuna.imputers.knn import KNN

EXPECTED = 3.0
SEEDS = range(6)


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
    """Masks (n,1,size,size) with a missing square of half the side at a random place."""
    side = size // 2
    corner = torch.randint(0, size - side + 1, (n, 2, 1, 1), generator=generator)
    row = torch.arange(size).view(1, size, 1) - corner[:, 0]
    column = torch.arange(size).view(1, 1, size) - corner[:, 1]
    return ~((row >= 0) & (row < side) & (column >= 0) & (column < side))[:, None]


def scikit_learns(donors: Tensor, donors_mask: Tensor, queries: Tensor, mask: Tensor) -> Callable[[], Tensor]:
    """A function that imputes the queries by KNNImputer."""
    nan = torch.tensor(float("nan"), dtype=torch.float64)
    imputer = KNNImputer(n_neighbors=5, keep_empty_features=True)
    imputer.fit(torch.where(donors_mask, donors.double(), nan).flatten(1).numpy())
    rows = torch.where(mask, queries.double(), nan).flatten(1).numpy()
    return lambda: torch.from_numpy(imputer.transform(rows)).view_as(queries)


def ours(
    donors: Tensor, donors_mask: Tensor, queries: Tensor, mask: Tensor, device: str, ties: str = "shared"
) -> Callable[[], Tensor]:
    """A function that imputes the queries by lacuna's KNN."""
    knn = KNN(ties=ties).to(device)
    knn.fit(donors.to(device), donors_mask.to(device))
    batch = queries.to(device), mask.to(device)
    return lambda: knn.impute(*batch)


def without_ties(options: argparse.Namespace) -> tuple[dict[str, object], bool]:
    """A row of the first table, and whether its checks pass."""
    generator = torch.Generator().manual_seed(0)
    pool = images(options.donors + options.queries, options.size, generator)
    mask = square_masks(len(pool), options.size, generator)
    split = options.donors
    given = pool[:split], mask[:split], pool[split:], mask[split:]
    mine, theirs = ours(*given, options.device), scikit_learns(*given)
    difference = (mine().cpu() - theirs()).abs().max().item()
    times = best({"ours": mine, "theirs": theirs}, turns=5)
    row: dict[str, object] = {
        "queries x donors x pixels": f"{options.queries} x {split} x {options.size**2}",
        "scikit-learn (s)": round(times["theirs"], 3),
        "lacuna (s)": round(times["ours"], 3),
        "times faster": f"{times['theirs'] / times['ours']:.1f}",
        "largest difference": f"{difference:.1e}",
        "device": f"{options.device}, {torch.get_num_threads()} thread(s)",
    }
    work = f"k-NN, {split} donors of {options.size**2} pixels"
    report(work, "scikit-learn", times["ours"], times["theirs"], "s", 1 / EXPECTED, show=False)
    return row, difference < 1e-5 and times["theirs"] > EXPECTED * times["ours"]


def on_digits(rate: float, device: str) -> tuple[dict[str, object], bool]:
    """A row of the table with ties, and whether its checks pass."""
    digits = (torch.tensor(load_digits().images).float() * 255 / 16).round().unsqueeze(1) / 255
    errors: dict[str, list[float]] = {"scikit-learn": [], "shared": [], "first": []}
    for seed in SEEDS:
        mask = Bernoulli(rate)(torch.arange(len(digits)), (1, 8, 8), seed=seed, split="bench")
        given = digits[:1297], mask[:1297], digits[1297:], mask[1297:]
        calls = {"scikit-learn": scikit_learns(*given)}
        calls |= {ties: ours(*given, device, ties) for ties in ("shared", "first")}
        for name, call in calls.items():
            wrong = (call().cpu() - given[2])[~given[3]]
            errors[name].append(wrong.double().square().mean().sqrt().item())
    times = best(calls, turns=5)
    mean = {name: sum(values) / len(values) for name, values in errors.items()}
    row: dict[str, object] = {"digits, missing": f"{rate:.0%}"}
    row |= {f"RMSE {name}": f"{value:.4f}" for name, value in mean.items()}
    row |= {f"{name} (s)": f"{times[name]:.3f}" for name in calls}
    work = f"k-NN on digits, {rate:.0%} missing"
    report(work, "scikit-learn", times["shared"], times["scikit-learn"], "s", 1.0, show=False)
    report(f"{work}, RMSE", "scikit-learn", mean["shared"], mean["scikit-learn"], "", 1.0, show=False)
    return row, mean["shared"] < mean["scikit-learn"] and times["shared"] < times["scikit-learn"]


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--queries", type=int, default=300)
    parser.add_argument("--donors", type=int, default=5000)
    parser.add_argument("--size", type=int, default=28)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    first = [without_ties(options)]
    second = [on_digits(rate, options.device) for rate in (0.6, 0.9)]
    for table in (first, second):
        print(text_table([row for row, _ in table], digits=3))
    return 0 if all(good for _, good in [*first, *second]) else 1


if __name__ == "__main__":
    sys.exit(main())
