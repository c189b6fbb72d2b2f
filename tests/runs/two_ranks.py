"""One step of a small network on two unequal shares of a batch; a rank is ``python two_ranks.py FOLDER``."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, distributed, nn

from lacuna.metrics.masked import MaskedMetrics
from lacuna.tasks.common import distributed as sharing
from lacuna.tasks.common.running_mean import RunningMean
from lacuna.training.rank import process_group
from lacuna.training.synced_norm import SyncedNorms

IMAGES, SHARES = 8, ((0, 5), (5, 8))


def network() -> nn.Sequential:
    """With two kinds of batch normalisation, in double precision."""
    torch.manual_seed(0)
    layers = [nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Flatten(), nn.Linear(48, 4)]
    return nn.Sequential(*layers, nn.BatchNorm1d(4, momentum=None, affine=False)).double()


def batch() -> tuple[Tensor, Tensor]:
    """Images and how many values of each count, by which they are weighed."""
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(IMAGES, 2, 6, 6, generator=generator, dtype=torch.float64)
    return images, torch.tensor([3.0, 1.0, 0.0, 2.0, 5.0, 1.0, 1.0, 7.0], dtype=torch.float64)


def mean_loss(outputs: Tensor, weights: Tensor) -> Tensor:
    """Mean over all values that count."""
    return (outputs.sin().sum(1) * weights).sum() / weights.sum()


def main(folder: Path) -> None:
    """Leave what this rank found."""
    with process_group(folder, cuda=False):
        rank = sharing.rank()
        found: dict[str, Any] = {}
        net = network()
        plugin = SyncedNorms()
        plugin.apply(net)
        images, weights = (values[slice(*SHARES[rank])] for values in batch())
        outputs = net(images)
        loss, count = mean_loss(outputs, weights), weights.sum()
        running = RunningMean()
        running.update(loss, count)
        sharing.weighted(loss, count).backward()
        for weight in net.parameters():  # what DistributedDataParallel does
            assert weight.grad is not None
            distributed.all_reduce(weight.grad.div_(sharing.ranks()))
        found["loss"] = running.compute()
        calls: list[int] = []

        def judge() -> dict[str, float]:
            calls.append(rank)
            metrics = MaskedMetrics(["mse"])
            metrics.update(torch.zeros(2, 1, 4, 4), torch.ones(2, 1, 4, 4))
            assert sharing.ranks() == 1 and not distributed.is_initialized()
            return metrics.compute()

        found["judged"], found["calls"] = sharing.on_first_rank(judge), len(calls)
        found["whole"] = float(sharing.weighted(torch.ones(()), 3 * rank))
        found["none"] = float(sharing.weighted(torch.zeros(()), 0))
        plugin.revert(net)
        found["reverted"] = not any("forward" in vars(module) for module in net.modules())
        state = {**net.state_dict(), **{f"{name}.grad": w.grad for name, w in net.named_parameters()}}
        torch.save(state, folder / f"state-{rank}.pt")
        (folder / f"found-{rank}.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
