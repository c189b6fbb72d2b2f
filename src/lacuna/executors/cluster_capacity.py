"""What the machines of a cluster can hold: plain numbers, without Ray."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from lacuna.errors import LacunaError
from lacuna.executors.base import Resources

NEARLY = 1e-6
"""Shares of GPUs are floating-point numbers."""


@dataclass(frozen=True)
class Node:
    """A machine of the cluster: its CPU cores and its GPUs, whoever uses them."""

    cpus: float
    gpus: float


def size(asked: Resources) -> tuple[float, int]:
    """For sorting: GPUs are scarcer than cores."""
    return asked.gpus, asked.cpus


def require(asked: Resources, nodes: Sequence[Node]) -> None:
    """Refuse what no machine could hold, even if nothing else ran there.

    Raises:
        LacunaError: names what is asked for, what there is, and the keys to change.
    """
    if any(asked.cpus <= node.cpus and asked.gpus <= node.gpus for node in nodes):
        return
    most_cpus = max((node.cpus for node in nodes), default=0)
    most_gpus = max((node.gpus for node in nodes), default=0)
    if asked.cpus > most_cpus:
        keys, have = "executor.cpus or trainer.devices", f"no machine on Ray has more than {most_cpus:g} CPU cores"
    elif asked.gpus > most_gpus:
        most = f"more than {most_gpus:g}" if most_gpus else "any"
        keys, have = "executor.gpus or trainer.devices", f"no machine on Ray has {most} GPUs"
    else:
        keys, have = "executor.cpus, executor.gpus or trainer.devices", "no machine on Ray has both"
    wanted = f"{asked.cpus} CPU cores" + (f" and {asked.gpus:g} GPUs" if asked.gpus else "")
    raise LacunaError(f"A run asks for {wanted}, but {have}: lower {keys}.")


def room(nodes: Iterable[Node], running: Sequence[Resources], more: Resources) -> int:
    """How many more runs find a place beside those in hand; below 0: so many in hand have none themselves.

    Args:
        nodes: the machines.
        running: what the runs in hand ask for.
        more: what one more would ask for.
    """
    left = [[node.cpus, node.gpus] for node in nodes]
    without = sum(not _place(asked, left) for asked in running)
    found = 0
    while not without and _place(more, left):
        found += 1
    return found - without


def _place(asked: Resources, left: list[list[float]]) -> bool:
    """Take it from the first machine that has it; a share of a GPU blocks what no other such share can use."""
    gpus = 1 / math.floor(1 / asked.gpus + NEARLY) if 0 < asked.gpus < 1 else asked.gpus
    for free in left:
        if asked.cpus <= free[0] + NEARLY and gpus <= free[1] + NEARLY:
            free[0] -= asked.cpus
            free[1] -= gpus
            return True
    return False
