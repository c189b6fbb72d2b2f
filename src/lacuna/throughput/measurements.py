"""What was measured on a kind of card, kept in a file; and from it, how many runs share one. Imports no torch."""

from __future__ import annotations

import hashlib
import importlib.metadata
import math
import re
import statistics
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lacuna import files
from lacuna.errors import LacunaError
from lacuna.throughput.rows import GAIN, with_whole_numbers

FILL = 0.9
"""Share of a card's free memory that runs may take together."""
PACKAGES = ("lacuna", "torch")
"""Other versions of these may take other times."""


@dataclass
class Measurements:
    """Kinds of steps that were measured on one kind of card.

    Args:
        hardware: name of the card, as of :func:`lacuna.runs.environment.hardware`.
        memory: bytes of a card that runs can have.
        rows: measurements by the kind's key: those of :class:`lacuna.throughput.bench.Bench`, and ``memory``, the
            bytes that a run of the kind takes of its card.
    """

    hardware: str
    memory: int = 0
    rows: dict[str, dict[str, Any]] = field(default_factory=dict)

    def number(self, key: str) -> int | None:
        """How many runs of a kind share a card; None if that was not tried, 1 if the steps could not be timed."""
        row = self.rows.get(key)
        if row is None:
            return None
        return 1 if "error" in row else chosen_number(row, self.memory)

    @property
    def default(self) -> int | None:
        """How many runs of kinds that were not measured share a card; None if nothing was measured.

        It is the median of what was chosen, and no more than fit if each run takes as much memory as the largest
        measured one.
        """
        known = [row for row in self.rows.values() if "error" not in row]
        if not known:
            return None
        median = statistics.median_low(chosen_number(row, self.memory) for row in known)
        return min(median, *(most_that_fit(row, self.memory) for row in known))

    @classmethod
    def load(cls, output: Path, hardware: str) -> Measurements:
        """What is kept under ``output`` for this hardware and these versions of lacuna and torch; perhaps nothing."""
        try:
            kept = files.read_json(_file(output, hardware))
        except LacunaError:
            return cls(hardware)
        if not isinstance(kept, Mapping) or kept.get("versions") != _versions():
            return cls(hardware)
        return cls(hardware, int(kept["memory"]), with_whole_numbers(kept["rows"]))

    def save(self, output: Path) -> None:
        """Keep it under ``output``, together with what another command has kept there in the meantime."""
        rows = {**Measurements.load(output, self.hardware).rows, **self.rows}
        rows = {key: row for key, row in rows.items() if "error" not in row}  # the next command tries these again
        content = {"hardware": self.hardware, "versions": _versions(), "memory": self.memory, "rows": rows}
        files.write_json(_file(output, self.hardware), content)


def chosen_number(row: Mapping[str, Any], memory: int) -> int:
    """Of the measured numbers of runs at a time whose memory suffices, the one with the most steps per second.

    A smaller number is chosen where it gives nearly as many (:data:`lacuna.throughput.rows.GAIN`).
    """
    fitting = most_that_fit(row, memory)
    milliseconds = {1: row["ms"], **(row.get("side_by_side") or {})}
    speeds: dict[int, float] = {number: number / ms for number, ms in milliseconds.items() if number <= fitting}
    return min(number for number, speed in speeds.items() if speed * GAIN >= max(speeds.values()))


def most_that_fit(row: Mapping[str, Any], memory: int) -> int:
    """How many runs of a kind have enough memory on one card; 1 also where not even one has."""
    return max(1, math.floor(FILL * memory / max(1, int(row["memory"]))))


def _file(output: Path, hardware: str) -> Path:
    name = re.sub(r"[^a-z0-9]+", "-", hardware.lower()).strip("-")[:40]
    digest = hashlib.sha256(hardware.encode()).hexdigest()[:6]
    return output / ".cache" / "throughput" / f"{name}-{digest}.json"


def _versions() -> dict[str, str | None]:
    found: dict[str, str | None] = {}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = None
    return found
