"""Communication between the processes (ranks) that train one run; without several processes it has no effect.

The ranks are those of torch.distributed's default group (``training/ranks.py`` starts them). All functions except
:func:`rank` and :func:`ranks` must be called by all ranks, in the same order.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import TypeVar

import torch
from torch import Tensor, distributed

T = TypeVar("T")


def ranks() -> int:
    """Number of processes that train this run, at least 1."""
    return distributed.get_world_size() if distributed.is_available() and distributed.is_initialized() else 1


def rank() -> int:
    """Rank of this process, from 0; rank 0 evaluates and writes files."""
    return distributed.get_rank() if distributed.is_available() and distributed.is_initialized() else 0


def on_first_rank(function: Callable[[], T]) -> T:
    """The result of ``function()``, which only rank 0 calls; the other ranks wait, without a time limit.

    During the call rank 0 has no process group, so metrics that would be summed over all ranks are its own. If
    ``function`` raises, the other ranks keep waiting until the process that started them ends them.
    """
    if ranks() == 1:
        return function()
    found: list[T | None] = [None]
    if rank() == 0:
        with _alone():
            found = [function()]
    distributed.broadcast_object_list(found, src=0)
    result: T = found[0]  # type: ignore[assignment]
    return result


def of_all_ranks(value: T) -> list[T]:
    """The values of all ranks, in order of rank; a value may be any object that can be pickled."""
    if ranks() == 1:
        return [value]
    values: list[T | None] = [None] * ranks()
    distributed.all_gather_object(values, value)
    return values  # type: ignore[return-value]


@contextlib.contextmanager
def _alone() -> Iterator[None]:
    """Remove the default group for a while: code that checks for it finds none, other code fails instead of hanging."""
    world = distributed.GroupMember.WORLD
    distributed.GroupMember.WORLD = None
    try:
        yield
    finally:
        distributed.GroupMember.WORLD = world


def weighted(loss: Tensor, count: Tensor | int) -> Tensor:
    """This rank's mean loss, scaled so that the average over the ranks is the mean over the items of all.

    DistributedDataParallel averages gradients as if every rank's loss were the mean of the same number of items. With
    n_r of N items on rank r of w, the factor is w n_r / N. One number is exchanged, without synchronising the device.

    Args:
        loss: scalar, the mean over this rank's items.
        count: number of this rank's items.
    """
    if ranks() == 1:
        return loss
    # full() is a fill kernel: no copy from the host, hence no synchronisation
    mine = count.double() if isinstance(count, Tensor) else torch.full_like(loss.detach(), count, dtype=torch.float64)
    everyone = mine.clone()
    distributed.all_reduce(everyone)
    return loss * (ranks() * mine / everyone.clamp(min=1)).to(loss.dtype)
