"""FID from features: lacuna's moments against np.cov, its singular values against the usual matrix square roots.

    python scripts/bench/fid.py [--dimensions 512 2048] [--threads 2]

Random features whose standard deviations range over three and a half decades. The first table compares the moments of
4096 vectors in batches of 250 with np.cov of all at once. The second compares formulas of the distance: scipy's square
root of the product of the covariances (pytorch-fid and most papers) and, where they are installed, the eigenvalues of
that product in torch-fidelity and torchmetrics. "first" is a distance whose reference has no cached factor yet. It has
a row for each dimension, and one with fewer images than dimensions, whose covariances are singular. The reference value
comes from the features themselves: the singular values of X Yᵀ, which need no covariance. Exits with 1 if lacuna's
relative error exceeds 1e-9 or is not the least, if lacuna is slower than another formula, or if its moments take more
than 1.25 times as long as np.cov.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from _report import report  # type: ignore[import-not-found]
from _timing import best  # type: ignore[import-not-found]
from scipy.linalg import sqrtm
from torch import Tensor

from lacuna.drawing.text_table import text_table
from lacuna.metrics.fid import Statistics, frechet_distance
from lacuna.metrics.moments import Moments
from lacuna.runs.environment import tune_malloc

Formula = Callable[[Statistics, Statistics], float]
AT_MOST = 1.25


def fresh(given: Statistics) -> Statistics:
    """The same statistics without a cached factor."""
    return Statistics(given.mean, given.covariance, given.n, given.features, given.images)


def ours(one: Statistics, other: Statistics) -> float:
    """As in training: the factor of the reference is cached, that of the other set is not."""
    return frechet_distance(fresh(one), other)


def first(one: Statistics, other: Statistics) -> float:
    """Without any cached factor."""
    return frechet_distance(fresh(one), fresh(other))


def scipys(one: Statistics, other: Statistics) -> float:
    """The trace of scipy's matrix square root of the product."""
    root = np.trace(sqrtm((one.covariance @ other.covariance).numpy())).real
    means = (one.mean - other.mean).square().sum()
    return float(means + one.covariance.trace() + other.covariance.trace() - 2 * root)


def formulas() -> dict[str, Formula]:
    """The available formulas, by name."""
    found: dict[str, Formula] = {"lacuna": ours, "lacuna, first": first, "scipy": scipys}
    try:
        from torch_fidelity.metric_fid import KEY_METRIC_FID, fid_statistics_to_metric

        def fidelitys(one: Statistics, other: Statistics) -> float:
            both = ({"mu": s.mean.numpy(), "sigma": s.covariance.numpy()} for s in (one, other))
            return float(fid_statistics_to_metric(*both, verbose=False)[KEY_METRIC_FID])

        found["torch-fidelity"] = fidelitys
    except ImportError:
        print("torch-fidelity is not installed: left out.")
    try:
        from torchmetrics.image.fid import _compute_fid

        found["torchmetrics"] = lambda a, b: float(_compute_fid(a.mean, a.covariance, b.mean, b.covariance))
    except ImportError:
        print("torchmetrics' FID is not installed: left out.")
    return found


def random_features(n: int, d: int) -> tuple[Tensor, Tensor]:
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
    return Statistics(mean, covariance, moments.n, "random", "random")


def truth(x: Tensor, y: Tensor) -> float:
    """FID from the features: tr (C_1 C_2)^½ is the sum of the singular values of the centred X Yᵀ over n - 1."""
    a, b = x - x.mean(0), y - y.mean(0)
    cross = torch.linalg.svdvals(torch.linalg.qr(a).R @ torch.linalg.qr(b).R.T).sum()
    means = (x.mean(0) - y.mean(0)).square().sum()
    return float(means + (a.square().sum() + b.square().sum() - 2 * cross) / (len(x) - 1))


def measured(n: int, d: int, formulas: dict[str, Formula]) -> tuple[dict[str, str], bool]:
    """A row of the table of distances, and whether all checks pass."""
    x, y = random_features(n, d)
    one, other = statistics(x), statistics(y)
    expected = truth(x, y)
    calls = {name: partial(formula, one, other) for name, formula in formulas.items()}
    errors = {name: abs(call() - expected) / expected for name, call in calls.items()}
    times = best(calls, turns=5 if d <= 1000 else 3)
    row = {"images x features": f"{n} x {d}", "lacuna (s)": f"{times['lacuna']:.3f}"}
    row |= {f"{name} (times lacuna)": f"{times[name] / times['lacuna']:.2f}" for name in calls if name != "lacuna"}
    row |= {f"error of {name}": f"{errors[name]:.0e}" for name in calls if name != "lacuna, first"}
    for name in list(calls)[2:]:
        work = f"Frechet distance, {n} images of {d} features"
        report(work, name, times["lacuna"], times[name], "s", 1.0, show=False)
    good = errors["lacuna"] < 1e-9 and errors["lacuna"] == min(errors.values())
    return row, good and all(times[ours] < times[name] for ours in list(calls)[:2] for name in list(calls)[2:])


def moments(d: int) -> tuple[dict[str, str], bool]:
    """A row of the table of moments, and whether they are right and fast enough."""
    x = random_features(4096, d)[0].float()
    all_at_once = x.double().numpy()
    times = best({"lacuna": lambda: statistics(x), "numpy": lambda: np.cov(all_at_once, rowvar=False)}, turns=7)
    expected = torch.from_numpy(np.cov(all_at_once, rowvar=False))
    deviations = expected.diagonal().sqrt()
    error = float(((statistics(x).covariance - expected) / deviations.outer(deviations)).abs().max())
    ratio = times["lacuna"] / times["numpy"]
    row = {"vectors x features": f"4096 x {d}", "lacuna (s)": f"{times['lacuna']:.3f}"}
    row |= {"np.cov (s)": f"{times['numpy']:.3f}", "lacuna / np.cov": f"{ratio:.2f}", "difference": f"{error:.0e}"}
    work = f"moments of 4096 x {d} features"
    report(work, "numpy.cov", times["lacuna"], times["numpy"], "s", AT_MOST, show=False)
    return row, error < 1e-12 and ratio < AT_MOST


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--dimensions", type=int, nargs="+", default=[512, 2048])
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    tune_malloc()
    torch.set_num_threads(options.threads)
    available = formulas()
    found = [[moments(d) for d in options.dimensions]]
    cases = [(3000, d) for d in options.dimensions]
    found.append([measured(*case, available) for case in [*cases, (300, 512)]])
    for table in found:
        print(text_table([row for row, _ in table]))
    print(f"{torch.get_num_threads()} thread(s); errors are relative")
    return 0 if all(good for table in found for _, good in table) else 1


if __name__ == "__main__":
    sys.exit(main())
