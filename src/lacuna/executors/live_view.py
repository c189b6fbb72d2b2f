"""What a person sees while the runs of a graph are trained: on a terminal a display, elsewhere a few lines."""

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
from lacuna.executors.forecast import Forecast
from lacuna.executors.run_progress import Watch
from lacuna.executors.schedule import BLOCKED, DONE, FAILED, INTERRUPTED, RUNNING, WAITING, Task
from lacuna.runs.history import HISTORY

HEARTBEAT = 60.0
"""Seconds between two lines that say how far everything is, where there is no terminal."""

METRICS_SHOWN = 2
MAIN_METRICS = ("test/accuracy", "test/nll_per_dim", "test/rmse", "test/fid", "ratio")
"""The metric a run is summed up by: the first of these that it has, or else its first."""

STATES = (DONE, RUNNING, WAITING, FAILED, BLOCKED, INTERRUPTED)
NOT_COUNTED_IF_NONE = (BLOCKED, INTERRUPTED)
BAR = 24
"""Characters of the bar."""


class LiveView:
    """Shows a graph of runs: a listener of the schedule, and a context manager around its loop.

    On a terminal: one bar for the graph and one line a running run. Elsewhere: a line when a run starts, ends or
    fails, and one a minute that says how far everything is. An error is shown at once, in both.

    Args:
        total: runs of the graph.
        cached: those that were finished before.
        estimates: seconds that the others are expected to take, by identity; None where nothing is known.
        console: where to; by default the terminal behind stderr.
        clock: the one that stamps the tasks, in seconds.
        box: says how much of the time box is left; empty where there is none.
    """

    def __init__(
        self,
        total: int,
        cached: int,
        estimates: Mapping[str, float | None],
        console: Console | None = None,
        clock: Callable[[], float] = time.monotonic,
        box: Callable[[], str] = str,
    ) -> None:
        self.total, self.cached = total, cached
        self.console = console or Console(stderr=True)
        self.forecast = Forecast(estimates)
        self._clock, self._box = clock, box
        self._tasks: dict[str, Task] = {}
        self._states: dict[str, str] = {}
        self._counts = dict.fromkeys(STATES, 0)
        self._running: dict[str, tuple[Task, Watch]] = {}
        self._slots = 1
        self._begun = self._spoke = self._clock()
        self._live: Live | None = None

    def __enter__(self) -> LiveView:
        self._begun = self._spoke = self._clock()
        if self.console.is_terminal and not self.console.is_dumb_terminal:
            # No refresh thread: the loop that trains draws, once a second
            self._live = Live(console=self.console, auto_refresh=False, transient=True)
            self._live.start()
        elif self._box():
            self.say(self._box())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        live, self._live = self._live, None
        if live is not None:
            live.stop()
        spent = duration(self._clock() - self._begun)
        self.say(f"{'stopped' if error is not None else 'ended'} after {spent}: {self._counted()}")

    # ------------------------------------------------------------------ what happens

    def __call__(self, task: Task) -> None:
        """Take note of a task's new state; cheap, for a graph may have thousands."""
        identity = task.job.identity
        before = self._states.get(identity)
        if before == task.state:
            return
        if before is not None:
            self._counts[before] -= 1
        self._tasks[identity], self._states[identity] = task, task.state
        self._counts[task.state] += 1
        if task.state == RUNNING:
            self._starts(task)
        elif before == RUNNING:
            self._ends(task)
        elif task.state == FAILED:
            self.say(_failure(task))

    def tick(self, running: list[Task]) -> None:
        """Look at what runs and show it; call it about once a second."""
        now = self._clock()
        for task in running:
            known = self._running.get(task.job.identity)
            if known is not None:
                known[1].look(now)
        if self._live is not None:
            self._live.update(self._display(now), refresh=True)
        elif now - self._spoke >= HEARTBEAT:
            self._spoke = now
            self.say(self._standing(now))

    def _starts(self, task: Task) -> None:
        watch = Watch(_history(task), _epochs(task), task.started or self._clock())
        self._running[task.job.identity] = (task, watch)
        self._slots = max(self._slots, len(self._running))
        if self._live is None:
            self.say(f"{'going on' if watch.resumed else 'started'}: {task.job.title}{_for(task)}")

    def _ends(self, task: Task) -> None:
        _, watch = self._running.pop(task.job.identity)
        watch.look(self._clock())
        if not watch.resumed:
            self.forecast.ended(task)
        if task.state == FAILED:
            self.say(_failure(task))
        elif self._live is None:
            self.say(f"{task.state}: {task.job.title}{_after(task)}{_result(task)}{_where(task, watch)}")

    # ------------------------------------------------------------------ how it looks

    def _display(self, now: float) -> Group:
        total = max(self.total, self.cached + len(self._tasks))
        bar = Table.grid(padding=(0, 1))
        done = self.cached + self._counts[DONE]
        bar.add_row(ProgressBar(total, done, width=min(BAR, self.console.width // 4)), _one_line(self._standing(now)))
        most = max(self.console.height - 3, 1)
        cells = [self._line(task, watch, now) for task, watch in list(self._running.values())[:most]]
        lines = [_one_line(line) for line in _aligned(cells)]
        if len(self._running) > most:
            lines.append(_one_line(f"... and {len(self._running) - most} more"))
        return Group(bar, *lines)

    def _line(self, task: Task, watch: Watch, now: float) -> tuple[str, ...]:
        """What matters most first: the end is cut off where the terminal is narrow."""
        epoch = f"epoch {min(watch.done, watch.epochs)}/{watch.epochs}" if watch.epochs else ""
        metrics = [f"{name} {value:.4g}" for name, value in list(watch.metrics.items())[:METRICS_SHOWN]]
        left = self.forecast.of_running(task, watch, now)
        left_text = "" if left is None else f"{duration(left)} left"
        return task.job.title, epoch, left_text, "  ".join(metrics), _cells(task)

    def _counted(self) -> str:
        counts = self._counts | {DONE: self._counts[DONE] + self.cached}
        total = max(self.total, self.cached + len(self._tasks))
        shown = [f"{counts[state]} {state}" for state in STATES if counts[state] or state not in NOT_COUNTED_IF_NONE]
        return f"{total} runs: {', '.join(shown)}"

    def _standing(self, now: float) -> str:
        """Counts and time left."""
        waiting = (task for task in self._tasks.values() if task.state == WAITING)
        left = self.forecast.left(waiting, self._running, now)
        seconds = left.seconds(self._slots)
        parts = [self._counted()]
        if seconds is not None and self._counts[RUNNING] + self._counts[WAITING]:
            more = f" (without {left.unknown} like none before)" if left.unknown else ""
            parts.append(f"about {duration(seconds)} left{more}")
        return "; ".join(part for part in (*parts, self._box()) if part)

    def say(self, text: str) -> None:
        """One line, above the display where there is one."""
        self.console.print(text, markup=False, highlight=False, soft_wrap=True)


def _one_line(text: str) -> Text:
    return Text(text, no_wrap=True, overflow="ellipsis")


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows of cells as lines, every column as wide as its widest cell; an empty column takes no place."""
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


def _where(task: Task, watch: Watch) -> str:
    """How far an interrupted run is."""
    if task.state != INTERRUPTED or not watch.epochs or not watch.row:  # it may not have begun its training
        return ""
    if watch.done >= watch.epochs:
        return f", after its {watch.epochs} epochs: it is to be judged"
    return f", in epoch {watch.done + 1} of {watch.epochs}"


def _failure(task: Task) -> str:
    error = "\n".join(f"  {line}" for line in (task.error or "no reason was given").strip().splitlines())
    return f"failed: {task.job.title}{_for(task)}{_after(task)}\n{error}"


def _result(task: Task) -> str:
    """The main metric of a finished run."""
    if task.state != DONE:
        return ""
    with suppress(LacunaError, KeyError, TypeError, ValueError, OSError):
        metrics = task.job.folder.metrics["metrics"]
        names = [*(name for name in MAIN_METRICS if name in metrics), *metrics]
        return f", {names[0]} {float(metrics[names[0]]):.4g}" if names else ""
    return ""
