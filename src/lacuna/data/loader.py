"""Batches of an incomplete data set in a seeded order; resumable at any batch, sharded over ranks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from lacuna.data.hashing import permutation
from lacuna.data.incomplete import Batch, IncompleteImages
from lacuna.errors import LacunaError


class ResidentLoader:
    """Iterates over an :class:`IncompleteImages` set; one pass is one epoch.

    The order of epoch e is a pure function of (seed, e), the same on every device and rank. Rank r of w takes its
    entries r, r + w, r + 2w, ...: batch k of all ranks together is batch k of a single process with w times the
    batch size. Every rank has the same number of batches. Where the last one has fewer than w images over all ranks,
    the order continues with its first entries, so up to w - 1 images occur twice.

    Each new pass is the next epoch unless :meth:`set_epoch` was called. :meth:`state_dict` holds the epoch and the
    number of batches already given; a loader that loads it first gives the rest of that epoch.

    Args:
        dataset: the images.
        batch_size: images per batch (on each rank).
        shuffle: seeded order; otherwise the stored one.
        seed: of the order.
        drop_last: drop a last batch that is not full.
        most_batches: batches of an epoch, at most: the first ones of its order; None: all.
        rank, world_size: index of this process and number of processes.

    Raises:
        LacunaError: ``batch_size`` is less than 1, or larger than the set while ``drop_last`` is set.
        ValueError: ``rank`` is not below ``world_size``.
    """

    def __init__(
        self,
        dataset: IncompleteImages,
        batch_size: int,
        *,
        shuffle: bool,
        seed: int,
        drop_last: bool = False,
        most_batches: int | None = None,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        if batch_size < 1:
            raise LacunaError(f"batch_size={batch_size} must be at least 1.")
        if not 0 <= rank < world_size:
            raise ValueError(f"rank {rank} is not one of {world_size} ranks")
        if drop_last and -(-len(dataset) // world_size) < batch_size:
            raise LacunaError(
                f"batch_size={batch_size} is larger than the {-(-len(dataset) // world_size)} images of the set "
                "and incomplete batches are dropped: choose a smaller batch size."
            )
        self.dataset, self.batch_size, self.shuffle, self.seed = dataset, batch_size, shuffle, seed
        self.drop_last, self.rank, self.world_size = drop_last, rank, world_size
        self.most_batches = most_batches
        self.epoch = 0
        self._position = 0  # batches of the epoch given so far
        self._pinned = True  # the next pass is `epoch`, from `_position`; otherwise the next pass is a new epoch

    def __len__(self) -> int:
        return self._all_batches if self.most_batches is None else min(self.most_batches, self._all_batches)

    @property
    def _all_batches(self) -> int:
        images = -(-len(self.dataset) // self.world_size)
        return images // self.batch_size if self.drop_last else -(-images // self.batch_size)

    def order(self, epoch: int) -> np.ndarray:
        """This rank's positions in the set in epoch ``epoch``, int64."""
        n = len(self.dataset)
        order = permutation(n, "order", self.seed, epoch) if self.shuffle else np.arange(n)
        mine = order[self.rank :: self.world_size]
        if self.drop_last or -(-len(mine) // self.batch_size) < self._all_batches:
            mine = np.resize(order, -(-n // self.world_size) * self.world_size)[self.rank :: self.world_size]
        return mine

    def __iter__(self) -> Iterator[Batch]:
        return map(self.dataset.batch, self.positions())

    def positions(self) -> Iterator[torch.Tensor]:
        """As iterating, but gives only where the images of a batch are in the set: int64 (B,), on its device."""
        # A generator: no state changes before the first batch is requested, so an unused iterator costs no epoch.
        if self._pinned and self._position >= len(self):  # resumed at the end of an epoch
            self._pinned = False
        if not self._pinned:
            self.epoch, self._position = self.epoch + 1, 0
        self._pinned = False
        order = torch.from_numpy(self.order(self.epoch).copy())
        if self.dataset.resident:
            order = order.to(self.dataset.device)
        for position in range(self._position, len(self)):
            start = position * self.batch_size
            self._position = position + 1
            yield order[start : start + self.batch_size]

    @property
    def exhausted(self) -> bool:
        """Whether all batches of the epoch have been given."""
        return self._position >= len(self)

    @property
    def position(self) -> int:
        """Number of batches of the epoch given so far."""
        return self._position

    def set_epoch(self, epoch: int) -> None:
        """Make the next pass epoch ``epoch``: from its start, or from the resumed position if it is that epoch."""
        if not (self._pinned and epoch == self.epoch):
            self._position = 0
        self.epoch, self._pinned = epoch, True

    def state_dict(self) -> dict[str, Any]:
        """Epoch and number of batches given, with the length and seed they refer to; plain numbers."""
        return {"epoch": self.epoch, "position": self._position, "length": len(self), "seed": self.seed}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from the position stored in ``state``.

        Raises:
            LacunaError: the state belongs to another data set, batch size or seed.
        """
        if (state["length"], state["seed"]) != (len(self), self.seed):
            raise LacunaError(
                f"The checkpoint was taken with {state['length']} batches per epoch and seed {state['seed']}, "
                f"this run has {len(self)} and {self.seed}: resume with the same data, batch size and seed."
            )
        self.epoch, self._position, self._pinned = int(state["epoch"]), int(state["position"]), True
