"""Batch normalisation over the batches of all ranks on the CPU; torch's own ``SyncBatchNorm`` is for GPUs only.

Without it every rank would normalise by the statistics of its own part of the batch, and training on two ranks would
differ from training on one.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import torch
from pytorch_lightning.plugins import LayerSync
from torch import Tensor, distributed, nn
from torch.nn.modules.batchnorm import _BatchNorm


class SyncedNorms(LayerSync):
    """A plugin of Lightning: batch normalisations use the statistics of all ranks while the model is trained.

    No module is replaced, so the names of weights and references to modules stay valid.
    """

    def apply(self, model: nn.Module) -> nn.Module:
        """Synchronise every batch normalisation of the model."""
        for norm in _norms(model):
            vars(norm)["forward"] = partial(_forward, norm)
        return model

    def revert(self, model: nn.Module) -> nn.Module:
        """Undo :meth:`apply`."""
        for norm in _norms(model):
            vars(norm).pop("forward", None)
        return model


def synced_batch_norm(norm: _BatchNorm, x: Tensor) -> Tensor:
    """Normalise this rank's share ``x`` (B, C, ...) of a batch by the statistics of the whole batch.

    Every rank must call it; the shares may differ in size. Running statistics are updated with those of the whole
    batch, the variance unbiased as in ``nn.BatchNorm2d``, so they are equal on all ranks.
    """
    dims = [0, *range(2, x.dim())]
    shape = [1, -1, *[1] * (x.dim() - 2)]
    count = x.new_full((1,), x.numel() / x.shape[1])
    sums = _SumOverRanks.apply(torch.cat([x.sum(dims), count]))
    n = sums[-1].detach()
    mean = sums[:-1] / n
    centred = x - mean.view(shape)
    # in two passes: a difference of large sums of squares loses digits
    variance = _SumOverRanks.apply(centred.square().sum(dims)) / n
    _update(norm, mean.detach(), variance.detach() * n / (n - 1).clamp(min=1))
    normal: Tensor = centred * (variance + norm.eps).rsqrt().view(shape)
    return normal * norm.weight.view(shape) + norm.bias.view(shape) if norm.affine else normal


class _SumOverRanks(torch.autograd.Function):
    """The sum of all ranks' tensors; the loss of each rank depends on all of them, so gradients are summed, too."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return _summed(x)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return _summed(gradient)


def _summed(x: Tensor) -> Tensor:
    total = x.detach().clone(memory_format=torch.contiguous_format)
    distributed.all_reduce(total)
    return total


@torch.no_grad()
def _update(norm: _BatchNorm, mean: Tensor, variance: Tensor) -> None:
    if not norm.track_running_stats or norm.running_mean is None or norm.running_var is None:
        return
    assert norm.num_batches_tracked is not None
    norm.num_batches_tracked.add_(1)
    share = 1 / float(norm.num_batches_tracked) if norm.momentum is None else norm.momentum
    norm.running_mean.lerp_(mean, share)
    norm.running_var.lerp_(variance, share)


def _forward(norm: _BatchNorm, x: Tensor) -> Tensor:
    if norm.training:
        return synced_batch_norm(norm, x)
    found: Tensor = type(norm).forward(norm, x)
    return found


def _norms(model: nn.Module) -> Iterator[_BatchNorm]:
    yield from (module for module in model.modules() if isinstance(module, _BatchNorm))
