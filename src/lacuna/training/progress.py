"""One progress bar for a whole run, and a Trainer that says nothing else."""

from __future__ import annotations

import logging
import time
import warnings
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback
from rich.console import Console
from rich.progress import BarColumn, TaskID, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

# Lightning's own checkpoints, bar, table and trial validation: lacuna has its own, or needs none.
QUIET_TRAINER: dict[str, Any] = {
    "enable_checkpointing": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
    "num_sanity_val_steps": 0,
}

_NOISE = (
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


def quiet_lightning() -> None:
    """Silence Lightning's advertisements and the warnings that do not apply to lacuna; errors stay."""
    for name in ("pytorch_lightning", "lightning_fabric", "lightning"):
        logging.getLogger(name).setLevel(logging.WARNING)
        logging.getLogger(f"{name}.utilities.rank_zero").setLevel(logging.WARNING)
    for pattern in _NOISE:
        warnings.filterwarnings("ignore", message=pattern)


class Progress(Callback):
    """Epochs, share done, time left and the latest metrics of a whole fit.

    On a terminal one bar; elsewhere plain lines: at the start, at most one every ``line_every`` seconds, at the end.
    The loss is read from the device at most every ``read_every`` seconds, so no step waits for it.

    Args:
        title: what is being trained, in a word or two.
        metrics: names to show after the loss; the default shows the first three that the module logs at epoch ends.
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
        self._on = True
        self._facts = ""
        self._loss: float | None = None

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the bar where the run stands."""
        self._on = trainer.is_global_zero
        if not self._on:
            return
        self._total = int(trainer.num_training_batches) * int(trainer.max_epochs or 1)
        self._done = self._begun = trainer.fit_loop.total_batch_idx + 1
        self._start = self._read_at = self._line_at = time.monotonic()
        self._loss, self._facts = None, ""
        if self.console.is_terminal:
            columns = (
                TextColumn("{task.description}"),
                BarColumn(bar_width=24),
                TextColumn("{task.percentage:>3.0f} %"),
                TimeRemainingColumn(compact=True),
                TextColumn("{task.fields[facts]}"),
            )
            # No refresh thread: it would fight the training for the interpreter.
            self._bar = Bar(*columns, console=self.console, auto_refresh=False, speed_estimate_period=120)
            self._task = self._bar.add_task(self.title, total=self._total, completed=self._done, facts="")
            self._bar.start()
        else:
            begun = f", going on at {self._percent()} %" if self._begun else ""
            self._print(f"{trainer.max_epochs} epochs of {trainer.num_training_batches} steps{begun}")

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Count; now and then look at the loss and draw."""
        if not self._on:
            return
        self._done += 1
        now = time.monotonic()
        if now - self._read_at < self.read_every:
            return
        self._read_at = now
        loss = outputs.get("loss") if isinstance(outputs, dict) else outputs
        self._loss = float(loss) if loss is not None else None
        self._show(trainer, now)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Read the epoch's metrics and draw."""
        if self._on:
            self._read_metrics(trainer)
            self._show(trainer, time.monotonic())

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Say how long it took."""
        if not self._on:
            return
        self._stop()
        self._read_metrics(trainer)
        self._print(f"done in {clock(time.monotonic() - self._start)}{self._after()}")

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Leave the terminal clean for the error."""
        self._stop()

    def _read_metrics(self, trainer: pl.Trainer) -> None:
        logged = trainer.callback_metrics
        names = self.metrics if self.metrics is not None else tuple(logged)[:3]
        self._facts = "  ".join(f"{name} {float(logged[name]):.4g}" for name in names if name in logged)

    def _show(self, trainer: pl.Trainer, now: float) -> None:
        epoch = f"epoch {min(trainer.current_epoch + 1, trainer.max_epochs or 1)}/{trainer.max_epochs}"
        if self._bar is not None:
            self._bar.update(
                self._task, completed=self._done, description=f"{self.title}  {epoch}", facts=self._after().strip()
            )
            self._bar.refresh()
        elif now - self._line_at >= self.line_every:
            self._line_at = now
            steps = max(self._done - self._begun, 1)
            left = clock((now - self._start) / steps * (self._total - self._done))
            self._print(f"{epoch}  {self._percent()} %  {left} left{self._after()}")

    def _after(self) -> str:
        loss = f"  loss {self._loss:.4g}" if self._loss is not None else ""
        return loss + (f"  {self._facts}" if self._facts else "")

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


def clock(seconds: float) -> str:
    """A duration as ``0:07``, ``12:34`` or ``1:02:03``."""
    whole = max(int(seconds), 0)
    hours, minutes = divmod(whole // 60, 60)
    return f"{hours}:{minutes:02d}:{whole % 60:02d}" if hours else f"{minutes}:{whole % 60:02d}"
