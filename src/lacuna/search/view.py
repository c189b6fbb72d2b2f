"""The view of a sweep: a progress bar on a terminal, elsewhere a line for each trial."""

from __future__ import annotations

import time
from collections.abc import Callable
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn

from lacuna.drawing.durations import duration
from lacuna.drawing.text_table import cell_text
from lacuna.runs.recipe import Recipe
from lacuna.runs.title import run_title
from lacuna.search.problem import Problem
from lacuna.search.study import Trial


class SweepView:
    """Shows the progress of a sweep, its best value and the time left. It is a context manager around the loop.

    Args:
        problem: the search.
        done: number of finished and pruned trials at the start.
        wanted: number of finished and pruned trials in the end.
        best: best value at the start; None: none.
        console: output; default: stderr.
        clock: a monotonic clock, in seconds.
    """

    def __init__(
        self,
        problem: Problem,
        done: int,
        wanted: int,
        best: float | None = None,
        console: Console | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.problem, self.done, self.wanted, self.best = problem, done, wanted, best
        self.console = console or Console(stderr=True)
        self._clock = clock
        self._started, self._trained, self._failed, self._pruned = clock(), 0, 0, 0
        self._bar: Progress | None = None
        self._task = TaskID(0)

    def __enter__(self) -> SweepView:
        self._started = self._clock()
        if self.console.is_terminal and not self.console.is_dumb_terminal:
            columns = (
                TextColumn("trials"),
                BarColumn(bar_width=24),
                MofNCompleteColumn(),
                TextColumn("{task.fields[facts]}"),
            )
            # no refresh thread: the loop redraws once a second
            self._bar = Progress(*columns, console=self.console, auto_refresh=False, transient=True)
            self._task = self._bar.add_task("trials", total=self.wanted, completed=self.done, facts="")
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        bar, self._bar = self._bar, None
        if bar is not None:
            bar.stop()

    def prerequisite(self, needed: Recipe) -> None:
        """Show that a prerequisite of the trials is trained first."""
        self._log(f"trained first, as a prerequisite of the trials: {run_title(needed)}")

    def finished(self, trial: Trial, value: float, *, best: bool, trained: bool = True) -> None:
        """Show the value of a trial. ``trained``: whether it was trained now, and not finished before."""
        self.done += 1
        self._trained += trained
        if best:
            self.best = value
        new = " (best so far)" if best else ""
        values = "  ".join(f"{key}={cell_text(v)}" for key, v in trial_values(self.problem, trial).items())
        self._log(f"[{self.done}/{self.wanted}] trial {trial.number}: {value:.5g}{new}  {values}{self._left(', ')}")

    def pruned(self, trial: Trial) -> None:
        """Show that a trial was stopped, and its last value."""
        self.done += 1
        self._trained += 1
        self._pruned += 1
        values = "  ".join(f"{key}={cell_text(v)}" for key, v in trial_values(self.problem, trial).items())
        last = "" if trial.value is None else f": {trial.value:.5g}"
        after = f"pruned after {trial.epochs} epoch{'s' * (trial.epochs != 1)}{last}"
        self._log(f"[{self.done}/{self.wanted}] trial {trial.number} {after}  {values}{self._left(', ')}")

    def failed(self, trial: Trial, reason: str) -> None:
        """Show the failure of a trial."""
        self._failed += 1
        values = "  ".join(f"{key}={cell_text(v)}" for key, v in trial_values(self.problem, trial).items())
        text = "\n".join(f"  {line}" for line in reason.splitlines())
        self._log(f"trial {trial.number} failed: {values}\n{text}")

    def tick(self, running: int) -> None:
        """Redraw; call it about once a second."""
        if self._bar is None:
            return
        facts = [f"{running} running"]
        facts += [f"{number} {what}" for number, what in ((self._pruned, "pruned"), (self._failed, "failed")) if number]
        if self.best is not None:
            facts.append(f"best {self.problem.metric} {self.best:.5g}")
        self._bar.update(self._task, completed=self.done, facts="  ".join(facts) + self._left("  "))
        self._bar.refresh()

    def _left(self, before: str) -> str:
        if not self._trained or self.done >= self.wanted:
            return ""
        each = (self._clock() - self._started) / self._trained
        return f"{before}~{duration(each * (self.wanted - self.done))} left"

    def _log(self, text: str) -> None:
        self.console.print(text, markup=False, highlight=False, soft_wrap=True)


def trial_values(problem: Problem, trial: Trial) -> dict[str, str]:
    """A trial's values for people, with short keys."""
    values = problem.values(trial.raw)
    names = short_names([parameter.key for parameter in problem.parameters])
    return {names[p.key]: f"{v:g}" if isinstance(v := values[p.key], float) else str(v) for p in problem.parameters}


def short_names(keys: list[str]) -> dict[str, str]:
    """The last parts of each dotted key, as many as needed to distinguish the keys."""
    found = {}
    for key in keys:
        parts = key.split(".")
        for count in range(1, len(parts) + 1):
            name = ".".join(parts[-count:])
            if count == len(parts) or not any(other != key and other.endswith(f".{name}") for other in keys):
                found[key] = name
                break
    return found
