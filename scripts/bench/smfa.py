"""Speed of SMFA: a pass of EM against torch-mfa's, and the density of an incomplete image against a dense solve.

    python scripts/bench/smfa.py [--size 28] [--components 50] [--factors 6] [--threads 2] [--device cpu]

torch-mfa's batch EM (a mixture of probabilistic PCA, complete images only) is ported as it is coded: with a loop over
the components in the E-step and another in the M-step. Random images in which a square of a quarter of the area is
missing. Exits with 1 if likelihoods or conditional means differ, or lacuna is less than 3 times as fast in a pass
through complete images or less than 50 times in conditioning.
"""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass

import torch
from _report import report  # type: ignore[import-not-found]
from _timing import best  # type: ignore[import-not-found]
from sklearn.decomposition import FactorAnalysis
from torch import Tensor

from lacuna.data.masks import Square
from lacuna.densities.em import EM, fit
from lacuna.densities.smfa import SMFA
from lacuna.drawing.text_table import text_table
from lacuna.mfa import LOG_2PI
from lacuna.runs.environment import tune_malloc

AT_LEAST = {"pass": 3.0, "conditional": 50.0}


@dataclass
class TorchMfa:
    """Flat parameters of an isotropic mixture: weights (K,), mean (K,D), loadings (K,D,L), variance (K,)."""

    weights: Tensor
    mean: Tensor
    loadings: Tensor
    variance: Tensor

    @classmethod
    def of(cls, density: SMFA) -> TorchMfa:
        """The same mixture."""
        loadings = density.factors.flatten(2).mT.contiguous()
        return cls(density.mixture.weights[0], density.mean.flatten(1), loadings, density.noise.flatten(1)[:, 0])

    def log_densities(self, x: Tensor) -> Tensor:
        """Log-density of every image under every component (B,K)."""
        inner = (
            torch.eye(self.loadings.shape[2]).to(x) + self.loadings.mT @ self.loadings / self.variance[:, None, None]
        )
        inverse = torch.linalg.inv(inner)
        distances = []
        for k in range(len(self.mean)):
            centred = (x - self.mean[k]).T
            scaled = centred / self.variance[k]
            a = self.loadings[k]
            solved = scaled - (a / self.variance[k] @ inverse[k]) @ (a.T @ scaled)
            distances.append((centred * solved).sum(0))
        d = x.shape[1]
        log_determinant = torch.logdet(inner) + d * self.variance.log()
        return -0.5 * (d * LOG_2PI + log_determinant + torch.stack(distances, 1))

    def em(self, x: Tensor) -> tuple[Tensor, ...]:
        """One pass: responsibilities, sums in float64, new parameters."""
        share = (self.weights.log() + self.log_densities(x)).softmax(1)
        sums = share.sum(0).double(), (share.T @ x).double(), (share.T @ x.square().sum(1)).double()
        products = []
        for k in range(len(self.mean)):
            products.append((x.T @ (share[:, [k]] * (x @ self.loadings[k]))).double())
        return self._maximised(*sums, torch.stack(products))

    def _maximised(self, count: Tensor, first: Tensor, square: Tensor, products: Tensor) -> tuple[Tensor, ...]:
        a, d = self.loadings.double(), first.shape[1]
        mean = first / count[:, None]
        spread = products / count[:, None, None] - mean[..., None] * (mean[:, None] @ a)
        noise = self.variance.double()[:, None, None] * torch.eye(a.shape[2]).to(a)
        inner = torch.linalg.inv(a.mT @ a + noise)
        loadings = spread @ torch.linalg.inv(noise + inner @ a.mT @ spread)
        left = (loadings.mT @ spread @ inner).diagonal(dim1=1, dim2=2).sum(1)
        return count / count.sum(), mean, loadings, (square / count - mean.square().sum(1) - left) / d


def dense_means(density: SMFA, x: Tensor, mask: Tensor) -> Tensor:
    """E[image | observed pixels] (B,D), from covariances D x D: a solve for each image and component."""
    means, loadings, noise = density.mean.flatten(1), density.factors.flatten(2), density.noise.flatten(1)
    covariances = loadings.mT @ loadings + torch.diag_embed(noise)
    found = []
    for image, observed in zip(x.flatten(1), mask.flatten(1), strict=True):
        root = torch.linalg.cholesky(covariances[:, observed][:, :, observed])
        residual = (image[observed] - means[:, observed]).unsqueeze(2)
        half = torch.linalg.solve_triangular(root, residual, upper=False)
        evidence = -0.5 * half.square().sum((1, 2)) - root.diagonal(dim1=1, dim2=2).log().sum(1)
        solved = torch.cholesky_solve(residual, root)
        mean = means + (covariances[:, :, observed] @ solved).squeeze(2)
        found.append((density.logits + evidence).softmax(0) @ mean)
    return torch.stack(found)


def row(what: str, against: str, theirs: float, ours: float) -> dict[str, str]:
    """A row of the table; times are seconds per image."""
    return {
        "what": what,
        "against": against,
        "theirs (us per image)": f"{1e6 * theirs:.0f}",
        "lacuna (us per image)": f"{1e6 * ours:.0f}",
        "times faster": f"{theirs / ours:.1f}",
    }


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--size", type=int, default=28)
    parser.add_argument("--components", type=int, default=50)
    parser.add_argument("--factors", type=int, default=6)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--device", default="cpu")
    return parser.parse_args()


