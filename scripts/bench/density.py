"""Speed of the batched likelihood and of the cache of a frozen density, against the straightforward forms.

    python scripts/bench/density.py [--batch 64] [--size 32] [--threads 2] [--device cpu]

Two rows. A step of DMFA (forward, likelihood of the missing values, backward, Adam) against the same network whose loss
is a loop over the images with torch's LowRankMultivariateNormal. A step of a classifier behind MisConv with its density
from the cache against one that evaluates the frozen network every time. Random RGB images with missing squares. Exits
with 1 if the losses differ or lacuna is not the faster.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable

import torch
from _report import report  # type: ignore[import-not-found]
from _timing import best, layer_options  # type: ignore[import-not-found]
from nll import batched, looped  # type: ignore[import-not-found]
from torch import Tensor
from torch.nn import functional

from lacuna.config.compose import compose
from lacuna.config.paths import CONFIGS
from lacuna.data.incomplete import Batch
from lacuna.data.masks import Square
from lacuna.densities.base import Density
from lacuna.drawing.text_table import text_table
from lacuna.layers.stem import MisConvStem
from lacuna.nets.classifier import Classifier
from lacuna.registry import build
from lacuna.tasks.common.encoding_cache import EncodingCache

CLASSES = 10


class Images:
    """The part of a data set's interface that the cache uses."""

    def __init__(self, observed: Tensor, mask: Tensor) -> None:
        self.observed, self.mask = observed, mask
        self.index, self.device = torch.arange(len(observed), device=observed.device), observed.device

    def __len__(self) -> int:
        return len(self.observed)

    def batch(self, rows: Tensor) -> Batch:
        """The batch of some rows."""
        return Batch(self.observed[rows], self.mask[rows], None, rows)


def density_steps(density: Density, x: Tensor, mask: Tensor) -> dict[str, Callable[[], float]]:
    """A training step with each likelihood; each returns its loss."""
    missing = ~mask

    def step(log_prob: Callable[..., Tensor], optimiser: torch.optim.Optimizer) -> float:
        mfa = density(x.masked_fill(missing, 0), mask)
        loss: Tensor = -log_prob(x, missing, mfa.mean, mfa.factors, mfa.noise).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        return float(loss.detach())

    def with_likelihood(log_prob: Callable[..., Tensor]) -> Callable[[], float]:
        optimiser = torch.optim.Adam(density.parameters(), lr=0.0)  # all the work, but the weights stay
        return lambda: step(log_prob, optimiser)

    return {"loop": with_likelihood(looped), "ours": with_likelihood(batched)}


def classifier_steps(density: Density, x: Tensor, mask: Tensor) -> dict[str, Callable[[], float]]:
    """A training step of a classifier behind MisConv, with and without the cache."""
    stem = MisConvStem(x.shape[1], density).to(x.device)
    stem.freeze()
    body = Classifier(32, (x.shape[2], x.shape[3]), CLASSES).to(x.device)
    images = Images(torch.where(mask, x, 0), mask)
    cache = EncodingCache(images, stem.encode, 4e9)  # type: ignore[arg-type]
    batch = images.batch(images.index)
    labels = images.index % CLASSES
    weights = [p for p in (*stem.parameters(), *body.parameters()) if p.requires_grad]

    def step(cached: bool) -> float:
        logits = body(stem(batch.observed, batch.mask, cache(batch) if cached else None))
        loss: Tensor = functional.cross_entropy(logits, labels)
        torch.autograd.grad(loss, weights)
        return float(loss.detach())

    return {"loop": lambda: step(False), "ours": lambda: step(True)}


CASES = (
    ("DMFA, training step", "loss in a loop over the images", density_steps),
    ("classifier on MisConv, training step", "density evaluated in every step", classifier_steps),
)


def network(name: str, shape: tuple[int, int, int]) -> Density:
    """The density of a config."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Hydra warns when the file of a group is composed alone
        spec = compose(CONFIGS, f"density/{name}", [])["density"]
    made: Density = build("density", spec, shape=shape)
    return made


def main() -> int:
    options = layer_options(__doc__ or "", turns=7)
    shape = (3, options.size, options.size)
    x = torch.rand(options.batch, *shape).to(options.device)
    mask = Square(0.5)(torch.arange(options.batch), shape, seed=0, split="bench").to(options.device)
    density = network("dmfa_conv", shape).to(options.device)
    rows, good = [], True
    for name, against, made in CASES:
        functions = made(density, x, mask)
        losses = {key: function() for key, function in functions.items()}
        difference = abs(losses["loop"] - losses["ours"]) / abs(losses["loop"])
        times = best(functions, options.turns)
        ratio = times["loop"] / times["ours"]
        good = good and difference < 1e-4 and ratio > 1
        report(name, against, times["ours"], times["loop"], "s", 1.0, show=False)
        rows.append(
            {
                "what": name,
                "against": against,
                "theirs (ms)": f"{1e3 * times['loop']:.1f}",
                "lacuna (ms)": f"{1e3 * times['ours']:.1f}",
                "times faster": f"{ratio:.2f}",
                "difference of losses": f"{difference:.0e}",
            }
        )
    print(text_table(rows))
    print(f"batch of {options.batch}, {options.device}, {torch.get_num_threads()} thread(s)")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
