"""How many runs the machines of a cluster can hold. Plain numbers, without Ray."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from lacuna.errors import LacunaError
from lacuna.executors.base import Resources

TOLERANCE = 1e-6
"""Shares of GPUs are floating-point numbers."""


@dataclass(frozen=True)
class Node:
    """A machine of the cluster: its CPU cores and its GPUs, used or not."""

    cpus: float
    gpus: float


def size(request: Resources) -> tuple[float, int]:
    """Sort key of requests: by GPUs, then by cores, because GPUs are scarcer."""
    return request.gpus, request.cpus


def check_fits(request: Resources, nodes: Sequence[Node]) -> None:
    """Check that at least one machine could hold a request if nothing else ran there.

    Raises:
        LacunaError: none could; names the request, the capacity and the keys to change.
    """
    if any(request.cpus <= node.cpus and request.gpus <= node.gpus for node in nodes):
        return
    most_cpus = max((node.cpus for node in nodes), default=0)
    most_gpus = max((node.gpus for node in nodes), default=0)
    if request.cpus > most_cpus:
        keys, reason = "executor.cpus or trainer.devices", f"no machine on Ray has more than {most_cpus:g} CPU cores"
    elif request.gpus > most_gpus:
        most = f"more than {most_gpus:g}" if most_gpus else "any"
        keys, reason = "executor.gpus or trainer.devices", f"no machine on Ray has {most} GPUs"
    else:
        keys, reason = "executor.cpus, executor.gpus or trainer.devices", "no machine on Ray has both"
    wanted = f"{request.cpus} CPU cores" + (f" and {request.gpus:g} GPUs" if request.gpus else "")
    raise LacunaError(f"A run asks for {wanted}, but {reason}: lower {keys}.")


def free_slots(nodes: Iterable[Node], placed: Sequence[Resources], request: Resources) -> int:
    """How many more runs fit beside those that are placed or queued already.

    Args:
        nodes: the machines.
        placed: requests of the runs that are placed or queued.
        request: of one more run.

    Returns:
        Negative: the number of placed runs that do not fit themselves.
    """
    free = [[node.cpus, node.gpus] for node in nodes]
    not_placed = sum(not _place(one, free) for one in placed)
    count = 0
    while not not_placed and _place(request, free):
        count += 1
    return count - not_placed


def _place(request: Resources, free: list[list[float]]) -> bool:
    """Take a request from the first machine that has room for it; whether there is one.

    A share of a GPU takes 1/n of it, where n is how many such shares fit on one.
    """
    gpus = 1 / math.floor(1 / request.gpus + TOLERANCE) if 0 < request.gpus < 1 else request.gpus
    for machine in free:
        if request.cpus <= machine[0] + TOLERANCE and gpus <= machine[1] + TOLERANCE:
            machine[0] -= request.cpus
            machine[1] -= gpus
            return True
    return False