def random_images(n: int, size: int) -> tuple[Tensor, Tensor]:
    """Smooth images (n,1,size,size) and masks with a missing square of half the side."""
    patterns = torch.nn.functional.interpolate(torch.rand(40, 1, 5, 5), (size, size), mode="bicubic")
    blends = torch.rand(n, 40).pow(8).softmax(1) @ patterns.flatten(1)
    x = (blends + 0.05 * torch.randn(n, size**2)).view(n, 1, size, size)
    return x, Square(0.5)(torch.arange(n), (1, size, size), seed=0, split="bench")


def measured(density: SMFA, x: Tensor, mask: Tensor, turns: int) -> tuple[dict[str, float], dict[str, float]]:
    """Seconds per image of every function, and the largest differences."""
    theirs, nothing, few, many = TorchMfa.of(density), torch.ones_like(mask), slice(0, 4), slice(0, 100)

    def one_pass(where: Tensor, complete: bool) -> None:
        em = EM(complete)
        em.add(density, x, where)
        em.update(density)

    expected = (theirs.weights.log() + theirs.log_densities(x.flatten(1))).logsumexp(1)
    filled = density(x[few], mask[few]).pin(x[few], mask[few]).expectation().flatten(1)
    differences = {
        "log-likelihoods": ((density.log_prob(x, nothing) - expected).abs().max() / expected.abs().max()).item(),
        "means": (filled - dense_means(density, x[few], mask[few])).abs().max().item(),
    }
    functions: dict[str, tuple[int, Callable[[], object]]] = {
        "torch-mfa": (len(x), lambda: theirs.em(x.flatten(1))),
        "complete": (len(x), lambda: one_pass(nothing, True)),
        "incomplete": (len(x), lambda: one_pass(mask, False)),
        "dense": (len(x[few]), lambda: dense_means(density, x[few], mask[few])),
        "conditional": (len(x[many]), lambda: density(x[many], mask[many])),
    }
    times = best({name: function for name, (_, function) in functions.items()}, turns)
    return {name: time / functions[name][0] for name, time in times.items()}, differences


def analyser(x: Tensor, turns: int) -> None:
    """A pass of EM of one analyser of complete images against scikit-learn's."""
    rows, passes = x.flatten(1).double().cpu().numpy(), 3
    theirs = FactorAnalysis(6, max_iter=passes, tol=0.0, svd_method="lapack")
    images, mask = x.double(), torch.ones_like(x[:, :1], dtype=torch.bool)
    density = SMFA(tuple(x.shape[1:]), 1, 6, noise_floor=1e-3).to(images)  # type: ignore[arg-type]
    density.start(images, mask)

    def one_pass() -> None:
        em = EM(True)
        em.add(density, images, mask)
        em.update(density)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # scikit-learn's has not converged
        times = best({"ours": one_pass, "theirs": lambda: theirs.fit(rows)}, turns)
    work = f"factor analysis, a pass of EM, {len(rows)} x {rows.shape[1]}"
    report(work, "scikit-learn", times["ours"], times["theirs"] / passes, "s", 1.0)


@torch.no_grad()
def main() -> int:
    options = arguments()
    tune_malloc()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    x, mask = (part.to(options.device) for part in random_images(options.images, options.size))
    shape = (1, options.size, options.size)
    density = SMFA(shape, options.components, options.factors, isotropic=True, noise_floor=1e-3).to(options.device)
    density.start(x, torch.ones_like(mask))
    fit(density, [(x, torch.ones_like(mask))], passes=2, complete=True)
    times, differences = measured(density, x, mask, options.turns)
    rows = [
        row("a pass of EM, complete images", "torch-mfa, complete images", times["torch-mfa"], times["complete"]),
        row("a pass of EM, incomplete images", "torch-mfa, complete images", times["torch-mfa"], times["incomplete"]),
        row("density of an image", "dense solves, means only", times["dense"], times["conditional"]),
    ]
    print(text_table(rows))
    print(
        f"{options.size**2} pixels, {options.components} components, {options.factors} factors; largest differences: "
        + ", ".join(f"{name} {value:.0e}" for name, value in differences.items())
        + f"; {options.device}, {torch.get_num_threads()} thread(s)"
    )
    for work, other, name, peer, least in (
        ("SMFA, a pass of EM, complete images", "torch-mfa's formulas", "complete", "torch-mfa", AT_LEAST["pass"]),
        ("SMFA, density of an image", "dense solves", "conditional", "dense", AT_LEAST["conditional"]),
    ):
        report(work, other, times[name], times[peer], "s", 1 / least, show=False)
    analyser(x, options.turns)
    passes, conditional = times["torch-mfa"] / times["complete"], times["dense"] / times["conditional"]
    fast = passes > AT_LEAST["pass"] and conditional > AT_LEAST["conditional"]
    return 0 if fast and max(differences.values()) < 1e-4 else 1


if __name__ == "__main__":
    sys.exit(main())
