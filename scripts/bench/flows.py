"""ACFlow's speed: milliseconds per image for a training step, a likelihood and a sample; share of the weight norms.

    python scripts/bench/flows.py [--flow acflow_mnist] [--batch 16] [--threads 1] [--device cpu]

A flow of ``configs/flow``, random images with a missing square of a quarter of the area. Prints one row for each mode:
plain, with channels last, and in bfloat16.
"""

from __future__ import annotations

import argparse
import contextlib
import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import torch
from _timing import best  # type: ignore[import-not-found]
from torch import Tensor

from lacuna.config.compose import compose
from lacuna.config.paths import CONFIGS
from lacuna.data.masks import Square
from lacuna.drawing.text_table import text_table
from lacuna.flows.acflow import ACFlow
from lacuna.nets.coupling_net import UnitConv2d
from lacuna.registry import NOT_ARGUMENTS
from lacuna.runs.environment import tune_malloc

SHAPES = {"acflow_cifar10": (3, 32, 32), "acflow_celeba64": (3, 64, 64), "acflow_digits": (1, 8, 8)}


def ways(flow: ACFlow, x: Tensor, mask: Tensor, precision: AbstractContextManager[Any]) -> dict[str, Callable[[], Any]]:
    """The functions to measure."""

    def step() -> None:
        flow.zero_grad()
        with precision:
            loss = flow.loss(x, mask, ~mask)
        loss.backward()

    def likelihood() -> None:
        with torch.no_grad(), precision:
            flow.log_prob(x, mask)

    def sample() -> None:
        with precision:
            flow.sample(x, mask, 1)

    def norms() -> None:
        for module in flow.modules():
            if isinstance(module, UnitConv2d):
                module.weight().sum().backward()

    return {"step": step, "likelihood": likelihood, "sample": sample, "norms": norms}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--flow", default="acflow_mnist")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    tune_malloc()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    shape = SHAPES.get(options.flow, (1, 28, 28))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Hydra warns when a group's file is composed separately
        spec = compose(CONFIGS, f"flow/{options.flow}", [])["flow"]
    flow = ACFlow(shape, **{key: value for key, value in spec.items() if key not in NOT_ARGUMENTS}).to(options.device)
    x = torch.rand(options.batch, *shape).to(options.device)
    mask = Square(0.5)(torch.arange(options.batch), shape, seed=0, split="bench").to(options.device)
    rows = []
    for name in ("plain", "channels last", "bfloat16"):
        form = torch.channels_last if name == "channels last" else torch.contiguous_format
        flow, x = flow.to(memory_format=form), x.to(memory_format=form)
        bf16 = torch.autocast(options.device, torch.bfloat16) if name == "bfloat16" else contextlib.nullcontext()
        times = best(ways(flow, x, mask, bf16), options.turns)
        row = {what: f"{1e3 * times[what] / options.batch:.2f}" for what in ("step", "likelihood", "sample")}
        row["norms of the weights"] = f"{times['norms'] / times['step']:.1%} of a step"
        rows.append({"ms per image": name, **row})
    print(f"{options.flow}, batch of {options.batch}, {options.device}, {torch.get_num_threads()} thread(s)")
    print(text_table(rows))
    if options.device == "cuda":
        print(f"memory of a step: {torch.cuda.max_memory_allocated() / 2**30:.1f} GiB")


if __name__ == "__main__":
    main()
