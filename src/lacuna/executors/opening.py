"""From an ``executor`` config to the executor."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lacuna import registry
from lacuna.executors.base import Executor
from lacuna.runs.machine import gpu_count

AUTO = "auto"
ON_THIS_MACHINE = ("inline.Inline", "processes.Processes")
"""Executors in whose place runs share this machine's GPUs by measured shares."""


def open_executor(config: Mapping[str, Any]) -> Executor:
    """The executor of a command.

    With ``executor.gpus=auto``, ``inline`` and ``processes`` are the same on a machine with GPUs: as many runs at a
    time as have room on them. The class is named in a text: its imports reach torch, those of a plan must not.

    Args:
        config: of the command: its groups ``executor`` and ``trainer``.

    Raises:
        LacunaError: a value out of its range.
    """
    executor = config["executor"]
    if shares_gpus(config) and executor["type"] in ON_THIS_MACHINE:
        kept = {key: executor[key] for key in ("cpus", "retries")}
        executor = {"name": executor["name"], "type": "shared_cards.SharedCards", **kept}
    return registry.build("executor", executor)  # type: ignore[no-any-return]


def shares_gpus(config: Mapping[str, Any]) -> bool:
    """Whether the runs of a command share the GPUs of this machine as measured."""
    executor = config["executor"]
    on_gpus = config["trainer"]["accelerator"] != "cpu" and gpu_count() > 0
    return executor.get("gpus") == AUTO and executor.get("runs") is None and on_gpus
