"""What all runs of the tables share: budget, seeds, the user's changes, folders."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class RunOptions:
    """Settings of all runs of the tables.

    Args:
        budget: the composed ``budget`` group.
        seeds: seeds of every cell.
        choices: group choices for every cell.
        values: by dotted key, for every cell that has the key and does not set it itself.
        infrastructure: ``output``, ``trainer``, ``logger``, ``plugins`` and ``data`` (root, download) of every
            run.
        prepare: whether to prepare a missing data set now; called for each. Otherwise its cells have no runs.
        assume_data: plan runs of published data sets that are not on this machine, too, as runs of unknown identity.
        archive: the folder of archived runs; None: there is none.
    """

    budget: Mapping[str, Any]
    seeds: tuple[int, ...]
    choices: tuple[str, ...] = ()
    values: Mapping[str, Any] = field(default_factory=dict)
    infrastructure: Mapping[str, Any] = field(default_factory=dict)
    prepare: Callable[[], bool] = bool
    assume_data: bool = False
    archive: Path | None = None
