"""Chunks: several batches of an epoch in one, so that what a trainer does around a batch is done once for many."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from typing import Any

from torch import Tensor

from lacuna.data.loader import ResidentLoader


class Chunk:
    """The rest of an epoch, of which a training step takes as many batches as it likes; the next chunk has the others.

    Iterating gives the number of a batch in its epoch, from 0, and the positions of its images in the loader's set,
    int64 (B,). A batch counts as given as soon as it is taken, so a step trains on all it takes.
    """

    def __init__(self, loader: ResidentLoader, positions: Iterator[Tensor]) -> None:
        self._loader, self._positions = loader, positions

    def __iter__(self) -> Iterator[tuple[int, Tensor]]:
        for positions in self._positions:
            yield self._loader.position - 1, positions


class ChunkedLoader:
    """Gives the batches of a :class:`ResidentLoader` as :class:`Chunk`; resumable at any batch, as that is.

    Its length is the number of batches, the largest possible number of chunks of an epoch.
    """

    def __init__(self, loader: ResidentLoader) -> None:
        self.loader = loader

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[Chunk]:
        positions = self.loader.positions()
        for first in positions:
            yield Chunk(self.loader, chain([first], positions))

    @property
    def exhausted(self) -> bool:
        """Whether all batches of the epoch have been taken."""
        return self.loader.exhausted

    def set_epoch(self, epoch: int) -> None:
        """See :meth:`ResidentLoader.set_epoch`."""
        self.loader.set_epoch(epoch)

    def state_dict(self) -> dict[str, Any]:
        """See :meth:`ResidentLoader.state_dict`."""
        return self.loader.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """See :meth:`ResidentLoader.load_state_dict`."""
        self.loader.load_state_dict(state)
