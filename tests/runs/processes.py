"""Which processes there are."""

from __future__ import annotations

import time
from pathlib import Path


def children(parent: int) -> list[int]:
    """The processes that ``parent`` has started and not buried yet."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        fields = _fields(stat)
        if fields and int(fields[1]) == parent:
            found.append(int(stat.parent.name))
    return found


def all_gone(processes: list[int], within: float = 10.0) -> bool:
    """Whether all of them end in so many seconds."""
    until = time.monotonic() + within
    while any(_alive(process) for process in processes):
        if time.monotonic() > until:
            return False
        time.sleep(0.02)
    return True


def _alive(process: int) -> bool:
    fields = _fields(Path(f"/proc/{process}/stat"))
    return bool(fields) and fields[0] != "Z"


def _fields(stat: Path) -> list[str]:
    """State, parent, ...; empty if there is no such process."""
    try:
        return stat.read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return []
