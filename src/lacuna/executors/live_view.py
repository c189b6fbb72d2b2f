"""The view of a graph of runs while it is trained: a live display on a terminal, log lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from lacuna.drawing.durations import duration
from lacuna.errors import LacunaError
from lacuna.executors.forecast import Forecast, timed_text
from lacuna.executors.run_progress import RunProgress
from lacuna.executors.schedule import BLOCKED, DONE, FAILED, INTERRUPTED, RUNNING, WAITING, Task
from lacuna.runs.history import HISTORY

HEARTBEAT = 60.0
"""Seconds between two lines with counts and time left, without a terminal."""

METRICS_SHOWN = 2
MAIN_METRICS = ("test/accuracy", "test/nll_per_dim", "test/rmse", "test/fid", "ratio")
"""The metric that is printed when a run is done: the first of these that it has, otherwise its first."""

STATES = (DONE, RUNNING, WAITING, FAILED, BLOCKED, INTERRUPTED)
HIDDEN_IF_ZERO = (BLOCKED, INTERRUPTED)
BAR = 24
"""Width of the progress bar in characters."""


class LiveView:
    """Shows a graph of runs. It is a listener of the schedule and a context manager around its loop.

    On a terminal: a progress bar and a line for each running run. Elsewhere: a line when a run starts, ends or fails,
    and once a minute a line with counts and time left. Errors are shown at once.

    Args:
        total: number of runs of the graph.
        cached: number of runs that were finished before.
        estimates: seconds that the others are expected to take, by identity; None: unknown.
        console: output; default: stderr.
        clock: the clock that stamps the tasks, in seconds.
        limit_text: gives the time until the time limit as text; empty without a limit.
    """

    def __init__(
        self,
        total: int,
        cached: int,
        estimates: Mapping[str, float | None],
        console: Console | None = None,
        clock: Callable[[], float] = time.monotonic,
        limit_text: Callable[[], str] = str,
    ) -> None:
        self.total, self.cached = total, cached
        self.console = console or Console(stderr=True)
        self.forecast = Forecast(estimates)
        self._clock, self._limit_text = clock, limit_text
        self._tasks: dict[str, Task] = {}
        self._states: dict[str, str] = {}
        self._counts = dict.fromkeys(STATES, 0)
        self._running: dict[str, tuple[Task, RunProgress]] = {}
        self._slots = 1
        self._started = self._logged = self._clock()
        self._live: Live | None = None

    def __enter__(self) -> LiveView:
        self._started = self._logged = self._clock()
        if self.console.is_terminal and not self.console.is_dumb_terminal:
            # no refresh thread: the loop of the schedule redraws once a second
            self._live = Live(console=self.console, auto_refresh=False, transient=True)
            self._live.start()
        elif self._limit_text():
            self.log(self._limit_text())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        live, self._live = self._live, None
        if live is not None:
            live.stop()
        spent = duration(self._clock() - self._started)
        self.log(f"{'stopped' if error is not None else 'ended'} after {spent}: {self._counted()}")

    # ------------------------------------------------------------------ events

    def __call__(self, task: Task) -> None:
        """Handle a task's new state. Cheap, because a graph may have thousands of tasks."""
        identity = task.job.identity
        before = self._states.get(identity)
        if before == task.state:
            return
        if before is not None:
            self._counts[before] -= 1
        self._tasks[identity], self._states[identity] = task, task.state
        self._counts[task.state] += 1
        if task.state == RUNNING:
            self._task_started(task)
        elif before == RUNNING:
            self._task_ended(task)
        elif task.state == FAILED:
            self.log(_failure(task))

    def tick(self, running: list[Task]) -> None:
        """Update the progress of running tasks and redraw; call it about once a second."""
        now = self._clock()
        for task in running:
            entry = self._running.get(task.job.identity)
            if entry is not None:
                entry[1].update(now)
        if self._live is not None:
            self._live.update(self._display(now), refresh=True)
        elif now - self._logged >= HEARTBEAT:
            self._logged = now
            self.log(self._status(now))

    def _task_started(self, task: Task) -> None:
        progress = RunProgress(_history(task), _epochs(task), task.started or self._clock())
        self._running[task.job.identity] = (task, progress)
        self._slots = max(self._slots, len(self._running))
        if self._live is None:
            self.log(f"{'resumed' if progress.resumed else 'started'}: {task.job.title}{_for(task)}")

    def _task_ended(self, task: Task) -> None:
        _, progress = self._running.pop(task.job.identity)
        progress.update(self._clock())
        if not progress.resumed:
            self.forecast.learn(task)
        if task.state == FAILED:
            self.log(_failure(task))
        elif self._live is None:
            self.log(f"{task.state}: {task.job.title}{_after(task)}{_result(task)}{_epoch_text(task, progress)}")

    # ------------------------------------------------------------------ display

    def _display(self, now: float) -> Group:
        total = max(self.total, self.cached + len(self._tasks))
        bar = Table.grid(padding=(0, 1))
        done = self.cached + self._counts[DONE]
        bar.add_row(ProgressBar(total, done, width=min(BAR, self.console.width // 4)), _one_line(self._status(now)))
        most = max(self.console.height - 3, 1)
        cells = [self._line(task, progress, now) for task, progress in list(self._running.values())[:most]]
        lines = [_one_line(line) for line in _aligned(cells)]
        if len(self._running) > most:
            lines.append(_one_line(f"... and {len(self._running) - most} more"))
        return Group(bar, *lines)

    def _line(self, task: Task, progress: RunProgress, now: float) -> tuple[str, ...]:
        """Cells of a line, the most important first: a narrow terminal cuts off the end."""
        epoch = f"epoch {min(progress.done, progress.epochs)}/{progress.epochs}" if progress.epochs else ""
        metrics = [f"{name} {value:.4g}" for name, value in list(progress.metrics.items())[:METRICS_SHOWN]]
        left = self.forecast.seconds_left(task, progress, now)
        left_text = "" if left is None else f"~{duration(left)} left"
        return task.job.title, epoch, left_text, "  ".join(metrics), _cells(task)

    def _counted(self) -> str:
        counts = self._counts | {DONE: self._counts[DONE] + self.cached}
        total = max(self.total, self.cached + len(self._tasks))
        shown = [f"{counts[state]} {state}" for state in STATES if counts[state] or state not in HIDDEN_IF_ZERO]
        return f"{total} runs: {', '.join(shown)}"

    def _status(self, now: float) -> str:
        """Counts and time left."""
        waiting = (task for task in self._tasks.values() if task.state == WAITING)
        remaining = self.forecast.remaining(waiting, self._running, now)
        seconds = remaining.seconds(self._slots)
        parts = [self._counted()]
        if seconds is not None and self._counts[RUNNING] + self._counts[WAITING]:
            parts.append(f"~{duration(seconds)} left{timed_text(remaining.timed, remaining.unknown)}")
        return "; ".join(part for part in (*parts, self._limit_text()) if part)

    def log(self, text: str) -> None:
        """Print a line, above the display if there is one."""
        self.console.print(text, markup=False, highlight=False, soft_wrap=True)


def _one_line(text: str) -> Text:
    return Text(text, no_wrap=True, overflow="ellipsis")


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows of cells as lines, every column as wide as its widest cell; an empty column takes no space."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True) if w).rstrip() for row in rows]


def _history(task: Task) -> Path:
    return task.job.folder.path / HISTORY


def _epochs(task: Task) -> int | None:
    with suppress(KeyError, TypeError, ValueError):
        return int(task.job.recipe.training["epochs"])
    return None


def _cells(task: Task) -> str:
    if not task.cells:
        return ""
    more = f" and {len(task.cells) - 1} more" if len(task.cells) > 1 else ""
    return f"{task.cells[0]}{more}"


def _for(task: Task) -> str:
    return f" (for {_cells(task)})" if task.cells else ""


def _after(task: Task) -> str:
    if task.started is None or task.ended is None:
        return ""
    return f" after {duration(task.ended - task.started)}"


def _epoch_text(task: Task, progress: RunProgress) -> str:
    """The epoch in which a run was interrupted."""
    if task.state != INTERRUPTED or not progress.epochs or not progress.row:  # its training may not have begun
        return ""
    if progress.done >= progress.epochs:
        return f", after its {progress.epochs} epochs, before its evaluation"
    return f", in epoch {progress.done + 1} of {progress.epochs}"


def _failure(task: Task) -> str:
    error = "\n".join(f"  {line}" for line in (task.error or "unknown reason").strip().splitlines())
    return f"failed: {task.job.title}{_for(task)}{_after(task)}\n{error}"


def _result(task: Task) -> str:
    """The main metric of a run that is done."""
    if task.state != DONE:
        return ""
    with suppress(LacunaError, KeyError, TypeError, ValueError, OSError):
        metrics = task.job.folder.metrics["metrics"]
        names = [*(name for name in MAIN_METRICS if name in metrics), *metrics]
        return f", {names[0]} {float(metrics[names[0]]):.4g}" if names else ""
    return ""
