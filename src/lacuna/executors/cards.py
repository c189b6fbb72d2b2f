"""Which GPUs of this machine have room for a run. Plain numbers, without torch."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from lacuna.executors.cluster_capacity import TOLERANCE


class Cards:
    """The GPUs of this machine and the shares of them that are taken.

    Args:
        names: as ``CUDA_VISIBLE_DEVICES`` names them.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self.free = dict.fromkeys(names, 1.0)

    def find(self, gpus: float) -> tuple[str, ...] | None:
        """The GPUs for a run: whole free ones, or the one with the most room for a share; None if there is no room.

        Args:
            gpus: number of GPUs, or a share of one.
        """
        room = [name for name in self.free if self.free[name] + TOLERANCE >= min(gpus, 1.0)]
        number = 1 if gpus <= 1 else round(gpus)
        return tuple(sorted(room, key=lambda name: -self.free[name])[:number]) if len(room) >= number else None

    def take(self, names: Iterable[str], gpus: float) -> None:
        """Take a share of each of some GPUs (all of it for a run of several)."""
        for name in names:
            self.free[name] -= min(gpus, 1.0)

    def give_back(self, names: Iterable[str], gpus: float) -> None:
        """Undo :meth:`take`."""
        for name in names:
            self.free[name] += min(gpus, 1.0)

    def places(self, gpus: float) -> int:
        """How many more runs that ask for ``gpus`` have room."""
        if gpus > 1:
            return sum(free + TOLERANCE >= 1 for free in self.free.values()) // round(gpus)
        return sum(int((free + TOLERANCE) / gpus) for free in self.free.values())
