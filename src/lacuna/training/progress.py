"""The progress of a run: one bar on a terminal, or a few lines; Lightning itself prints nothing."""

from __future__ import annotations

import logging
import time
import warnings
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback
from rich.console import Console
from rich.progress import BarColumn, TaskID, TextColumn
from rich.progress import Progress as Bar

from lacuna.drawing.durations import duration

QUIET_TRAINER: dict[str, Any] = {
    "enable_checkpointing": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
    "num_sanity_val_steps": 0,
}
"""Arguments of a Trainer without Lightning's checkpoints, bar, table and trial validation."""

IRRELEVANT_WARNINGS = (
    ".*does not have many workers.*",
    ".*smaller than the logging interval.*",
    r".*module\(s\) in eval mode.*",
    ".*Checkpoint directory .* exists.*",
    ".*Trying to infer the `batch_size`.*",
    ".*GPU available but not used.*",
    ".*when logging on epoch level in distributed setting.*",
    ".*There is a wandb run already in progress.*",
    ".*`val_dataloader` but have no `validation_step`.*",
    ".*isinstance.treespec, LeafSpec.*",
)


SEPARATOR = " · "


def quiet_lightning() -> None:
    """Silence Lightning's tips and the warnings that do not apply to lacuna; errors stay."""
    for name in ("pytorch_lightning", "lightning_fabric", "lightning"):
        logging.getLogger(name).setLevel(logging.WARNING)
        logging.getLogger(f"{name}.utilities.rank_zero").setLevel(logging.WARNING)
    for pattern in IRRELEVANT_WARNINGS:
        warnings.filterwarnings("ignore", message=pattern)


class Progress(Callback):
    """Share done, epoch, loss, time left and the latest metrics of a run.

    On a terminal one bar, ``digits-square-zero  ━━━━━━  34 %  epoch 3/10 · loss 0.123 · ~4 min left``; elsewhere plain
    lines: at the start, at most one every ``line_every`` seconds, at the end. The loss is read from the device at most
    every ``read_every`` seconds, so no step waits for it.

    Args:
        title: what is being trained, in a word or two.
        metrics: names to show at the end of the line; by default the first three that the module logs at epoch ends.
        console: where to print; by default standard error.
        read_every: seconds between two readings of the loss.
        line_every: seconds between two lines, where there is no terminal.
    """

    def __init__(
        self,
        title: str,
        metrics: tuple[str, ...] | None = None,
        console: Console | None = None,
        read_every: float = 2.0,
        line_every: float = 15.0,
    ) -> None:
        super().__init__()
        self.title = title
        self.metrics = metrics
        self.console = console or Console(stderr=True)
        self.read_every = read_every
        self.line_every = line_every
        self._bar: Bar | None = None
        self._task = TaskID(0)
        self._enabled = True
        self._logged: list[str] = []
        self._loss: float | None = None

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Show where the run starts: at 0 %, or where it was interrupted."""
        self._enabled = trainer.is_global_zero
        if not self._enabled:
            return
        self._total = int(trainer.num_training_batches) * int(trainer.max_epochs or 1)
        self._done = self._done_before = _batches_done(trainer, pl_module)
        self._started = self._last_read = self._last_line = time.monotonic()
        self._loss, self._logged = None, []
        if self.console.is_terminal:
            columns = (
                TextColumn("{task.description}"),
                BarColumn(bar_width=24),
                TextColumn("{task.percentage:>3.0f} %"),
                TextColumn("{task.fields[state]}"),
            )
            # no refresh thread: it would take time from the training
            self._bar = Bar(*columns, console=self.console, auto_refresh=False)
            self._task = self._bar.add_task(self.title, total=self._total, completed=self._done, state="")
            self._bar.start()
        else:
            resumed = f", resumed at {self._percent()} %" if self._done_before else ""
            self._print(f"{trainer.max_epochs} epochs of {trainer.num_training_batches} steps{resumed}")

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Count the steps; every ``read_every`` seconds read the loss and show it."""
        if not self._enabled:
            return
        self._done = _batches_done(trainer, pl_module)
        now = time.monotonic()
        if now - self._last_read < self.read_every:
            return
        self._last_read = now
        loss = outputs.get("loss") if isinstance(outputs, dict) else outputs
        self._loss = float(loss) if loss is not None else None
        self._show(trainer, now)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Show the metrics of the epoch."""
        if self._enabled:
            self._read_metrics(trainer)
            self._show(trainer, time.monotonic())

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Print how long the training took, with the last loss and metrics."""
        if not self._enabled:
            return
        self._stop()
        self._read_metrics(trainer)
        trained = f"trained in {clock(time.monotonic() - self._started)}"
        self._print(SEPARATOR.join([trained, *self._loss_text(), *self._logged]))

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Remove the bar before the error is printed."""
        self._stop()

    def _read_metrics(self, trainer: pl.Trainer) -> None:
        logged = getattr(trainer.lightning_module, "latest_metrics", None) or trainer.callback_metrics
        names = self.metrics if self.metrics is not None else tuple(logged)[:3]
        self._logged = [f"{name} {float(logged[name]):.4g}" for name in names if name in logged]

    def _show(self, trainer: pl.Trainer, now: float) -> None:
        epoch = f"epoch {min(trainer.current_epoch + 1, trainer.max_epochs or 1)}/{trainer.max_epochs}"
        seconds_per_step = (now - self._started) / max(self._done - self._done_before, 1)
        left = f"~{duration(seconds_per_step * (self._total - self._done))} left"
        state = SEPARATOR.join([epoch, *self._loss_text(), left, *self._logged])
        if self._bar is not None:
            self._bar.update(self._task, completed=self._done, state=state)
            self._bar.refresh()
        elif now - self._last_line >= self.line_every:
            self._last_line = now
            self._print(f"{self._percent()} %{SEPARATOR}{state}")

    def _loss_text(self) -> list[str]:
        return [] if self._loss is None else [f"loss {self._loss:.4g}"]

    def _percent(self) -> int:
        return 100 * self._done // max(self._total, 1)

    def _print(self, text: str) -> None:
        self.console.print(f"{self.title}  {text}", markup=False, highlight=False, soft_wrap=True)

    def _stop(self) -> None:
        bar, self._bar = self._bar, None
        if bar is not None:
            bar.update(self._task, completed=self._done)
            bar.refresh()
            bar.stop()


def _batches_done(trainer: pl.Trainer, module: pl.LightningModule) -> int:
    """Number of training batches so far; what Lightning counts may be chunks of them."""
    return int(getattr(module, "batches_done", trainer.fit_loop.total_batch_idx + 1))


def clock(seconds: float) -> str:
    """A duration as ``0:07``, ``12:34`` or ``1:02:03``."""
    whole = max(int(seconds), 0)
    hours, minutes = divmod(whole // 60, 60)
    return f"{hours}:{minutes:02d}:{whole % 60:02d}" if hours else f"{minutes}:{whole % 60:02d}"
