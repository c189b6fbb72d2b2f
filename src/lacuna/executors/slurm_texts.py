"""What ``executor=slurm`` says."""

from __future__ import annotations

from collections.abc import Sequence

from lacuna.executors.slurm_records import Record

SHOWN = 12
"""Ids in a line."""

LOG_LINES = 5


def queued_text(new: Sequence[Record], earlier: Sequence[Record], *, detached: bool) -> str:
    """One line on the jobs that were submitted and those that were there before; empty if there are none."""
    parts = []
    if new:
        runs = sum(len(record.runs) for record in new)
        parts.append(f"{_count(len(new), 'job')} with {_count(runs, 'run')} submitted ({_ids(new)})")
    if earlier:
        parts.append(f"{_count(len(earlier), 'job')} of earlier commands still queued ({_ids(earlier)})")
    if not parts:
        return ""
    end = "; they go on without this command" if detached else ""
    return f"executor=slurm: {', '.join(parts)}{end}"


def ended_text(record: Record, reason: str, losses: int) -> str:
    """Why a run failed whose job has ended without it: the end of the log, then one sentence."""
    how = reason or "for no known reason"
    advice = {
        "OUT_OF_MEMORY": "raise executor.mem_gb, or lower executor.runs_per_gpu; ",
        "TIMEOUT": "raise executor.time or executor.warning; ",
    }.get(how, "")
    times = f", as {losses - 1} before it" if losses > 1 else ""
    sentence = f"its job {record.id} ended too early ({how.lower()}{times}): {advice}the log is in {record.folder}."
    return "\n".join([*_log_end(record), sentence])


def _log_end(record: Record) -> list[str]:
    """The last lines of what a job wrote to stderr."""
    for path in sorted(record.folder.glob("*_log.err")):
        return path.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-LOG_LINES:]
    return []


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'s' * (number != 1)}"


def _ids(records: Sequence[Record]) -> str:
    ids = [record.id for record in records]
    return ", ".join(ids[:SHOWN]) + (f" and {len(ids) - SHOWN} more" if len(ids) > SHOWN else "")
