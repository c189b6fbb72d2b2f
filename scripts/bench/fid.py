"""FID from two sets of moments: lacuna's singular values against the usual matrix square roots.

    python scripts/bench/fid.py [--dimensions 512 2048] [--threads 2]

Random features whose standard deviations span three and a half decades. Compared with scipy's square root of the
product of the covariances (pytorch-fid and most papers) and, if torchmetrics is installed, with the eigenvalues of
that product. Prints one row per dimension, and one with fewer images than dimensions, whose covariances are singular.
The reference is computed from the features: the singular values of X Yᵀ, which need no covariance. Beyond 1000
dimensions every formula is timed once. Exits with 1 if lacuna's relative error exceeds 1e-9 or is not the smallest,
or if it is slower than scipy.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from _timing import best  # type: ignore[import-not-found]
from scipy.linalg import sqrtm
from torch import Tensor

from lacuna.drawing.text_table import text_table
from lacuna.metrics.fid import Moments, Statistics, frechet_distance
from lacuna.runs.environment import tune_malloc

Formula = Callable[[Statistics, Statistics], float]


def ours(one: Statistics, other: Statistics) -> float:
    """As in training: the factor of the reference is cached, that of the evaluated images is computed."""
    fresh = Statistics(one.mean, one.covariance, one.n, one.features, one.images)
    return frechet_distance(fresh, other)


def scipys(one: Statistics, other: Statistics) -> float:
    """The trace of scipy's matrix square root of the product."""
    root = np.trace(sqrtm((one.covariance @ other.covariance).numpy())).real
    means = (one.mean - other.mean).square().sum()
    return float(means + one.covariance.trace() + other.covariance.trace() - 2 * root)


def formulas() -> dict[str, Formula]:
    """The available formulas, by name."""
    found: dict[str, Formula] = {"lacuna": ours, "scipy": scipys}
    try:
        from torchmetrics.image.fid import _compute_fid
    except ImportError:
        return found
    return found | {
        "torchmetrics": lambda a, b: float(_compute_fid(a.mean, a.covariance, b.mean, b.covariance)),
    }


def made_up(n: int, d: int) -> tuple[Tensor, Tensor]:
    """Two sets of n features each (n, d) that differ by 10 % in scale, with correlated dimensions."""
    generator = torch.Generator().manual_seed(0)
    scales = torch.logspace(0.5, -3, d, dtype=torch.float64)
    turn = torch.linalg.qr(torch.randn(d, d, generator=generator, dtype=torch.float64))[0]
    first, second = (torch.randn(n, d, generator=generator, dtype=torch.float64) * scales @ turn for _ in range(2))
    return first, 1.1 * second


def statistics(x: Tensor) -> Statistics:
    moments = Moments()
    for batch in x.split(250):
        moments.update(batch)
    mean, covariance = moments.compute()
    return Statistics(mean, covariance, moments.n, "made up", "made up")


def truth(x: Tensor, y: Tensor) -> float:
    """Computed from the features: tr (C_1 C_2)^½ is the sum of the singular values of the centred X Yᵀ over n - 1."""
    a, b = x - x.mean(0), y - y.mean(0)
    cross = torch.linalg.svdvals(torch.linalg.qr(a).R @ torch.linalg.qr(b).R.T).sum()
    means = (x.mean(0) - y.mean(0)).square().sum()
    return float(means + (a.square().sum() + b.square().sum() - 2 * cross) / (len(x) - 1))


def measured(n: int, d: int) -> tuple[dict[str, str], bool]:
    """A row of the table, and whether accuracy and time are as required."""
    x, y = made_up(n, d)
    one, other = statistics(x), statistics(y)
    expected, errors, times, calls = truth(x, y), {}, {}, {}
    for name, formula in formulas().items():
        calls[name] = partial(formula, one, other)
        start = time.perf_counter()
        errors[name] = abs(calls[name]() - expected) / expected
        times[name] = time.perf_counter() - start
    if d <= 1000:
        times = best(calls, turns=5)
    row = {"images x features": f"{n} x {d}", "FID": f"{expected:.6f}"}
    row |= {f"{name} (s)": f"{times[name]:.3f}" for name in calls}
    row |= {"times faster than scipy": f"{times['scipy'] / times['lacuna']:.1f}"}
    row |= {f"error of {name}": f"{errors[name]:.0e}" for name in calls}
    good = errors["lacuna"] < 1e-9 and errors["lacuna"] == min(errors.values())
    return row, good and times["lacuna"] < times["scipy"]


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--dimensions", type=int, nargs="+", default=[512, 2048])
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    tune_malloc()
    torch.set_num_threads(options.threads)
    cases = [(3000, d) for d in options.dimensions]
    found = [measured(*case) for case in [*cases, (300, 512)]]
    print(text_table([row for row, _ in found]))
    print(f"{torch.get_num_threads()} thread(s); errors are relative")
    return 0 if all(good for _, good in found) else 1


if __name__ == "__main__":
    sys.exit(main())
