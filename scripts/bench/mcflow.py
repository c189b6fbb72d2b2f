"""Speed of MCFlow: one training step, against a straightforward port of the public code's update order.

    python scripts/bench/mcflow.py [--side 28] [--batch 64] [--threads 1] [--turns 3] [--device cpu] [--compile]

The port makes a second pass through the flow for J1, propagates the imputer's losses through the flow's weights,
evaluates the prior's density with a full covariance on the CPU, and copies every loss to the host. Both backward passes
come before the optimiser steps, because the published order fails on every PyTorch since 1.5. All versions start from
the same weights. On a CPU the processor time of this process counts, on a GPU the elapsed time. On a GPU, and on a CPU
with ``--compile``, lacuna's step is also timed compiled, as with ``trainer.compile=true``; on a CPU that takes minutes
and a C++ compiler.
"""

from __future__ import annotations

import argparse
import copy
import time
from collections.abc import Callable

import torch
from _report import report  # type: ignore[import-not-found]
from torch import Tensor

from lacuna.drawing.text_table import text_table
from lacuna.imputers.mcflow import MCFlow
from lacuna.runs.environment import tune_malloc
from lacuna.tasks.mcflow.step import AlternatingStep

WARM = 2
"""Steps that are not counted."""
NO_PRIOR = {"rule": "fixed", "weight": 0.0, "warm_up": 1, "largest": 20.0, "alpha": 1 / 3, "eps": 1 / 255}


def ours(model: MCFlow, x: Tensor, mask: Tensor, *, compiled: bool = False) -> Callable[[], None]:
    """A step of :mod:`lacuna.tasks.mcflow.step`."""
    if compiled:
        model.compile()
    optimizers = [torch.optim.Adam(net.parameters(), 1e-4, fused=True) for net in (model.flow, model.net)]
    spec = {"gradients": "clean", "reconstruction_weight": 64.0, "noise": 0.0, "prior": NO_PRIOR}
    alternating = AlternatingStep(spec, model.size)
    observed = torch.where(mask, x, 0)

    def step() -> None:
        alternating.step(model, x, observed, mask, *optimizers)

    return step


def published(model: MCFlow, x: Tensor, mask: Tensor) -> Callable[[], None]:
    """A step of the public code."""
    flow_optimizer, net_optimizer = (torch.optim.Adam(net.parameters(), 1e-4) for net in (model.flow, model.net))
    size = model.size
    prior = torch.distributions.MultivariateNormal(torch.zeros(size), torch.eye(size))

    def nll(image: Tensor) -> tuple[Tensor, Tensor]:
        z, log_det = model.flow(image)
        return z, -(prior.log_prob(z.flatten(1).cpu()).to(x.device) + log_det).mean()

    def step() -> None:
        z, j = nll(x)
        output = model.flow.inverse(model.latent_map(z))[0]
        _, j1 = nll(output)
        j2 = ((output - x) * mask).square().sum()
        j.item(), j1.item(), j2.item()
        j.backward(retain_graph=True)
        (j1 + j2).backward()
        for optimizer in (flow_optimizer, net_optimizer):
            optimizer.step()
            optimizer.zero_grad()

    return step


def seconds(step: Callable[[], None], device: str) -> float:
    """Seconds of one step."""
    if device == "cpu":
        start = time.process_time()
        step()
        return time.process_time() - start
    torch.cuda.synchronize()
    start = time.perf_counter()
    step()
    torch.cuda.synchronize()
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--side", type=int, default=28)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--compile", action=argparse.BooleanOptionalAction, help="default: on GPUs only")
    options = parser.parse_args()
    tune_malloc()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    shape = (1, options.side, options.side)
    model = MCFlow(shape).to(options.device)
    x = torch.rand(options.batch, *shape).to(options.device)
    mask = (torch.rand(options.batch, *shape) > 0.6).to(options.device)
    steps = {"published order": published(copy.deepcopy(model), x, mask)}
    if options.compile or (options.compile is None and options.device != "cpu"):
        steps["ours, compiled"] = ours(copy.deepcopy(model), x, mask, compiled=True)
    steps["ours"] = ours(model, x, mask)
    times: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(options.turns + WARM):  # in turns; the first steps create the optimiser's state, and compile
        for name, step in steps.items():
            times[name].append(seconds(step, options.device))
    best = {name: min(found[WARM:]) for name, found in times.items()}
    print(f"{options.side}x{options.side}, batch of {options.batch}, {options.device}, {options.threads} thread(s)")
    slowest = best["published order"]
    rows = [
        {
            "": name,
            "ms a batch": f"{1e3 * value:.3g}",
            "steps a second": f"{1 / value:.3g}",
            "times faster": f"{slowest / value:.2f}",
        }
        for name, value in best.items()
    ]
    work = f"MCFlow's step, {options.side}x{options.side}, batch of {options.batch}"
    report(work, "published order", best["ours"], slowest, "s", 1.0, show=False)
    print(text_table(rows))


if __name__ == "__main__":
    main()
