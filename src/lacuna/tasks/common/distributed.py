"""What the processes that train one run together tell each other; in a process alone everything here does nothing.

They are the ranks of torch.distributed's default group (``runs/ranks.py`` starts them). Every function but
:func:`rank` and :func:`ranks` must be called by all of them, in the same order.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import TypeVar

import torch
from torch import Tensor, distributed

T = TypeVar("T")


def ranks() -> int:
    """How many processes train this run, at least 1."""
    return distributed.get_world_size() if distributed.is_available() and distributed.is_initialized() else 1


def rank() -> int:
    """Which of them this one is, from 0; rank 0 is the one that judges and writes."""
    return distributed.get_rank() if distributed.is_available() and distributed.is_initialized() else 0


def on_first_rank(function: Callable[[], T]) -> T:
    """What ``function`` gives on rank 0, which alone calls it, however long that takes; the others wait for it.

    Meanwhile rank 0 sees no others, so a metric that would add up what all ranks have seen is that of a process alone.
    Should ``function`` raise, the others go on waiting: whoever started them ends them.
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
    """The values of all ranks, in their order; each may be anything that can be pickled."""
    if ranks() == 1:
        return [value]
    values: list[T | None] = [None] * ranks()
    distributed.all_gather_object(values, value)
    return values  # type: ignore[return-value]


@contextlib.contextmanager
def _alone() -> Iterator[None]:
    """For a while there is no group: who asks for one finds none, and who does not fails instead of hanging."""
    world = distributed.GroupMember.WORLD
    distributed.GroupMember.WORLD = None
    try:
        yield
    finally:
        distributed.GroupMember.WORLD = world


def weighted(loss: Tensor, count: Tensor | int) -> Tensor:
    """This rank's mean loss, scaled so that the average over the ranks is the mean over the items of all.

    DistributedDataParallel averages gradients as if every rank's loss were the mean of equally many items. With n_r
    items of N in all on rank r of w, the factor is w n_r / N. One number is exchanged; nothing waits for the device.

    Args:
        loss: scalar, the mean over this rank's items.
        count: how many these are.
    """
    if ranks() == 1:
        return loss
    # full() is a fill kernel: no copy from the host, hence no wait
    mine = count.double() if isinstance(count, Tensor) else torch.full_like(loss.detach(), count, dtype=torch.float64)
    everyone = mine.clone()
    distributed.all_reduce(everyone)
    return loss * (ranks() * mine / everyone.clamp(min=1)).to(loss.dtype)
