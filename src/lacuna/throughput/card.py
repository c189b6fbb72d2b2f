"""Memory of the NVIDIA GPUs of this machine, asked from the driver; without torch in this process."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass

MIB = 2**20
QUESTION = "import torch; free, total = torch.cuda.mem_get_info(0); print(total // 2**20, ',', (total - free) // 2**20)"
"""For a process of its own where ``nvidia-smi`` is missing or does not know the card."""


@dataclass(frozen=True)
class CardMemory:
    """Bytes of a card: all of them, and those in use by any process."""

    total: int
    used: int

    @property
    def free(self) -> int:
        """Bytes that nobody uses."""
        return max(0, self.total - self.used)


def least_free(cards: Sequence[str]) -> CardMemory | None:
    """The memory of the card with the least free of it.

    Args:
        cards: as ``CUDA_VISIBLE_DEVICES`` names them.

    Returns:
        None: there is no card, or one that cannot be asked.
    """
    found = [card_memory(card) or _asked_by_torch(card) for card in cards]
    known = [memory for memory in found if memory is not None]
    return min(known, key=lambda memory: memory.free) if known and len(known) == len(found) else None


def card_memory(card: str) -> CardMemory | None:
    """The memory of one card, from ``nvidia-smi``; None if that cannot tell."""
    query = ["nvidia-smi", "--query-gpu=memory.total,memory.used", "--format=csv,noheader,nounits", "-i", card]
    return _answer(query, dict(os.environ))


def _asked_by_torch(card: str) -> CardMemory | None:
    return _answer([sys.executable, "-c", QUESTION], {**os.environ, "CUDA_VISIBLE_DEVICES": card})


def _answer(command: Sequence[str], environment: dict[str, str]) -> CardMemory | None:
    """The two numbers that a command prints, in MiB."""
    try:
        done = subprocess.run(list(command), capture_output=True, text=True, timeout=60, check=True, env=environment)
        total, used = (int(word) * MIB for word in done.stdout.strip().split(","))
    except (OSError, subprocess.SubprocessError, ValueError):
        return None
    return CardMemory(total, used)
