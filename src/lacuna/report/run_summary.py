"""What ``reproduce.py`` prints about the runs that are not done, and how to go on."""

from __future__ import annotations

from collections.abc import Iterator

from lacuna.executors.run_plan import RunSummary
from lacuna.executors.time_limit import TimeLimit
from lacuna.tables.plan import Plan


def failure_lines(summary: RunSummary) -> Iterator[str]:
    """A line with the reason for every run that failed or needs one that did; none if there are none."""
    if summary.failed:
        yield f"{len(summary.failed)} run{'s' * (len(summary.failed) > 1)} failed:"
    for task in summary.failed:
        reason = (task.error or "").strip().splitlines() or [task.state]
        cell = task.cells[0] if task.cells else ""
        more = f" and {len(task.cells) - 1} more cells" if len(task.cells) > 1 else ""
        yield f"  {task.job.title} ({cell}{more}): {reason[-1]}"


def unfinished_text(summary: RunSummary, plan: Plan, limit: TimeLimit) -> str:
    """One line: how many runs are left, and that the same command goes on."""
    text = f"{summary.unfinished} of {len(plan.runs)} runs are left"
    text += f" ({summary.started} of them started)" if summary.started else ""
    text += f", and the data {', '.join(plan.missing_data)} must be prepared" if plan.missing_data else ""
    text = f"time limit of {limit} reached: {text}" if limit.reached else text
    text += ". Run the same command again to go on."
    if limit.reached and not summary.progressed:
        text += " No run made progress in this time: set a higher limit with minutes=... ."
    return text
